"""Disk errors at any call of a build and of other commands: each must end in a sentence, and the next build heal.

    python benchmarks/faults.py [--first SEED] [--count N] [--folder DIR]

For each seed a command runs while calls of one kind (open, read, write, fsync, rename, mmap, flock, …) on files of the
project fail from one of them on, with EIO, ENOSPC and others; then a build runs undisturbed. Prints a line for each
seed that was not as it should be: a traceback, another code than 0 and 1, lines that are no sentence with a path, a
release that is wrong though the build ended with 0, or one that the next build did not mend. Needs a C compiler.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/helpers"))

from preload.disk_faults import Bench  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        bench = Bench(Path(folder))
        for seed in range(options.first, options.first + options.count):
            fault = bench.fault(seed)
            found = bench.trial(fault)
            ended = "went on" if found.code == 0 else "ended in a sentence"
            counts["WRONG" if found.wrong else ended if found.hit else "not hit"] += 1
            if found.wrong:
                print(f"{seed}: {fault}: {found.wrong}\n  {found.hit[:1]}\n{found.said[-1500:]}", flush=True)
    print(dict(sorted(counts.items())))
    sys.exit(bool(counts["WRONG"]))


if __name__ == "__main__":
    main()
