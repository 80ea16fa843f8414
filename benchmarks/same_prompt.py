"""Chat templates rendered in processes with other seeds of hashes, time zones and folders: one prompt each, or none.

    python benchmarks/same_prompt.py [--processes 3] [FILE.jinja ...]

Takes the 200 templates of tests/helpers/chat_templates.py, usual and hostile ones, and those in the files. Prints each
that differs, each hostile one that does not end as it should, and the count. Exits with 1 when there is one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))

import chat_templates

PROGRAM = """
import json, sys
import chat_templates  # noqa: E402
chat_templates.ALL |= json.load(sys.stdin)
print(json.dumps({name: chat_templates.prompt(name) for name in chat_templates.ALL}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.jinja")
    options = parser.parse_args()
    more = json.dumps({str(path): path.read_text() for path in options.files})
    found = []
    for seed in range(options.processes):
        began = time.monotonic()
        env = {**os.environ, "PYTHONHASHSEED": str(1000 * seed), "TZ": ("UTC", "Asia/Tokyo")[seed % 2]}
        path = os.pathsep.join(sys.path)
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                (sys.executable, "-c", PROGRAM),
                input=more, env=env | {"PYTHONPATH": path}, cwd=folder, stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
        found.append(json.loads(done.stdout))
        print(f"process {seed}: {len(found[-1])} templates, {time.monotonic() - began:.0f} s", flush=True)
    differ = [name for name in found[0] if len({prompts[name] for prompts in found}) > 1]
    wrong = [name for name, (_, end) in chat_templates.HOSTILE.items() if found[0][name] != end]
    wrong += [name for name in chat_templates.USUAL if "{prompt}" not in found[0][name]]
    for name in differ:
        print(f"differs: {name}")
    for name in wrong:
        print(f"ends otherwise: {name}: {found[0][name]!r}")
    print(f"{len(found[0])} templates, {len(found)} processes: {len(differ)} differ, {len(wrong)} end otherwise")
    return 1 if differ or wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
