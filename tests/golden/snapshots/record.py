"""Record llama.cpp's own snapshots of types, as digests.

    PYTHONPATH=src:tests/golden python tests/golden/snapshots/record.py FOLDER

The folder is llama.cpp's tests/snapshots (MIT): a schema a model, which has for each ftype its type, and the tensors
of another. Writes types.json: for each model {ftype: digest of these tensors and types}. Says where ours differ.
"""

import hashlib
import json
import sys
from pathlib import Path

from quantmill.reference.spans import of_tag
from snapshots.real_models import REAL_MODELS

SOURCE = "b11312"  # llama-cpp-python 0.3.36


def digest(lines: list[str]) -> str:
    """Of a model's types by one ftype."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def sections(text: str) -> dict[str, list[str]]:
    """A schema's tensors and types by ftype."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            lines = found[line[1:].partition("]")[0]] = []
        elif line and not line.startswith("#"):
            name, _, type_ = line.rpartition(" ")
            lines.append(f"{name} {type_.upper()}")
    return found


def main(folder: Path) -> None:
    recorded: dict[str, dict[str, str]] = {}
    for name, model in REAL_MODELS.items():
        found = sections((folder / f"{name}.schema").read_text())
        recorded[name] = {ftype: digest(lines) for ftype, lines in found.items()}
        for ftype, lines in found.items():
            if (ours := model.types(of_tag(SOURCE), ftype)) != lines:
                print(f"{name} {ftype}: theirs {sorted({*lines} - {*ours})[:3]}, ours {sorted({*ours} - {*lines})[:3]}")
    Path(__file__).with_name("types.json").write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
