"""Blocks made by hypothesis, quantized by ggml itself and by our kernels at every level: are all bytes the same?

    python benchmarks/blocks.py [--blocks 10000] [--types Q4_K,...] [--lib libggml-base.so --arithmetic B11108]

ggml is the wheel libggml-python, or any libggml-base.so with the arithmetic of its build. Each example is a row or
several, with an importance vector, drawn by hypothesis: the kind of distribution, its scale, values placed anywhere,
zeros, and the vector's shape. Counts the blocks of each type (super-blocks of 256 for the K- and I-quants); exits with
1 when a byte differs. Rows on which the reference itself stops (an importance vector with an all-zero group under some
I-quants) are not drawn.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))

import ggml_oracle
from quantmill import _kernels
from quantmill.gguf.types import TYPES
from quantmill.reference.arithmetic import QuantArithmetic

PLAIN = ("F32", "F16", "BF16")
KINDS = ("gaussian", "heavy", "uniform", "sparse", "grid", "positive", "outlier")
COLUMNS, ROWS = 512, 4


def weights(kind: str, random: np.random.Generator) -> np.ndarray:
    """Rows of one distribution, shape (ROWS, COLUMNS)."""
    shape = (ROWS, COLUMNS)
    match kind:
        case "heavy":
            return random.standard_t(2, shape)
        case "uniform":
            return random.uniform(-1, 1, shape)
        case "sparse":
            return random.standard_normal(shape) * (random.random(shape) < 0.1)
        case "grid":
            return np.round(random.standard_normal(shape) * 3) / 3
        case "positive":
            return np.abs(random.standard_normal(shape))
        case "outlier":
            return random.standard_normal(shape) * np.where(random.random(shape) < 0.01, 50, 1)
    return random.standard_normal(shape)


rows = st.builds(
    lambda kind, seed, scale, placed, spread: (kind, seed, scale, placed, spread),
    st.sampled_from(KINDS),
    st.integers(0, 2**32 - 1),
    st.floats(-6, 3),
    st.lists(st.tuples(st.integers(0, ROWS * COLUMNS - 1), st.floats(-4, 4, width=32)), max_size=24),
    st.floats(0, 4),
)


def check(type_: str, wanted: int, path: Path | None, arithmetic: QuantArithmetic) -> tuple[int, int]:
    """(blocks compared, blocks that differ at some level)."""
    block = TYPES[type_].block
    each = ROWS * COLUMNS // block
    compared = different = 0

    @settings(
        max_examples=-(-wanted // each),
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(rows)
    def run(row: tuple[str, int, float, list[tuple[int, float]], float]) -> None:
        nonlocal compared, different
        kind, seed, scale, placed, spread = row
        random = np.random.default_rng(seed)
        src = weights(kind, random)
        for at, value in placed:
            src.flat[at] = value
        src = (src * 10.0**scale).astype(np.float32)
        importance = (np.exp(random.standard_normal(COLUMNS) * spread) + 1e-6).astype(np.float32)
        expected = ggml_oracle.quantize(type_, src, importance, path).reshape(-1, TYPES[type_].size)
        wrong = np.zeros(len(expected), bool)
        for level in _kernels.isa_levels():
            _kernels.set_isa(level)
            out = np.empty(expected.size, np.uint8)
            _kernels.quantize(type_, src, out, importance, arithmetic)
            wrong |= (out.reshape(expected.shape) != expected).any(axis=1)
        compared += each
        different += int(wrong.sum())

    run()
    return compared, different


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=10_000)
    parser.add_argument("--types", default=",".join(t for t in _kernels.quantize_types() if t not in PLAIN))
    parser.add_argument("--lib", type=Path, help="a libggml-base.so in place of the wheel's")
    names = [one.name for one in QuantArithmetic]
    parser.add_argument("--arithmetic", choices=names, default=ggml_oracle.ARITHMETIC.name)
    arguments = parser.parse_args()
    print(f"levels: {', '.join(_kernels.isa_levels())}")
    failed = False
    for type_ in arguments.types.split(","):
        compared, different = check(type_, arguments.blocks, arguments.lib, QuantArithmetic[arguments.arithmetic])
        print(f"{type_:8} {compared:7} blocks, {different} different", flush=True)
        failed |= different > 0 or compared < arguments.blocks
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
