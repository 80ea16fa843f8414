"""report: the measurements of all files as a page and a picture."""

import json
from pathlib import Path
from typing import TypedDict

from quantmill.artifact import Context
from quantmill.steps.step import Inputs, Step


class Params(TypedDict):
    """What the page says of the release."""

    title: str
    llama_cpp: str


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `report.html` and `chart.svg`.

    `inputs`: `evaluation.json` of the base, and `<FTYPE>.json`, the verify reports of the measured files.
    """
    from quantmill.quality.html_report import render

    base = json.loads(inputs["evaluation.json"].path.read_bytes())
    measured = {}
    for name, artifact in inputs.items():
        if name != "evaluation.json":
            report = json.loads(artifact.path.read_bytes())
            measured[name.removesuffix(".json")] = {**report["quality"], "bytes": report["size"]}
    for name, text in render(params["title"], params["llama_cpp"], base, measured).items():
        (out / name).write_text(text, encoding="utf-8")
    context.progress(1, 1)


STEP = Step(
    name="report",
    version=5,
    doc="draw the measured quality of all files",
    run=run,
    outputs=("report.html", "chart.svg"),
)
