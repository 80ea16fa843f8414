"""How fast the matrix product is: a share of the fma peak measured in the same run, beside OpenBLAS (numpy's).

python benchmarks/gemm.py [--shapes 512x2048x2048,...] [--threads 1,2] [--types F32,F16,BF16] [--repeats 7] [--level L]

A shape is m x n x k: m rows of activations times n rows of k weights. GFLOP/s count 2mnk, whatever an arithmetic does
for it. Every repeat runs the peak (fma on registers alone), both arithmetics and OpenBLAS one after the other, small
products several times. Two shares of the peak are printed: by the clock, of each the fastest repeat, since all that the
machine does beside it counts too; and by the processor time of all threads, the median over repeats, which leaves out
other programs but also threads that wait.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.pop("OPENBLAS_CORETYPE", None)  # OpenBLAS at its best, before numpy loads it

import numpy as np

from quantmill import _kernels

# m=512 is a chunk of an imatrix; then a small model's, a 2048 wide one's, a 7B's and a vocabulary's part
LEAST = 10**10  # operations timed at a time
SHAPES = "512x576x576,512x2048x2048,512x11008x2048,512x2048x11008,512x4096x4096"


def blas_threads(count: int) -> bool:
    """Tell numpy's OpenBLAS how many threads to use; whether that could be done."""
    import ctypes
    from pathlib import Path

    for path in Path(np.__file__).parent.parent.glob("numpy.libs/*openblas*"):
        library = ctypes.CDLL(str(path))
        for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_", "openblas_set_num_threads"):
            if hasattr(library, name):
                getattr(library, name)(count)
                return True
    return False


def rate(operations: int, work: Callable[[], object], threads: int) -> tuple[float, float]:
    """Operations a second by the clock, and by the processor time that a thread used of it on average."""
    times = 1 + LEAST // operations
    begin, used = time.perf_counter(), time.process_time()
    for _ in range(times):
        work()
    done = times * operations
    return done / (time.perf_counter() - begin), done * threads / (time.process_time() - used)


def packed(weights: np.ndarray, type_: str, arithmetic: str) -> _kernels.Panels:
    if type_ == "F32":
        src = weights.view(np.uint8).reshape(-1)
    else:
        src = np.empty(weights.size * 2, np.uint8)
        _kernels.quantize(type_, weights, src)
    return _kernels.pack(type_, src, *weights.shape, arithmetic, 1)


def measure(shape: tuple[int, int, int], types: list[str], threads: int, repeats: int) -> None:
    m, n, k = shape
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((m, k), np.float32), rng.standard_normal((n, k), np.float32)
    out = np.empty((m, n), np.float32)
    panels = {(t, a): packed(w, t, a) for t in types for a in ("f32", "bf16x2")}
    runs: dict[str, Callable[[], object]] = {}
    for (type_, arithmetic), one in panels.items():
        runs[f"{arithmetic} {type_}"] = lambda one=one: _kernels.matmul(x, one, out, threads)
    if blas_threads(threads):
        runs["OpenBLAS"] = lambda: np.matmul(x, w.T, out=out)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ("peak", *runs)}
    steps = 4_000_000
    operations = _kernels.fma_operations(1, threads) * steps
    for repeat in range(repeats + 1):
        peak = rate(operations, lambda: _kernels.fma_operations(steps, threads), threads)
        measured = {"peak": peak} | {name: rate(2 * m * n * k, run, threads) for name, run in runs.items()}
        time.sleep(0.2)  # OpenBLAS's threads spin for a while after their work
        if repeat:  # the first warms up
            for name, value in measured.items():
                rates[name].append(value)
    fastest = {name: max(clock for clock, _ in values) for name, values in rates.items()}
    print(f"{m}x{n}x{k}, {threads} thread{'s' * (threads > 1)}: peak {fastest['peak'] / 1e9:.0f} GFLOP/s")
    for name in runs:
        clock = fastest[name] / fastest["peak"]
        used = statistics.median(r / p for (_, r), (_, p) in zip(rates[name], rates["peak"], strict=True))
        print(f"  {name:12} {fastest[name] / 1e9:7.1f} GFLOP/s  {clock:6.1%} by clock  {used:6.1%} by processor time")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=SHAPES, help="comma-separated, each MxNxK")
    parser.add_argument("--threads", default="1,2", help="comma-separated")
    parser.add_argument("--types", default="F32,F16,BF16", help="comma-separated")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--level", help="another level than the highest this machine runs")
    arguments = parser.parse_args()
    if arguments.level:
        _kernels.set_isa(arguments.level)
    print(f"level {_kernels.isa()}")
    for shape in arguments.shapes.split(","):
        m, n, k = map(int, shape.split("x"))
        for threads in map(int, arguments.threads.split(",")):
            measure((m, n, k), arguments.types.split(","), threads, arguments.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
