"""Every kernel writes the bytes that are written down in golden/, at every level this machine runs."""

import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from quantmill import _kernels
from quantmill.gguf.types import TYPES
from quantmill.reference.arithmetic import QuantArithmetic

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@functools.cache
def expected(arithmetic: QuantArithmetic) -> dict[str, str]:
    """All entries of an arithmetic: its own, and those of the arithmetics before it that did not change."""
    found = json.loads((GOLDEN / "expected.json").read_text())
    entries: dict[str, str] = {}
    for earlier in list(QuantArithmetic)[: arithmetic.value]:
        entries |= found[earlier.name]
    return entries


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "inputs.npz") as archive:
        return dict(archive)


WRITTEN = sorted({key.split("/")[0] for key in expected(QuantArithmetic.B11108)})


@pytest.mark.parametrize("arithmetic", QuantArithmetic)
@pytest.mark.parametrize("level", _kernels.isa_levels())
@pytest.mark.parametrize("type_", WRITTEN)
def test_bytes_are_golden(type_: str, level: str, arithmetic: QuantArithmetic, inputs: dict[str, np.ndarray]) -> None:
    _kernels.set_isa(level)
    wrong = []
    for key, digest in expected(arithmetic).items():
        name, case, imatrix = key.split("/")
        if name != type_:
            continue
        x = inputs[f"x/{case}"]
        importance = None if imatrix == "none" else inputs[f"imatrix/{imatrix}"][: x.shape[1]].copy()
        out = np.zeros(len(x) * TYPES[type_].row_bytes(x.shape[1]), np.uint8)
        _kernels.quantize(type_, x, out, importance, arithmetic)
        if hashlib.sha256(out).hexdigest()[:16] != digest.split()[-1]:
            wrong.append(key)
    assert wrong == []


def test_every_entry_has_a_kernel() -> None:
    newest = expected(QuantArithmetic.B11108)
    assert len(WRITTEN) == 25
    assert set(WRITTEN) <= set(_kernels.quantize_types())
    assert all(expected(arithmetic).keys() <= newest.keys() for arithmetic in QuantArithmetic)
