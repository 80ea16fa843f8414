"""Checkpoints as bases: by rows, here and elsewhere, they are what llama.cpp's converter makes of them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert_golden import models
from quantmill import gguf
from quantmill.architectures.json_file import model_files
from quantmill.artifact import Context
from quantmill.audit.checkpoint_base import CheckpointBase, _Elsewhere
from quantmill.audit.metadata_audit import audit_metadata
from quantmill.checkpoint.conversion import convert
from quantmill.checkpoint.safetensors import Weight, read_header


def elsewhere(files: Mapping[str, Path]) -> tuple[dict[str, Weight], list[int]]:
    """The weights as if they were elsewhere, and the bytes of each request."""
    found, asked = {}, [0]
    for name, path in files.items():
        if name.endswith(".safetensors"):

            def fetch(start: int, count: int, path: Path = path) -> bytes:
                asked.append(count)
                with path.open("rb") as file:
                    file.seek(start)
                    return file.read(count)

            for weight in read_header(path, name).values():
                far: Any = _Elsewhere(fetch, weight)
                found[weight.name] = replace(weight, data=far)
    return found, asked


@pytest.mark.parametrize("name", models.MODELS)
def test_rows_are_those_of_the_converted_file(tmp_path: Path, name: str) -> None:
    """Of stacks of experts, permuted heads, norms with a number added, vectors and what is computed."""
    models.MODELS[name](tmp_path / name)
    files = model_files(tmp_path / name)
    far, asked = elsewhere(files)
    rng = np.random.default_rng(2)
    with CheckpointBase(name, files) as near, CheckpointBase(name, files, far) as distant:
        left = {entry.name for entry in near.tensors()}
        for type_ in ("F32", "F16", "BF16"):
            convert(files, tmp_path / "x.gguf", type_, name, None, Context())
            with gguf.read(tmp_path / "x.gguf") as file:
                assert set(file.tensors) == {entry.name for entry in near.tensors()}
                assert any(not audit_metadata(known, file.metadata)[0] for known in near.conversions())
                for info in file.tensors.values():
                    assert near.info(info.name).shape == info.shape
                    if near.info(info.name).type != info.type:
                        continue
                    left.discard(info.name)
                    size, data = info.type.row_bytes(info.columns), file.data(info)
                    begins = rng.integers(0, info.rows, 3)
                    spans = [(int(a), int(rng.integers(a, info.rows)) + 1) for a in begins] + [(0, info.rows)]
                    for source in (near, distant):
                        runs = [(a * size, np.empty((b - a) * size, np.uint8)) for a, b in spans]
                        source.read_runs(info.name, runs)
                        for start, into in runs:
                            assert np.array_equal(into, data[start : start + len(into)]), info.name
        assert not left
    assert len(asked) > 1
