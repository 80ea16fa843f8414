"""report: the measurements of all files as a page and a picture."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, Context
from quantmill.quality.html_report import render


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write `report.html` and `chart.svg`.

    `inputs`: `evaluation.json` of the base, and `<FTYPE>.json`, the verify reports of the measured files. `params`:
    `title` and `llama_cpp`.
    """
    base = json.loads(inputs["evaluation.json"].path.read_bytes())
    measured = {}
    for name, artifact in inputs.items():
        if name != "evaluation.json":
            report = json.loads(artifact.path.read_bytes())
            measured[name.removesuffix(".json")] = {**report["quality"], "bytes": report["size"]}
    for name, text in render(params["title"], params["llama_cpp"], base, measured).items():
        (out / name).write_text(text, encoding="utf-8")
    context.progress(1, 1)
