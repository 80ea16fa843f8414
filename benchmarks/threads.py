"""What a second thread gives: one file quantized with one thread and with two, in turn, on the clock.

    python benchmarks/threads.py [--ftypes Q4_K_M,Q6_K,IQ3_M] [--runs 5] [--folder DIR]

The base is that of benchmarks/matrix.py. Prints the medians and the median ratio; both files must have the same bytes.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from matrix import sha256, write_base

from quantmill.quant.driver import quantize_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ftypes", default="Q4_K_M,Q6_K,IQ3_M,IQ4_XS")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    wrong = False
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_base(folder, layers=2, vocabulary=32768)
        for ftype in options.ftypes.split(","):
            times: dict[int, list[float]] = {1: [], 2: []}
            digests = set()
            for _ in range(options.runs):
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
            print(f"{ftype:8} one thread {one:.2f} s, two {two:.2f} s: {ratio:.2f}x, {same}", flush=True)
            wrong |= len(digests) > 1
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
