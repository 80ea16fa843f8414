"""report: the measurements of all files as a page and a picture, and what became of those that were searched for."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from quantmill.artifact import Context
from quantmill.steps.mix import FOUND
from quantmill.steps.step import Inputs, Step

PAGES = ("report.html", "chart.svg")
TARGETS = "targets.json"


class Params(TypedDict):
    """What the page says of the release. `targets`: the files whose types were searched; `strict`: one that is no
    better than a stock file of its size fails."""

    title: str
    llama_cpp: str
    targets: NotRequired[list[str]]
    strict: NotRequired[bool]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `report.html` and `chart.svg`; where there are targets, `targets.json` with `findings` of them.

    `inputs`: `evaluation.json` of the base, `<FTYPE>.json`, the verify reports of the measured files, and
    `<TARGET>.search.json`, what the mix step tells. Raises QualityError.
    """
    from quantmill.quality.errors import QualityError
    from quantmill.quality.html_report import render
    from quantmill.quality.rivals import told_of

    base = _json(inputs, "evaluation.json")
    measured, found = dict[str, Any](), dict[str, Any]()
    for name in inputs:
        if name.endswith(f".{FOUND}"):
            found[name.removesuffix(f".{FOUND}")] = _json(inputs, name)
        elif name != "evaluation.json":
            report = _json(inputs, name)
            measured[name.removesuffix(".json")] = {**report["quality"], "bytes": report["size"]}
    told = told_of({name: found[name] for name in sorted(params.get("targets", ()))}, measured)
    if told:
        findings = [one["finding"] for one in told.values() if "finding" in one]
        if findings and params.get("strict"):
            raise QualityError(f"{findings[0]}, or take `strict` out of the recipe")
        text = json.dumps({"findings": findings, "targets": told}, indent=1, ensure_ascii=False)
        (out / TARGETS).write_text(text + "\n", encoding="utf-8")
    for name, page in render(params["title"], params["llama_cpp"], base, measured, told).items():
        (out / name).write_text(page, encoding="utf-8")
    context.progress(1, 1)


def _json(inputs: Inputs, name: str) -> Any:
    return json.loads(inputs[name].path.read_bytes())


def outputs(params: Mapping[str, Any], inputs: Collection[str], found: Collection[str]) -> Collection[str]:
    """The pages, and what is told of targets."""
    return (*PAGES, TARGETS) if params.get("targets") else PAGES


STEP = Step(
    name="report",
    version=5,
    doc="draw the measured quality of all files",
    run=run,
    outputs=outputs,
    findings=TARGETS,
)
