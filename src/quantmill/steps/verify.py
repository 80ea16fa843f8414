"""verify: a finished file's structure, types, scales and digest, before anyone downloads it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, Context
from quantmill.gguf.verifying import verify_files


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """One GGUF file or all its shards in, under the names of the release; params: `types`, tensor → type name, or none.

    Writes `verify.json`, the report, the same for the same bytes. Raises a GGUFError for the first thing that is wrong.
    """
    files = {name: artifact.path for name, artifact in inputs.items()}
    digests = {name: artifact.sha256 for name, artifact in inputs.items()}
    report = verify_files(files, params.get("types"), digests=digests, progress=context.progress)
    text = json.dumps(report.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (out / "verify.json").write_text(text, encoding="utf-8")
