"""What the kernels refuse, and how the level of instruction sets is chosen."""

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from quantmill import _kernels

SRC = np.zeros((2, 64), np.float32)
DST = np.zeros(2 * 2 * 34, np.uint8)
READ_ONLY = DST.copy()
READ_ONLY.flags.writeable = False
SHARED = np.zeros(2 * 64 * 4, np.uint8)
LEVELS = ", ".join(_kernels.forward_levels())

REFUSED: list[tuple[str, Callable[[], None], str]] = [
    ("type", lambda: _kernels.quantize("Q9_0", SRC, DST), "no kernel quantizes to 'Q9_0'"),
    ("read-type", lambda: _kernels.dequantize("I8", DST, SRC), "no kernel dequantizes 'I8'"),
    (
        "src-dtype",
        lambda: _kernels.quantize("Q8_0", SRC.astype(np.float64), DST),
        "src must be an array of float32, not of format 'd'",
    ),
    (
        "src-byte-order",
        lambda: _kernels.quantize("Q8_0", SRC.astype(">f4"), DST),
        "src must be an array of float32, not of format '>f'",
    ),
    ("src-shape", lambda: _kernels.quantize("Q8_0", SRC[0], DST), "src must have 2 dimensions, not 1"),
    ("src-strides", lambda: _kernels.quantize("Q8_0", SRC[:, ::2], DST), "src must be a C-contiguous array of float32"),
    ("src-object", lambda: _kernels.quantize("Q8_0", [[0.0]], DST), "src must be a C-contiguous array of float32"),
    (
        "src-columns",
        lambda: _kernels.quantize("Q4_K", SRC, DST),
        "rows of 64 weights are not made of whole Q4_K blocks of 256",
    ),
    (
        "dst-dtype",
        lambda: _kernels.quantize("Q8_0", SRC, DST.view(np.int8)),
        "dst must be an array of uint8, not of format 'b'",
    ),
    ("dst-shape", lambda: _kernels.quantize("Q8_0", SRC, DST.reshape(2, -1)), "dst must have 1 dimension, not 2"),
    (
        "dst-size",
        lambda: _kernels.quantize("Q8_0", SRC, DST[1:]),
        "dst must have 136 bytes for 2 rows of 64 weights as Q8_0, not 135",
    ),
    (
        "dst-read-only",
        lambda: _kernels.quantize("Q8_0", SRC, READ_ONLY),
        "dst must be a C-contiguous writable array of uint8",
    ),
    (
        "overlap",
        lambda: _kernels.quantize("F32", SHARED.view(np.float32).reshape(2, 64), SHARED),
        "src and dst must not overlap",
    ),
    (
        "importance-size",
        lambda: _kernels.quantize("Q8_0", SRC, DST, np.zeros(63, np.float32)),
        "importance must have one value for each of the 64 columns, not 63",
    ),
    (
        "importance-dtype",
        lambda: _kernels.quantize("Q8_0", SRC, DST, np.zeros(64)),
        "importance must be an array of float32, not of format 'd'",
    ),
    (
        "importance-overlap",
        lambda: _kernels.quantize("F32", SRC, SHARED, SHARED[:256].view(np.float32)),
        "importance and dst must not overlap",
    ),
    ("arithmetic", lambda: _kernels.quantize("Q8_0", SRC, DST, None, 7), "arithmetic must be 1 to 6, not 7"),
    (
        "read-size",
        lambda: _kernels.dequantize("Q8_0", DST[1:], SRC),
        "src must have 136 bytes for 2 rows of 64 weights as Q8_0, not 135",
    ),
    ("read-shape", lambda: _kernels.dequantize("Q8_0", DST, SRC[0]), "dst must have 2 dimensions, not 1"),
    (
        "level",
        lambda: _kernels.set_isa("sparc"),
        f"this machine cannot run the kernels of level 'sparc'; it runs {LEVELS}",
    ),
]


@pytest.mark.parametrize(("call", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_with_one_sentence(call: Callable[[], None], message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared
        call()
    assert str(raised.value) == message


@pytest.mark.parametrize("shape", [(0, 256), (5, 0), (2**40, 0)])
def test_nothing_to_do(shape: tuple[int, int]) -> None:
    for type_ in _kernels.quantize_types():
        importance = np.ones(shape[1], np.float32)
        _kernels.quantize(type_, np.zeros(shape, np.float32), np.zeros(0, np.uint8), importance)
        _kernels.dequantize(type_, np.zeros(0, np.uint8), np.zeros(shape, np.float32))


def isa_of_a_new_process(level: str) -> subprocess.CompletedProcess[str]:
    command = "from quantmill import _kernels; print(_kernels.isa())"
    environment = {**os.environ, "QUANTMILL_ISA": level}
    return subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("level", _kernels.isa_levels())
def test_environment_forces_a_level(level: str) -> None:
    assert isa_of_a_new_process(level).stdout == f"{level}\n"


def test_environment_names_no_level() -> None:
    result = isa_of_a_new_process("sparc")
    assert result.returncode == 1
    message = f"ImportError: QUANTMILL_ISA: this machine cannot run the kernels of level 'sparc'; it runs {LEVELS}"
    assert result.stderr.splitlines()[-1] == message


def test_set_isa_holds_until_the_next() -> None:
    before = _kernels.isa()
    for level in _kernels.isa_levels():
        _kernels.set_isa(level)
        assert _kernels.isa() == level
    _kernels.set_isa(before)
