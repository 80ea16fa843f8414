"""How much faster the kernels quantize than ggml 0.20.2 does: one thread, one process, the same rows, interleaved runs.

python benchmarks/quantize.py [--types Q4_K,Q6_K] [--weights 1000000] [--repeats 7] [--no-importance] [--arithmetics]

Prints a line a type: ggml's speed in millions of weights a second, then for each level of instruction sets that this
machine runs the kernels' speed and how many times ggml's that is. Every repeat runs ggml and all levels one after the
other; a ratio is the median over repeats of that repeat's ratio, a speed is that of the median time. Below stand the
geometric means, and what share of a plain copy's speed F16, BF16 and Q8_0 reach.

`--arithmetics` prints instead, of the highest level, how many times ggml's speed each arithmetic of the kernels has, by
the least time of the repeats, and last the newest's share of the oldest's.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from quantmill import _kernels
from quantmill.gguf.types import TYPES
from quantmill.reference.arithmetic import QuantArithmetic

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

import ggml_oracle

COLUMNS = 2048
# The least ratio the project holds itself to, with an importance vector at x86-64-v4.
BARS = {"Q2_K": 8, "Q4_K": 8, "Q5_K": 8, "Q4_1": 8, "Q5_1": 8, "Q3_K": 5, "Q6_K": 5, "Q4_0": 5, "Q5_0": 5, "Q8_0": 5}
BARS |= dict.fromkeys(["IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_S", "IQ1_M"], 5)
# The types of a release's matrix, whose geometric mean is printed: at least 10x at x86-64-v4 and 6x at v3.
MATRIX = {*BARS} - {"Q5_0", "Q5_1"}
COPIED = ("Q8_0", "F16", "BF16")  # held to 70 % of a copy of the same bytes, with arrays that no cache holds
COPY_ROWS = 1 << 14


def seconds(work: Callable[[], None]) -> float:
    """Of this thread's processor time, which a busy machine disturbs less than the clock on the wall."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def measure(type_: str, src: np.ndarray, importance: np.ndarray | None, repeats: int) -> dict[str, list[float]]:
    """Seconds of every repeat, by "ggml" and level; one run of each before them warms up."""
    dst = np.zeros(src.shape[0] * TYPES[type_].row_bytes(src.shape[1]), np.uint8)
    runs: dict[str, list[float]] = {name: [] for name in ("ggml", *_kernels.isa_levels())}
    for repeat in range(repeats + 1):
        for name, times in runs.items():
            if name == "ggml":
                spent = seconds(lambda: ggml_oracle.quantize_into(type_, src, dst, importance))
            else:
                _kernels.set_isa(name)
                spent = seconds(lambda: _kernels.quantize(type_, src, dst, importance, ggml_oracle.ARITHMETIC))
            if repeat:
                times.append(spent)
    return runs


def arithmetics(types: list[str], src: np.ndarray, importance: np.ndarray | None, repeats: int) -> None:
    """A line a type: how many times ggml's speed each arithmetic has."""
    _kernels.set_isa(_kernels.isa_levels()[-1])
    print(f"{'type':8}" + "".join(f" {one.name:>8}" for one in QuantArithmetic) + "   newest of oldest")
    shares = []
    for type_ in types:
        dst = np.zeros(src.shape[0] * TYPES[type_].row_bytes(src.shape[1]), np.uint8)
        work: dict[object, Callable[[], object]] = {
            one: partial(_kernels.quantize, type_, src, dst, importance, one) for one in QuantArithmetic
        }
        work["ggml"] = partial(ggml_oracle.quantize_into, type_, src, dst, importance)
        least = dict.fromkeys(work, float("inf"))
        for _ in range(repeats + 1):
            for name in random.sample(list(work), len(work)):  # what comes after ggml finds the caches cold
                least[name] = min(least[name], seconds(work[name]))
        first, *_, last = QuantArithmetic
        shares.append(least[first] / least[last])
        cells = "".join(f" {least['ggml'] / least[one]:7.2f}x" for one in QuantArithmetic)
        print(f"{type_:8}{cells}   {shares[-1]:.1%}", flush=True)
    print(f"geometric mean {statistics.geometric_mean(shares):.1%}, least {min(shares):.1%}")


def copy_share(type_: str, src: np.ndarray, repeats: int) -> float:
    """The kernel's speed as a share of a plain copy that reads and writes the same bytes, in turn, as a median."""
    src = np.resize(src, (COPY_ROWS, src.shape[1]))
    out = np.zeros(src.shape[0] * TYPES[type_].row_bytes(src.shape[1]), np.uint8)
    half = (src.nbytes + out.nbytes) // 2
    # Written before they are read: untouched pages are all one page of zeros, which lies in the cache.
    taken, given = np.ones(half, np.uint8), np.ones(half, np.uint8)
    shares = []
    for _ in range(repeats + 2):
        copied = min(seconds(lambda: np.copyto(given, taken)) for _ in range(3))
        shares.append(copied / min(seconds(lambda: _kernels.quantize(type_, src, out)) for _ in range(3)))
    return statistics.median(shares)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [name for name in _kernels.quantize_types() if name != "F32"]
    parser.add_argument("--types", default=",".join(known), help="comma-separated; all that the kernels write")
    parser.add_argument("--weights", type=int, default=500_000, help="about so many weights a run")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-importance", action="store_true", help="the searches that need no importance vector")
    parser.add_argument("--arithmetics", action="store_true", help="those of all spans beside each other")
    arguments = parser.parse_args()

    generator = np.random.default_rng(0)
    rows = max(1, arguments.weights // COLUMNS)
    src = (generator.standard_normal((rows, COLUMNS)) * 0.02).astype(np.float32)
    importance = None if arguments.no_importance else generator.gamma(1, 1, COLUMNS).astype(np.float32)
    if arguments.arithmetics:
        arithmetics(arguments.types.split(","), src, importance, arguments.repeats)
        return 0
    levels = _kernels.isa_levels()
    print(
        f"{'type':8} {'ggml':>8}"
        + "".join(f" {level:>18}" for level in levels)
        + f" {'bar':>5}   (million weights/s, times ggml)"
    )
    missed, ratios = [], {}
    for type_ in arguments.types.split(","):
        runs = measure(type_, src, importance, arguments.repeats)
        speed = {name: src.size / statistics.median(times) / 1e6 for name, times in runs.items()}
        ratio = {
            level: statistics.median(old / new for old, new in zip(runs["ggml"], runs[level], strict=True))
            for level in levels
        }
        ratios[type_] = ratio
        bar = None if arguments.no_importance else BARS.get(type_)
        cells = "".join(f" {speed[level]:10.1f} {ratio[level]:6.2f}x" for level in levels)
        print(f"{type_:8} {speed['ggml']:8.1f}{cells} {f'{bar}x' if bar else '':>5}", flush=True)
        if bar and levels[-1] == "x86-64-v4" and ratio[levels[-1]] < bar:
            missed.append(type_)
    for level in levels:
        found = [ratio[level] for type_, ratio in ratios.items() if type_ in MATRIX]
        if found:
            mean = statistics.geometric_mean(found)
            print(f"{level}: geometric mean {mean:.1f}x over {len(found)} types of the matrix, least {min(found):.1f}x")
    for type_ in COPIED:
        if type_ in ratios:
            print(f"{type_}: {copy_share(type_, src, arguments.repeats):.0%} of a plain copy of as many bytes")
    if missed:
        print(f"below the bar: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
