"""A release's measurements as one page that needs nothing beside it, and as the picture for the model card."""

import json
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import jinja2
from markupsafe import Markup

from quantmill import released
from quantmill.quality.charts import BOTH, FileQuality, front, perplexity_increase, size_against_kld, tensor_errors

ABSENT = "\N{EN DASH}"  # what was not measured


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
    chart = size_against_kld(found, targets)
    maps = [(file.ftype, Markup(drawn)) for file in found[::-1] if (drawn := tensor_errors(file))]
    rows = _rows(found, measured, base)
    page = _template().render(
        title=title,
        llama_cpp=llama_cpp,
        perplexity=f"{base['perplexity']:.4f} ± {base['perplexity_error']:.4f}",
        tokens=base["tokens"],
        rows=rows,
        size_chart=Markup(chart),
        perplexity_chart=Markup(perplexity_increase(found, base["perplexity"])),
        maps=maps,
        by=base.get("by", ""),
        absent=any(ABSENT in (*row["kld"].values(), row["delta_p"]) for row in rows),
        twins=any(BOTH in file.ftype for file in found),
        targets=[_target(name, told) for name, told in targets.items()],
    )
    return {"report.html": page, "chart.svg": chart}


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


def _template() -> jinja2.Template:
    text = files("quantmill.quality").joinpath("report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(text)


def _rows(
    found: list[FileQuality], measured: Mapping[str, Mapping[str, Any]], base: Mapping[str, Any]
) -> list[dict[str, Any]]:
    best = {file.ftype for file in front(found)}
    rows = []
    for file in found:
        quality = measured[file.ftype]
        size = f"{file.bytes / 1e9:.2f} GB" if file.bytes >= 1e8 else f"{file.bytes / 1e6:.2f} MB"
        rows.append(
            {
                "ftype": file.ftype,
                "front": file.ftype in best,
                "size": size,
                "bits": f"{file.bits:.2f}",
                "kld": dict.fromkeys(released.KLD, ABSENT)
                | {name: f"{value:#.3g}" for name, value in quality["kld"].items()},
                "kld_error": f"{100 * quality['kld_error'] / quality['kld']['mean']:.1f} %" if file.kld else "0",
                "perplexity": f"{file.perplexity:.4f}",
                "above": f"{100 * (file.perplexity / base['perplexity'] - 1):+.2f} %",
                "top1": f"{100 * quality['top1']:.2f} %",
                "delta_p": f"{100 * quality['delta_p_rms']:.2f} %" if "delta_p_rms" in quality else ABSENT,
            }
        )
    return rows
