"""What a second thread gives: one file quantized with one thread and with two, in turn, on the clock.

    python benchmarks/threads.py [--ftypes Q4_K_M,Q6_K,IQ3_M] [--runs 5] [--layers 2] [--folder DIR]

The base is that of benchmarks/matrix.py. Prints the medians and the median ratio, and for all ftypes together the ratio
of the medians' sums; both files must have the same bytes. With more layers a file's beginning and end weigh less.
Beside it stands what the machine gives at that time: the same ratio for the kernel of the ftype's type alone, on rows
that each core's cache holds, without a file.
"""

import argparse
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from matrix import sha256, write_base

from quantmill import _kernels
from quantmill.gguf.types import Type
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.ftypes import FTYPES

ROWS, COLUMNS = 16, 2048
CALLS = 400  # of the kernel, shared among the threads


def alone(type_: Type, threads: int) -> float:
    """Seconds of CALLS calls of the kernel, each thread on rows of its own."""

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        weights = random.standard_normal((ROWS, COLUMNS)).astype(np.float32)
        importance = random.gamma(1, 1, COLUMNS).astype(np.float32)
        out = np.empty(ROWS * type_.row_bytes(COLUMNS), np.uint8)
        for _ in range(CALLS // threads):
            _kernels.quantize(type_.name, weights, out, importance)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ftypes", default="Q4_K_M,Q6_K,IQ3_M,IQ4_XS")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    wrong, all_files = False, [0.0, 0.0]
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_base(folder, layers=options.layers, vocabulary=32768)
        for ftype in options.ftypes.split(","):
            times: dict[int, list[float]] = {1: [], 2: []}
            kernel = []
            digests = set()
            for _ in range(options.runs):
                kernel.append(alone(FTYPES[ftype].type, 1) / alone(FTYPES[ftype].type, 2))
                for threads, spent in times.items():
                    out, imatrix = folder / "out.gguf", folder / "imatrix.dat"
                    out.unlink(missing_ok=True)
                    began = time.perf_counter()
                    quantize_file(folder / "base.gguf", out, ftype, imatrix=imatrix, threads=threads)
                    spent.append(time.perf_counter() - began)
                    digests.add(sha256(out))
            ratio = statistics.median(one / two for one, two in zip(times[1], times[2], strict=True))
            one, two = (statistics.median(spent) for spent in times.values())
            same = "same bytes" if len(digests) == 1 else "DIFFERENT BYTES"
            print(
                f"{ftype:8} one thread {one:.2f} s, two {two:.2f} s: {ratio:.2f}x, {same}; "
                f"the kernel alone {statistics.median(kernel):.2f}x",
                flush=True,
            )
            wrong |= len(digests) > 1
            all_files = [all_files[0] + one, all_files[1] + two]
        print(f"together one thread {all_files[0]:.2f} s, two {all_files[1]:.2f} s: {all_files[0] / all_files[1]:.2f}x")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
