"""A process for tests to kill: collects importance and says how far it is.

    python forward_killed.py MODEL WORK MEMORY ARITHMETIC SLEEP

Prints `at DONE` after every group of chunks and sleeps; at the end a line `sha256 DIGEST PEAK`, the peak of its
anonymous memory in bytes.
"""

import hashlib
import sys
import threading
import time
from pathlib import Path

import numpy as np

from quantmill.engine.evaluation import Run, collect, open_model


def anonymous() -> int:
    """Bytes of anonymous memory of this process now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) << 10


def main() -> None:
    path, work, memory, arithmetic, sleep = sys.argv[1:]
    peak = 0

    def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, anonymous())
            time.sleep(0.002)

    def progress(done: int, total: int) -> None:
        print(f"at {done}", flush=True)
        time.sleep(float(sleep))

    threading.Thread(target=watch, daemon=True).start()
    tokens = (np.arange(6 * 64, dtype=np.int32) * 7919 % 251).reshape(6, 64)
    with open_model(Path(path)) as model:
        found = collect(model, tokens, Run(arithmetic, 2, int(memory), Path(work), progress))
    total = hashlib.sha256()
    for name, sums in found.sums.items():
        total.update(name.encode() + sums.tobytes() + found.counts[name].tobytes())
    assert found.nll is not None
    total.update(found.nll.tobytes())
    print("sha256", total.hexdigest(), max(peak, anonymous()))


if __name__ == "__main__":
    main()
