"""Record what the default recipe's files are, by llama.cpp tag: `python tests/golden/tiny_release/record.py DIR...`

Each DIR is a finished release of recipes/tiny.toml, of one tag. Enters in digests.json {tag: {name: sha256}} of its
files of weights and of its importance matrix; tags that are not given stay.
"""

import json
import sys
from pathlib import Path

DIGESTS = Path(__file__).with_name("digests.json")


def files(release: Path) -> dict[str, str]:
    """The sha256 of each file of weights, and of the importance matrix, by name."""
    listing = json.loads((release / "release.json").read_text())
    made = (".gguf", ".imatrix")
    return {file["name"]: file["sha256"] for file in listing["files"] if file["name"].endswith(made)}


if __name__ == "__main__":
    recorded = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    for folder in map(Path, sys.argv[1:]):
        recorded[json.loads((folder / "release.json").read_text())["llama_cpp"]] = files(folder)
    DIGESTS.write_text(json.dumps(recorded, indent=1) + "\n")
