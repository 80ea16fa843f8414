"""card: the release's page, README.md and its translations."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, Context
from quantmill.card.card_facts import facts
from quantmill.card.catalogue import LANGUAGES, page_name
from quantmill.card.page import render
from quantmill.listing import ReleasedFile, bench, quality

CHART = "chart.svg"


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write `README.md`, `README.zh-CN.md`, `README.zh-TW.md` and `README.ja.md`.

    `inputs`: `<FTYPE>/<file name>` for each released file (names and sizes are used), `<FTYPE>.json` for its verify
    report, and where there are such, `bench.json` and `chart.svg`. `params`: what page.params makes of the recipe and
    its lock, and `ftypes`.
    """
    files = []
    for ftype in params["ftypes"]:
        parts = {n.partition("/")[2]: a for n, a in inputs.items() if n.startswith(f"{ftype}/")}
        name = min(parts)
        if len(parts) > 1:
            name = name.partition("/")[0] + "/"
        measured = quality(_json(inputs, f"{ftype}.json"))
        files.append(ReleasedFile(name, ftype, sum(a.size for a in parts.values()), len(parts), measured))
    chart = CHART if CHART in inputs else None
    found = facts(params, files, bench(_json(inputs, "bench.json")), chart)
    for language in LANGUAGES:
        (out / page_name(language)).write_text(render(found, language), encoding="utf-8")
    context.progress(1, 1)


def _json(inputs: Mapping[str, Artifact], name: str) -> Any:
    return json.loads(inputs[name].path.read_bytes()) if name in inputs else None
