"""release: the listing of a finished release, by name, size and sha256, and the statement of how it was made.

The weights themselves are laid out beside it by the build; this step only names them.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from quantmill.artifact import Context
from quantmill.listing import LISTING, SUMS
from quantmill.steps.mix import FOUND
from quantmill.steps.statement import Params, statement
from quantmill.steps.step import Inputs, Step

FORMAT = 1
PAGE = "page/"  # what the names of the inputs that are no weights begin with


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `SHA256SUMS` (as coreutils' sha256sum reads it), `release.json`, `provenance.json` (an in-toto statement
    with SLSA provenance) and the recipe and lock that the release was made by.

    `inputs`: `<FTYPE>/<file name>` for each released file, `<FTYPE>.json` for its verify report, `bench.json` where
    there is one, `<TARGET>.search.json` of files whose types were searched, and `page/<path>` for what lies beside the
    weights. All outputs are deterministic: sorted, without dates or machines. What verify measured of a file is listed
    beside it.
    """
    files = {name.partition("/")[2]: (name, artifact) for name, artifact in inputs.items() if "/" in name}
    listing: list[dict[str, Any]] = []
    for path, (name, artifact) in files.items():
        ftype = None if name.startswith(PAGE) else name.partition("/")[0]
        entry = {"name": path, "input": name, "ftype": ftype, "sha256": artifact.sha256, "size": artifact.size}
        measured = json.loads(inputs[f"{ftype}.json"].path.read_bytes()).get("quality") if ftype else None
        shown = {key: value for key, value in (measured or {}).items() if key != "tensors"}
        found = f"{ftype}.{FOUND}"
        mix = json.loads(inputs[found].path.read_bytes()) if found in inputs else {}
        told = {key: value for key, value in mix.items() if key not in ("bytes", "makeup")}
        listing.append(entry | ({"quality": shown} if shown else {}) | ({"mix": told} if told else {}))
    for name, text in params["texts"].items():
        data = text.encode()
        listing.append({"name": name, "ftype": None, "sha256": _write(out / name, data), "size": len(data)})
    listing.sort(key=lambda entry: str(entry["name"]))
    release = {
        "format": FORMAT,
        "recipe": params["recipe"],
        "prefix": params["prefix"],
        "llama_cpp": params["llama_cpp"],
        "tag": params["tag"],
        "repo": params["repo"],
        **({"llama_cpp_proof": params["proof"]} if "proof" in params else {}),
        **({"imatrix": params["imatrix"]} if "imatrix" in params else {}),
        **({"requantized": params["requantized"]} if "requantized" in params else {}),
        **({"tools": params["tools"]} if "tools" in params else {}),
        "files": listing,
    }
    sums = "".join(f"{entry['sha256']}  {entry['name']}\n" for entry in listing)
    subjects = {entry["name"]: entry["sha256"] for entry in listing}
    subjects[LISTING] = _write(out / LISTING, _json(release))
    subjects[SUMS] = _write(out / SUMS, sums.encode())
    byproducts = {name: artifact.sha256 for name, artifact in inputs.items() if "/" not in name}
    _write(out / "provenance.json", _json(statement(subjects, byproducts, params)))
    context.progress(1, 1)


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()


def _write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def outputs(params: Mapping[str, Any], inputs: Collection[str], found: Collection[str]) -> Collection[str]:
    """The listings, the statement, recipe and lock."""
    return (LISTING, SUMS, "provenance.json", *params["texts"])


STEP = Step(
    name="release",
    version=3,
    doc="lay the release's files out, with their digests",
    run=run,
    outputs=outputs,
    lays_out=True,
    here=True,  # below the folder of who builds
    reads_bytes=False,
)
