"""`quantmill quantize` as a whole process beside llama.cpp: processor time and the clock, every type.

    python benchmarks/process.py --lib FOLDER | --tools BIN [--ftypes Q4_0,Q8_0] [--runs 3] [--threads 1]
        [--layers 3] [--vocabulary 32768] [--folder DIR]

Each type fills a whole file (`--pure`, where it needs no imatrix),
with an imatrix and without, of a bf16 model of hidden 2048. With `--tools`
the peer is llama-quantize, a process each time. With `--lib` it is a libllama (b8660 or later) in a process that is
already running: what loading a program takes is ours alone, so that ratios are the least that can be said. Runs take
turns. A line tells our seconds of processor time (user and system) as a median, and ratios as medians over turns: how
many times as long the peer takes. Exits with 1 when we are slower, by processor time, for any.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from matrix import write_base

from quantmill.admission.conformance import Call
from quantmill.admission.library import Library
from quantmill.quant.mix import needs_importance
from quantmill.reference.ftypes import FTYPES
from quantmill.reference.spans import newest, newest_tag

SLOW = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"}  # of which a layer will do
TYPES = "F16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K_M Q4_K_M Q5_K_M Q6_K IQ4_NL IQ4_XS TQ1_0 TQ2_0"

Spent = tuple[float, float]  # processor time and the clock, in seconds


def process(command: list[str]) -> Spent:
    """Run a process to its end."""
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began


def pure(ftype: str) -> list[str]:
    """Not for types that need an imatrix, which has nothing of the embedding."""
    return [] if needs_imatrix(ftype) else ["--pure"]


def needs_imatrix(ftype: str) -> bool:
    """By the rules of the newest tag."""
    return needs_importance(newest(), FTYPES[ftype], "blk.0.attn_q.weight", FTYPES[ftype].type)


def ours(base: Path, imatrix: Path | None, out: Path, ftype: str, threads: int) -> Spent:
    command = [sys.executable, "-m", "quantmill.cli", "quantize", str(base), str(out), ftype, *pure(ftype)]
    command += ["--threads", str(threads), *(["--imatrix", str(imatrix)] if imatrix else [])]
    return process(command)


def tool(program: Path, base: Path, imatrix: Path | None, out: Path, ftype: str, threads: int) -> Spent:
    guide = ["--imatrix", str(imatrix)] if imatrix else []
    return process([str(program), *pure(ftype), *guide, str(base), str(out), ftype, str(threads)])


def library(library: Library, base: Path, imatrix: Path | None, out: Path, ftype: str, warm: Path) -> Spent:
    """The library's call alone, in a process that has written a small file before."""
    library.answer(Call("warm", "F16", guided=False), warm, out)
    spent, began = library.processor_seconds(), time.perf_counter()
    if not library.answer(Call(base.stem, ftype, imatrix is not None, "pure" if pure(ftype) else ""), base, out):
        raise SystemExit(f"{library.path}: refuses {ftype}")
    found = library.processor_seconds() - spent, time.perf_counter() - began
    library.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peer = parser.add_mutually_exclusive_group(required=True)
    peer.add_argument("--lib", type=Path)
    peer.add_argument("--tools", type=Path)
    parser.add_argument("--ftypes", default=",".join([*TYPES.split(), *sorted(SLOW)]))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    slower: list[str] = []
    print(f"{'type':8} {'imatrix':7} {'weights':>8} {'ours':>7} {'processor':>10} {'clock':>7}   (seconds, times ours)")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, bases = Path(name), {}
        for kind, layers, vocabulary in (
            ("base", options.layers, options.vocabulary),
            ("slow", 1, 32),
            ("warm", 1, 32),
        ):
            place = folder / kind
            place.mkdir()
            bases[kind] = place / "base.gguf", place / "base.imatrix", write_base(place, layers, vocabulary)
            (place / "imatrix.dat").rename(bases[kind][1])
        for ftype in options.ftypes.split(","):
            base, imatrix, weights = bases["slow" if ftype in SLOW else "base"]
            for guide in (None, imatrix):
                if guide is None and needs_imatrix(ftype):
                    continue
                pairs: list[tuple[Spent, Spent]] = []
                for _ in range(options.runs):
                    work = (base, guide, folder / "out.gguf", ftype)
                    mine = ours(*work, options.threads)
                    if options.lib:
                        theirs = library(Library(options.lib, threads=options.threads), *work, bases["warm"][0])
                    else:
                        theirs = tool(options.tools / "llama-quantize", *work, options.threads)
                    pairs.append((mine, theirs))
                ratios = [statistics.median(theirs[i] / mine[i] for mine, theirs in pairs) for i in (0, 1)]
                own = statistics.median(mine[0] for mine, _ in pairs)
                print(
                    f"{ftype:8} {'with' if guide else 'none':7} {weights / 1e6:6.0f} M {own:7.2f} {ratios[0]:9.2f}x "
                    f"{ratios[1]:6.2f}x",
                    flush=True,
                )
                if ratios[0] < 1:
                    slower.append(f"{ftype} {'with' if guide else 'without'} an imatrix")
    if slower:
        print(f"slower: {', '.join(slower)} (tag {newest_tag()})")
    return bool(slower)


if __name__ == "__main__":
    sys.exit(main())
