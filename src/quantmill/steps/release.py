"""release: the listing of a finished release, by name, size and sha256.

The weights themselves are laid out beside it by the build; this step only names them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, Context

FORMAT = 1
PAGE = "page/"  # what the names of the inputs that are pages begin with


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write `SHA256SUMS` (as coreutils' sha256sum reads it) and `release.json`.

    `inputs`: `<FTYPE>/<file name>` for each released file, `<FTYPE>.json` for its verify report, `page/README.md` and
    its translations. `params`: recipe, prefix, llama_cpp. Both outputs are deterministic: sorted, without dates or
    machines. What verify measured of a file is listed beside it.
    """
    files = {name.partition("/")[2]: (name, artifact) for name, artifact in inputs.items() if "/" in name}
    listing: list[dict[str, Any]] = []
    for path, (name, artifact) in sorted(files.items()):
        ftype = None if name.startswith(PAGE) else name.partition("/")[0]
        entry = {"name": path, "input": name, "ftype": ftype, "sha256": artifact.sha256, "size": artifact.size}
        measured = json.loads(inputs[f"{ftype}.json"].path.read_bytes()).get("quality") if ftype else None
        shown = {key: value for key, value in (measured or {}).items() if key != "tensors"}
        listing.append(entry | ({"quality": shown} if shown else {}))
    release = {"format": FORMAT, **params, "files": listing}
    (out / "release.json").write_text(json.dumps(release, indent=1) + "\n", encoding="utf-8")
    sums = "".join(f"{entry['sha256']}  {entry['name']}\n" for entry in listing)
    (out / "SHA256SUMS").write_text(sums, encoding="utf-8")
    context.progress(1, 1)
