"""How long a `doit` with nothing to do takes, beside `doit` on an empty dodo.py, in one run.

    python benchmarks/noop.py [--runs N]

Builds the default recipe first. Prints the medians and their ratio; the two commands run in turn.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def seconds(folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run([str(Path(sys.executable).parent / "doit")], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    seconds(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder)
        (empty / "dodo.py").write_text("")
        pairs = [(seconds(ROOT), seconds(empty)) for _ in range(runs)]
    ours, plain = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"no-op build {ours:.3f} s, doit on an empty dodo.py {plain:.3f} s, median ratio {ratio:.2f} over {runs} runs"
    )


if __name__ == "__main__":
    main()
