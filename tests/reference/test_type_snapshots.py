"""Twelve real models: every ftype gives each tensor the type that llama.cpp's own snapshots of types have for it."""

import json

import pytest

from projects import GOLDEN
from quantmill.reference.spans import of_tag
from snapshots.real_models import REAL_MODELS
from snapshots.record import SOURCE, digest

RECORDED: dict[str, dict[str, str]] = json.loads((GOLDEN / "snapshots" / "types.json").read_text())


@pytest.mark.parametrize("model", REAL_MODELS)
def test_types_are_those_of_the_snapshot(model: str) -> None:
    reference = of_tag(SOURCE)
    ours = {ftype: digest(REAL_MODELS[model].types(reference, ftype)) for ftype in RECORDED[model]}
    assert ours == RECORDED[model]


def test_every_snapshot_is_compared() -> None:
    assert {model: len(ftypes) for model, ftypes in RECORDED.items()} == dict.fromkeys(REAL_MODELS, 33)
