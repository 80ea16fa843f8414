"""Whether llama.cpp loads and generates from what odd checkpoints are converted to; see benchmarks/README.md.

Of each checkpoint of tests/golden/convert_golden/broken.py: refused by a plan, or built, loaded and generated from by
the xllamacpp of another environment, in a process of its own.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "golden"), str(ROOT / "tests" / "checkpoint")]
LOAD = """
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx, params.n_gpu_layers, params.warmup, params.cpuparams.n_threads = 256, 0, False, 1
(choice,) = xllamacpp.Server(params).handle_completions({"prompt": "hello", "n_predict": 3})["choices"]
print("GENERATED", repr(choice["text"]), flush=True)
os._exit(0)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="a Python that has xllamacpp")
    parser.add_argument("--only", default="", help="checkpoints whose class or change holds this text")
    options = parser.parse_args()
    from test_broken import built, refused

    from convert_golden import broken

    counts: Counter[tuple[str, str]] = Counter()
    failed = []
    for class_, name in broken.cases():
        if options.only not in f"{class_} {name}":
            continue
        with tempfile.TemporaryDirectory() as folder:
            broken.write(Path(folder) / "base", class_, broken.CHANGES[name])
            if refused(Path(folder)) is not None:
                counts[class_, "refused"] += 1
                continue
            file = built(Path(folder))
            call = [options.python, "-c", LOAD, str(file)]
            try:
                done = subprocess.run(call, capture_output=True, text=True, timeout=60)
            except subprocess.TimeoutExpired:
                done = subprocess.CompletedProcess(call, -1, "", "no answer within a minute")
            good = done.returncode == 0 and "GENERATED" in done.stdout
            counts[class_, "generated" if good else "failed"] += 1
            if not good:
                failed.append(f"{class_}, {name}: exit code {done.returncode}\n{done.stderr[-1500:]}")
    for class_ in broken.CLASSES:
        print(class_, {kind: counts[class_, kind] for kind in ("refused", "generated", "failed")})
    print(*failed, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
