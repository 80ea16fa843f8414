"""A release's measurements as one page that needs nothing beside it, and as the picture for the model card."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from markupsafe import Markup

from quantmill import released
from quantmill.quality import charts
from quantmill.quality.charts import BOTH, FileQuality, Mark, front, in_page, size_against_kld, tensor_errors
from quantmill.quality.pages import rendered

ABSENT = "\N{EN DASH}"  # what was not measured
COLUMNS = ("file", "size", "bits/weight", "KLD", "median", "99.9 %", "max", "perplexity", "above base", "top-1", "Δp")
Cell = tuple[str, float | None]  # what is shown, and what a column is sorted by


def render(
    title: str,
    llama_cpp: str,
    base: Mapping[str, Any],
    measured: Mapping[str, Mapping[str, Any]],
    targets: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> dict[str, str]:
    """`report.html` and `chart.svg`. `base` is the base's evaluation.json; `measured` holds, by ftype, `bytes` and
    `bits` of the file and its quality as JSON. Files that agree in all of that are one, under all of their names.
    `targets`: what rivals.told_of says of those whose types were searched. Nothing of it depends on the machine or the
    day."""
    measured = _once(measured)
    found = [
        FileQuality(ftype, q["bytes"], q["bits"], q["kld"]["mean"], q["perplexity"], q["tensors"])
        for ftype, q in measured.items()
    ]
    found.sort(key=lambda file: (-file.bytes, file.ftype))  # not as a recipe lists them, which no key holds
    best = {file.ftype for file in front(found)}
    rows = [
        row(file.ftype, file.bytes, file.bits, measured[file.ftype], base["perplexity"], file.ftype in best)
        for file in found
    ]
    maps = [
        (file.ftype, Markup(in_page(drawn, f"errors of {file.ftype} by tensor and layer")))
        for file in found[::-1]
        if (drawn := tensor_errors(file))
    ]
    told = {file.ftype: note(file.ftype, file.bytes, measured[file.ftype]) for file in found}
    own = {file.ftype for file in found if not {*targets}.isdisjoint(file.ftype.split(BOTH))}
    by_kld = [Mark(f.ftype, f.bytes, f.kld, told[f.ftype], own_mix=f.ftype in own) for f in lossy(found)]
    by_perplexity = [Mark(f.ftype, f.bytes, f.perplexity, told[f.ftype], own_mix=f.ftype in own) for f in found]
    page = rendered(
        "report.html",
        title=title,
        llama_cpp=llama_cpp,
        perplexity=f"{base['perplexity']:.4f} ± {base['perplexity_error']:.4f}",
        tokens=base["tokens"],
        columns=COLUMNS,
        rows=rows,
        size_chart=picture(by_kld, charts.KLD),
        perplexity_chart=picture(by_perplexity, charts.PERPLEXITY),
        maps=maps,
        by=base.get("by", ""),
        absent=any((ABSENT, None) in each["cells"] for each in rows),
        twins=any(BOTH in file.ftype for file in found),
        targets=[_target(name, told) for name, told in targets.items()],
    )
    return {"report.html": page, "chart.svg": size_against_kld(found, targets)}


def picture(marks: Sequence[Mark], axis: charts.Axis) -> Markup:
    """Sizes against what the axis says, for a page."""
    return Markup(in_page(charts.drawn(marks, axis), f"file size against {axis.title}"))


def lossy(files: Sequence[FileQuality]) -> Sequence[FileQuality]:
    """Those that lose something, or all where none does."""
    return [file for file in files if file.kld > 0] or files


def note(name: str, size: int, quality: Mapping[str, Any]) -> str:
    """What is told of a file under the pointer."""
    kld = quality.get("kld") or {}
    said = [("KLD", kld.get("mean"), "#.3g"), ("perplexity", quality.get("perplexity"), ".4f")]
    numbers = [f"{title} {value:{form}}" for title, value, form in said if value is not None]
    if (top1 := quality.get("top1")) is not None:
        numbers.append(f"top-1 {100 * top1:.2f} %")
    return f"{name}: {', '.join([sized(size), *numbers])}"


def sized(size: int) -> str:
    """Bytes as the page has them."""
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"


def row(
    name: str, size: int, bits: float, quality: Mapping[str, Any], base: float | None, is_front: bool
) -> dict[str, Any]:
    """A row of the table of COLUMNS; `base` is the base's perplexity, if it is known."""
    kld = quality.get("kld") or {}
    cells: list[Cell] = [(sized(size), size), number(bits or None, ".2f")]
    mean, error = kld.get("mean"), quality.get("kld_error")
    relative = f" ± {100 * error / mean:.1f} %" if mean and error is not None else " ± 0" if error is not None else ""
    cells.append((f"{mean:#.3g}{relative}", mean) if mean is not None else (ABSENT, None))
    cells += [number(kld.get(each), "#.3g") for each in ("median", "p999", "max")]
    perplexity = quality.get("perplexity")
    cells.append(number(perplexity, ".4f"))
    above = 100 * (perplexity / base - 1) if perplexity is not None and base else None
    cells.append(number(above, "+.2f", " %"))
    for key in ("top1", "delta_p_rms"):
        value = quality.get(key)
        cells.append(number(None if value is None else 100 * value, ".2f", " %"))
    return {"name": name, "front": is_front, "cells": cells}


def number(value: float | None, form: str, unit: str = "") -> Cell:
    """A cell of a number that may not be known."""
    return (ABSENT, None) if value is None else (f"{value:{form}}{unit}", value)


def _target(name: str, told: Mapping[str, Any]) -> dict[str, str]:
    """A file that was searched for, beside the best stock file of its size."""
    beside = told.get("beside")
    return {
        "name": name,
        "kld": f"{told['kld']:#.3g}",
        "predicted": f"{told['predicted_kld']:#.3g}",
        "beside": f"{beside['ftype']}, {beside['kld']:#.3g}" if beside else ABSENT,
        "share": f"{told['kld'] / beside['kld']:.2f}" if beside and beside["kld"] else ABSENT,
        "better": "no" if "finding" in told else "yes",
    }


def _once(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Each file of those whose weights are the same once, under their names, the plainest first."""
    names: dict[str, list[str]] = {}
    for ftype in sorted(measured, key=released.plainness):
        names.setdefault(json.dumps(measured[ftype], sort_keys=True), []).append(ftype)
    return {BOTH.join(same): measured[same[0]] for same in names.values()}
