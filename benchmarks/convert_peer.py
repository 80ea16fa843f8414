"""Compare our convert step with llama.cpp's convert_hf_to_gguf.py, byte for byte.

    python benchmarks/convert_peer.py llama.cpp/convert_hf_to_gguf.py [--tag TAG] [--python PYTHON] [--record]
        [--classes] [--only NAME] [--keep DIR] [MODEL_DIR[=PRE]...]

Converts the small models of tests/golden/convert_golden (and the folders given, with the pre-tokenizer's name that the
converter is to use where it does not know the vocabulary) by both and prints, for each pair, whether the files are
identical, else every key and tensor that differs. `--tag` is the converter's (b5490 without), as whose ours writes.
`--python` is an interpreter that has the converter's requirements (transformers, torch, sentencepiece; 4.45 to 4.52 of
transformers for b5490, 4.57 for later ones). `--record` writes the digests of the converter's files into digests.json
there, or for a later tag into later_digests.json. `--classes` takes the checkpoints of its classes/ instead, `--only`
some of them (may be repeated), whose digests go to class_digests.json; what ours refuses is said, and no difference.
`--keep` puts the converter's files into a folder. Exit code 1 when anything differs but what is meant to.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from quantmill.architectures.json_file import model_files
from quantmill.artifact import Context
from quantmill.checkpoint.conversion import convert
from quantmill.errors import QuantmillError
from quantmill.gguf import read
from quantmill.reference.spans import of_tag

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "convert_golden"
sys.path.insert(0, str(GOLDEN.parent))
FIRST = "b5490"  # whose files digests.json has

from convert_golden import later_models, models  # noqa: E402  (found through the line above)
from convert_golden.classes import registry  # noqa: E402

# Runs the converter's own main for each job, with one function replaced: the one that knows vocabularies by
# hash. A converter of August 2025 wants mistral_common, of which these models need nothing.
_RUN = """
import importlib.util, json, sys, types
from pathlib import Path
converter, jobs = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
sys.path.insert(0, str(converter.parent))
for part in (".base", ".multimodal", ".tekken", ".sentencepiece"):
    name = "mistral_common"
    for piece in ("", ".tokens", ".tokenizers", part):
        name += piece
        stub = sys.modules.setdefault(name, types.ModuleType(name))
        stub.__path__, stub.__spec__ = [], importlib.util.spec_from_loader(name, None)
        stub.TokenizerVersion = stub.DATASET_MEAN = stub.DATASET_STD = None
        stub.Tekkenizer = stub.SentencePieceTokenizer = None
spec = importlib.util.spec_from_file_location("converter", converter)
module = importlib.util.module_from_spec(spec)
sys.modules["converter"] = module
spec.loader.exec_module(module)
text = getattr(module, "TextModel", None) or sys.modules["conversion.base"].TextModel
own = text.get_vocab_base_pre
for folder, pre, type_, out in jobs:
    text.get_vocab_base_pre = own if pre == "-" else lambda self, tokenizer, pre=pre: pre
    sys.argv = ["convert", folder, "--outtype", type_.lower(), "--outfile", out]
    try:
        module.main()
    except BaseException as error:
        print(f"{Path(folder).name} {type_}: the converter failed: {error!r}", flush=True)
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
    parser.add_argument("--tag", default=FIRST)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--classes", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("models", nargs="*", metavar="MODEL_DIR[=PRE]")
    arguments = parser.parse_intermixed_args()
    is_first, reference = arguments.tag == FIRST, of_tag(arguments.tag)
    types = models.TYPES if is_first else later_models.TAGS.get(arguments.tag, (*models.TYPES, "AUTO"))
    builds = models.MODELS if is_first else {**models.MODELS, **later_models.MODELS}
    names, named = {**models.PRE, **later_models.PRE}, later_models.NAMED
    if arguments.classes:
        chosen = {
            name: one for name, one in registry.CHECKPOINTS.items() if name in arguments.only or not arguments.only
        }
        types, builds = registry.TYPES, {name: one.write for name, one in chosen.items()}
        names = {name: one.pre for name, one in chosen.items()}
        named = {name: pre for name, pre in names.items() if pre != "-"}
    digests: dict[str, dict[str, str]] = {}
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        cases = []
        for name, build in builds.items():
            build(Path(scratch) / name)
            cases.append((Path(scratch) / name, names.get(name, "-")))
        for model in arguments.models:
            path, _, pre = model.partition("=")
            cases.append((Path(path).resolve(), pre or "-"))
        made = {(folder, type_): f"{scratch}/{folder.name}.{type_}" for folder, _ in cases for type_ in types}
        jobs = [(str(folder), pre, type_, made[folder, type_]) for folder, pre in cases for type_ in types]
        (Path(scratch) / "jobs.json").write_text(json.dumps(jobs))
        command = [arguments.python, "-c", _RUN, str(arguments.converter.resolve()), f"{scratch}/jobs.json"]
        done = subprocess.run(command, capture_output=True, text=True)
        print(*(line for line in done.stdout.splitlines() if "the converter failed" in line), sep="\n")
        if done.returncode:
            print(done.stderr[-2000:])
        for (folder, type_), theirs in made.items():
            if not Path(theirs).is_file():
                failed = True
                continue
            if folder.name in builds:
                digests.setdefault(folder.name, {})[type_] = hashlib.sha256(Path(theirs).read_bytes()).hexdigest()
            if arguments.keep:
                shutil.copy(theirs, arguments.keep / f"{folder.name}-{type_}.gguf")
            ours, pre_name = Path(scratch) / "ours.gguf", named.get(folder.name)
            try:
                convert(model_files(folder), ours, type_, folder.name, pre_name, Context(), reference=reference)
            except QuantmillError as error:
                failed = failed or not arguments.classes
                print(f"{folder.name} {type_}: refused: {str(error)[:120]}")
                continue
            found = differences(Path(theirs), ours)
            meant = folder.name in later_models.MEANT.get(arguments.tag, ())
            failed = failed or (bool(found) and not meant)
            said = "identical" if not found else "different, as meant" if meant else "DIFFERENT"
            print(f"{folder.name} {type_}: {said}", *found, sep="\n  ")
    if arguments.record and arguments.classes:
        path = GOLDEN / "class_digests.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        merged = {**known.get(arguments.tag, {}), **digests}
        path.write_text(json.dumps({**known, arguments.tag: merged}, indent=1) + "\n")
    elif arguments.record and is_first:
        (GOLDEN / "digests.json").write_text(json.dumps(digests, indent=1) + "\n")
    elif arguments.record:
        path = GOLDEN / "later_digests.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**known, arguments.tag: digests}, indent=1) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
