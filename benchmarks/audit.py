"""What an audit costs beside quantizing: processor time of whole processes, and the audit's largest memory.

    python benchmarks/audit.py [--base FILE --imatrix FILE] [--ftypes Q4_K_M,Q8_0] [--threads 1] [--folder DIR]

Quantizes each ftype of the standard matrix, then audits the folder of them. Prints for each file the processor time of
its quantizing and that of its audit alone, last the sums, and that of the audit of the folder in one process. Without
`--base` a model is written. Exits with 1 where the folder's audit costs more than 1.3 times the quantizing, or takes
more than 600 MB.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from matrix import write_base

from quantmill.reference.ftypes import STANDARD_MATRIX

MOST, MEMORY = 1.3, 600_000_000


def process(*command: object) -> tuple[float, int]:
    """Processor seconds and the peak of memory of a call of quantmill."""
    child = subprocess.Popen(
        [sys.executable, "-m", "quantmill.cli", *map(str, command)], stdout=subprocess.PIPE, text=True
    )
    said = child.stdout.read() if child.stdout else ""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {child.returncode}:\n{said}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--ftypes", default=",".join(STANDARD_MATRIX))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder, release = Path(name), Path(name) / "release"
        release.mkdir()
        base, imatrix = arguments.base, arguments.imatrix
        if base is None:
            print(f"{write_base(folder, 4, 16384) / 1e6:.0f} M weights")
            base, imatrix = folder / "base.gguf", folder / "imatrix.dat"
        guide = ["--imatrix", imatrix] if imatrix else []
        made = held = 0.0
        for ftype in arguments.ftypes.split(","):
            path = release / f"{ftype}.gguf"
            spent, _ = process("quantize", base, path, ftype, *guide, "--threads", arguments.threads)
            alone, peak = process("audit", path, "--base", base, *guide, "--threads", arguments.threads)
            made, held = made + spent, held + alone
            print(
                f"{ftype:8} quantize {spent:6.2f} s, audit {alone:6.2f} s: {alone / spent:.2f}x, {peak / 1e6:.0f} MB",
                flush=True,
            )
        whole, peak = process("audit", release, "--base", base, *guide, "--threads", arguments.threads)
        print(f"each file alone: quantize {made:.1f} s, audit {held:.1f} s: {held / made:.2f}x")
        print(f"the release at once: audit {whole:.1f} s: {whole / made:.2f}x, {peak / 1e6:.0f} MB")
    return int(whole > MOST * made or peak > MEMORY)


if __name__ == "__main__":
    sys.exit(main())
