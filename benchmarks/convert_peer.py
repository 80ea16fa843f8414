"""Compare our convert step with llama.cpp's convert_hf_to_gguf.py, byte for byte.

    python benchmarks/convert_peer.py llama.cpp/convert_hf_to_gguf.py [--python PYTHON] [--record] [MODEL_DIR[=PRE]...]

Converts the small models of tests/golden/convert_golden (and the folders given, with the pre-tokenizer's name that the
converter is to use where it does not know the vocabulary) to BF16, F16 and F32 by both and prints, for each pair,
whether the files are identical, else every key and tensor that differs. `--python` is an interpreter that has the
converter's requirements (transformers 4.45 to 4.52, torch, sentencepiece). `--record` writes the digests of the
converter's files into tests/golden/convert_golden/digests.json. Exit code 1 when anything differs.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from quantmill.artifact import Context
from quantmill.checkpoint.conversion import convert
from quantmill.gguf import read
from quantmill.reference.llama_cpp.b4867 import B4867

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "convert_golden"
sys.path.insert(0, str(GOLDEN.parent))

from convert_golden.models import MODELS, PRE, TYPES  # noqa: E402  (found through the line above)

# Runs the converter's own main with one function replaced: the one that knows vocabularies by hash.
_RUN = """
import importlib.util, sys
converter, name = sys.argv[1:3]
sys.argv = sys.argv[2:]
sys.path.insert(0, str(__import__("pathlib").Path(converter).parent))
spec = importlib.util.spec_from_file_location("converter", converter)
module = importlib.util.module_from_spec(spec)
sys.modules["converter"] = module
spec.loader.exec_module(module)
if name != "-":
    module.TextModel.get_vocab_base_pre = lambda self, tokenizer: name
module.main()
"""


def differences(theirs: Path, ours: Path) -> list[str]:
    """What differs between two GGUF files, a line each; empty when their bytes are the same."""
    if theirs.read_bytes() == ours.read_bytes():
        return []
    found = []
    with read(theirs) as a, read(ours) as b:
        if list(a.metadata) != list(b.metadata):
            found.append("the metadata's keys or their order")
        for key in dict.fromkeys([*a.metadata, *b.metadata]):
            first, second = a.metadata.get(key), b.metadata.get(key)
            if first is None or second is None:
                found.append(f"{key}: only in {'ours' if first is None else 'theirs'}")
            elif first.encode() != second.encode():
                found.append(f"{key}: {str(first.value)[:60]} / {str(second.value)[:60]}")
        if list(a.tensors) != list(b.tensors):
            found.append("the tensors or their order")
        for name in a.tensors.keys() & b.tensors.keys():
            first_info, second_info = a.tensors[name], b.tensors[name]
            if (first_info.shape, first_info.type) != (second_info.shape, second_info.type):
                found.append(f"{name}: shape or type")
            elif a.data(first_info).tobytes() != b.data(second_info).tobytes():
                found.append(f"{name}: data")
    return found or ["padding"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("converter", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("models", nargs="*", metavar="MODEL_DIR[=PRE]")
    arguments = parser.parse_intermixed_args()
    digests: dict[str, dict[str, str]] = {}
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        cases = []
        for name, build in MODELS.items():
            build(Path(scratch) / name)
            cases.append((Path(scratch) / name, PRE.get(name, "-"), True))
        for model in arguments.models:
            folder, _, pre = model.partition("=")
            cases.append((Path(folder).resolve(), pre or "-", False))
        for folder, pre, golden in cases:
            files = {path.name: path for path in folder.iterdir() if path.is_file()}
            for type_ in TYPES:
                theirs, ours = Path(scratch) / "theirs.gguf", Path(scratch) / "ours.gguf"
                options = [str(folder), "--outtype", type_.lower(), "--outfile", str(theirs)]
                command = [arguments.python, "-c", _RUN, str(arguments.converter.resolve()), pre, *options]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    print(f"{folder.name} {type_}: the converter failed: {done.stderr.strip().splitlines()[-1]}")
                    failed = True
                    continue
                convert(files, ours, type_, folder.name, None, Context(), reference=B4867)
                if golden:
                    digests.setdefault(folder.name, {})[type_] = hashlib.sha256(theirs.read_bytes()).hexdigest()
                found = differences(theirs, ours)
                failed = failed or bool(found)
                print(f"{folder.name} {type_}: {'identical' if not found else 'DIFFERENT'}", *found, sep="\n  ")
    if arguments.record:
        (GOLDEN / "digests.json").write_text(json.dumps(digests, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
