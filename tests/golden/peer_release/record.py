"""Record the sha256 of a release's files as llama-quantize of several tags writes them.

    PYTHONPATH=src:tests/golden python tests/golden/peer_release/record.py b5590=FOLDER b8305=FOLDER ...

Each folder holds the tag's libllama. Writes digests.json: {tag: {call: sha256}}, and says where our file is another.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from quantmill.admission.conformance import IMATRIX_NAME, OPTIONS, Call, write
from quantmill.admission.library import Library, form_of
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.ftypes import STANDARD_MATRIX
from quantmill.reference.spans import of_tag

DIGESTS = Path(__file__).with_name("digests.json")
# Of the 26 files those that are made without the imatrix, and those with options.
BARE = ("Q6_K", "Q5_K_S", "Q4_1", "Q4_0", "IQ4_NL", "Q3_K_L")
SOME = {"Q4_K_M": "patterns", "IQ4_XS": "patterns", "Q3_K_M": "leave output"}
# A model whose rows hold no blocks of K-quants, and one whose weights and importances tell arithmetics apart.
MODELS = {
    "smollm2": SOME,
    "nasty": {
        **SOME,
        "Q4_K_S": "overlapping patterns",
        "Q5_K_S": "pure",
        "Q3_K_S": "pure",
        "Q3_K_L": "output and embedding",
    },
}
# What the older tags refuse of it, since an importance is zero, and what stands for it.
INSTEAD = {("nasty", "IQ2_XXS"): "Q5_0"}


def calls(model: str) -> Iterator[Call]:
    """The 26 files of a release."""
    for name in STANDARD_MATRIX:
        ftype = INSTEAD.get((model, name), name)
        yield Call(model, ftype, ftype not in BARE, MODELS[model].get(ftype, ""))


def ours(call: Call, tag: str, base: Path, out: Path) -> Path:
    """Our file of a call."""
    imatrix = base.with_suffix(".imatrix") if call.guided else None
    options = OPTIONS[call.options]
    quantize_file(
        base, out, call.ftype, imatrix=imatrix, imatrix_name=IMATRIX_NAME, reference=of_tag(tag), tag=tag, **options
    )
    return out


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(libraries: Mapping[str, Path]) -> None:
    recorded: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in MODELS:
            write(folder, model)
        for tag, place in libraries.items():
            library = Library(place, form_of(tag))
            recorded[tag] = {}
            for call in (call for model in MODELS for call in calls(model)):
                base = folder / f"{call.model}.gguf"
                if library.answer(call, base, folder / "out.gguf"):
                    recorded[tag][str(call)] = digest(folder / "out.gguf")
                    if digest(ours(call, tag, base, folder / "ours.gguf")) != recorded[tag][str(call)]:
                        print(f"{tag}: {call}: ours is another")
                else:
                    print(f"{tag}: {call}: refused")
            library.close()
    DIGESTS.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main({tag: Path(place) for tag, place in (word.split("=", 1) for word in sys.argv[1:])})
