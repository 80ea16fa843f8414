"""Whether llama.cpp, newer than all that is offered, loads and generates from what becomes of faulty tokenizers.

    python benchmarks/load_elsewhere.py [--python PYTHON] [FILE.gguf...]

Converts each small model of tests/golden/convert_golden/faulty_tokenizers.py that is not refused, and the files given,
and lets the package xllamacpp of the interpreter PYTHON load each in a process of its own and say two tokens. Exit code
1 when one does not.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from quantmill.artifact import Context
from quantmill.checkpoint.conversion import convert
from quantmill.errors import QuantmillError

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS / "golden"))

from convert_golden.faulty_tokenizers import faults, write  # noqa: E402  (found through the line above)

_RUN = """
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_predict, params.n_parallel = sys.argv[1], 128, 2, 1
params.cpuparams.n_threads, params.warmup = 1, False
code = 3
try:
    answer = xllamacpp.Server(params).handle_completions({"prompt": "ab the 12", "n_predict": 2})
    code = 0 if answer["usage"]["completion_tokens"] else 4
except BaseException as error:
    print("E", error, file=sys.stderr)
sys.stderr.flush()
os._exit(code)  # its threads do not always end
"""


def problem(python: str, path: Path) -> str:
    """What the other program says of a file that it does not generate from; nothing for one that it does."""
    done = subprocess.run(
        [python, "-c", _RUN, str(path)], capture_output=True, text=True, errors="replace", timeout=120
    )
    said = [line for line in done.stderr.splitlines() if " E " in line or "ASSERT" in line or line.startswith("E ")]
    return f"exit code {done.returncode}: {said[0] if said else ''}" if done.returncode else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        made = {str(path): path for path in options.files}
        for number, (kind, name, edit, _) in enumerate(faults()):
            path = Path(scratch) / f"{number}.gguf"
            try:
                convert(write(Path(scratch) / str(number), kind, edit), path, "F32", "model", None, Context())
                made[f"{kind}: {name}"] = path
            except QuantmillError:
                counts[f"{kind}: refused"] += 1
        for title, path in made.items():
            if said := problem(options.python, path):
                print(f"{title}: {said}")
            counts[f"{title.partition(':')[0]}: {'DOES NOT GENERATE' if said else 'generates'}"] += 1
    for what, count in sorted(counts.items()):
        print(f"{what}: {count}")
    return int(any("NOT" in what for what in counts))


if __name__ == "__main__":
    sys.exit(main())
