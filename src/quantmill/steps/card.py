"""card: the release's page, README.md and its translations."""

import json
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from quantmill.artifact import Context
from quantmill.steps.mix import FOUND
from quantmill.steps.report import TARGETS
from quantmill.steps.step import Inputs, Step

CHART = "chart.svg"


class Params(TypedDict):
    """What `recipe.page_params` makes of a recipe and its lock, and the labels of the files, `ftypes`; `projectors` are
    types by file name."""

    prefix: str
    llama_cpp: str
    base: str
    on_hub: bool
    repo: str | None
    quantized_by: str | None
    pipeline_tag: str
    front: dict[str, Any]
    calibration: list[list[str]]
    imatrix: bool
    tied: bool
    shape: dict[str, int] | None
    max_size: int
    credits: list[str]
    chat: dict[str, Any]
    unknown_architecture: NotRequired[bool]
    text_alone: NotRequired[bool]
    ftypes: list[str]
    projectors: NotRequired[dict[str, str]]
    searched: NotRequired[dict[str, Any]]
    notes: NotRequired[dict[str, Any]]
    name: NotRequired[str]
    base_model: NotRequired[list[str]]
    parents: NotRequired[list[str]]
    recipe: NotRequired[str]
    thumbnail: NotRequired[str]
    support: NotRequired[str]
    extra: NotRequired[str]
    private: NotRequired[bool]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `README.md`, `README.zh-CN.md`, `README.zh-TW.md` and `README.ja.md`.

    Of files whose types were searched, `<TARGET>.search.json` and `targets.json` tell.
    `inputs`: `<FTYPE>/<file name>` for each released file (names and sizes are used), `<FTYPE>.json` for its verify
    report, preflight's `makeup.json`, and where there are such, `mmproj/<file name>` of projectors, `bench.json`,
    `chart.svg` and the imatrix's report, `imatrix.json`.
    """
    from quantmill.card.card_facts import facts
    from quantmill.card.catalogue import LANGUAGES, page_name
    from quantmill.card.page import render
    from quantmill.released import ReleasedFile, bench, quality, rival

    files, makeup = [], _json(inputs, "makeup.json") or {}
    targets = (_json(inputs, TARGETS) or {}).get("targets", {})
    for ftype in params["ftypes"]:
        parts = {n.partition("/")[2]: a for n, a in inputs.items() if n.startswith(f"{ftype}/")}
        name = min(parts)
        if len(parts) > 1:
            name = name.partition("/")[0] + "/"
        found = _json(inputs, f"{ftype}.{FOUND}") or {}
        made = found.get("makeup") or makeup.get(ftype, {})
        files.append(
            ReleasedFile(
                name,
                ftype,
                sum(a.size for a in parts.values()),
                len(parts),
                quality(_json(inputs, f"{ftype}.json")),
                bits=made.get("bits_per_weight", 0.0),
                others=made.get("others", 0.0),
                weights=made.get("types", ""),
                digest=" ".join(parts[part].sha256 for part in sorted(parts)),
                kind=found.get("kind", ""),
                rival=rival(targets.get(ftype)),
            )
        )
    chart = CHART if CHART in inputs else None
    left_out = (_json(inputs, "imatrix.json") or {}).get("left_out", ())
    projectors = [
        ReleasedFile(name, type_, inputs[f"mmproj/{name}"].size, 1)
        for name, type_ in params.get("projectors", {}).items()
    ]
    page = facts(params, files, bench(_json(inputs, "bench.json")), chart, len(left_out), projectors)
    for language in LANGUAGES:
        (out / page_name(language)).write_text(render(page, language), encoding="utf-8")
    context.progress(1, 1)


def _json(inputs: Inputs, name: str) -> Any:
    return json.loads(inputs[name].path.read_bytes()) if name in inputs else None


STEP = Step(
    name="card",
    version=6,
    doc="write the release's page, in four languages",
    run=run,
    outputs=("README.md", "README.zh-CN.md", "README.zh-TW.md", "README.ja.md"),
    reads_bytes=False,
)
