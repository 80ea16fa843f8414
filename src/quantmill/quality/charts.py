"""The pictures of a release, as SVG: the same measurements give the same bytes, with the versions that pyproject.toml
pins.

Made by altair and drawn by vl-convert with a font that it brings.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from quantmill import released

# vl-convert brings the first, so that no machine measures text by another; the second is as wide, where a page is read.
FONT = "Liberation Sans, Arial, sans-serif"
BOTH = ", "  # between the names of one file


@dataclass(frozen=True)
class FileQuality:
    """One file; the base's own is not among them.

    `ftype`: its name, or several with BOTH between them
    `bytes`: of all its parts
    `bits`: bits a weight
    `kld`: the mean, in nats
    `perplexity`: of the file
    `tensors`: the errors by tensor name
    """

    ftype: str
    bytes: int
    bits: float
    kld: float
    perplexity: float
    tensors: Mapping[str, float]


def front(files: Sequence[FileQuality]) -> list[FileQuality]:
    """The Pareto front, smallest file first: those that no file of their size or smaller beats in KL divergence."""
    return [files[at] for at in released.front([(file.bytes, file.kld) for file in files])]


def size_against_kld(files: Sequence[FileQuality], searched: Collection[str] = ()) -> str:
    """File size against mean KL divergence, logarithmic, with the Pareto front as a line; those of `searched` types are
    diamonds. A file that loses nothing has no place on such an axis, and is left out."""
    files = [file for file in files if file.kld > 0] or files
    best = {file.ftype for file in front(files)}
    unit, scale = ("GB", 1e9) if max(f.bytes for f in files) >= 1e8 else ("MB", 1e6)
    rows = [{"ftype": f.ftype, "size": f.bytes / scale, "kld": f.kld, "front": f.ftype in best} for f in files]
    x = alt.X("size:Q", title=f"file size ({unit})", scale=alt.Scale(zero=False, padding=24))
    lossy = alt.Scale(type="log" if files[0].kld > 0 else "linear", padding=12)
    y = alt.Y("kld:Q", title="mean KL divergence to the base (nats a token)", scale=lossy)
    base = _chart(rows).encode(x=x, y=y)
    line = base.transform_filter("datum.front").mark_line(color="#4c78a8", opacity=0.5).encode(order="size:Q")
    colour = alt.condition("datum.front", alt.value("#4c78a8"), alt.value("#999999"))
    points = base.mark_point(filled=True, size=50, opacity=1).encode(color=colour)
    if searched:
        for row, file in zip(rows, files, strict=True):
            row["searched"] = not {*searched}.isdisjoint(file.ftype.split(BOTH))
        points = points.encode(shape=alt.condition("datum.searched", alt.value("diamond"), alt.value("circle")))
    # The front falls to the right: there is room below it for the names on it, and above for the others.
    below, above = {"align": "right", "dx": -7, "dy": 9}, {"align": "left", "dx": 7, "dy": -5}
    names = [
        base.transform_filter(f"datum.front == {on}")
        .mark_text(fontSize=10, color=shade, **offset)
        .encode(text="ftype:N")
        for on, shade, offset in (("true", "#4c78a8", below), ("false", "#888888", above))
    ]
    return _svg((line + points + names[0] + names[1]).properties(width=860, height=560), "size")


def perplexity_increase(files: Sequence[FileQuality], base: float) -> str:
    """How much each file's perplexity is above the base's, in per cent, smallest file last."""
    rows = [{"ftype": f.ftype, "delta": 100 * (f.perplexity / base - 1)} for f in sorted(files, key=lambda f: -f.bytes)]
    chart = _chart(rows).encode(
        x=alt.X("delta:Q", title="perplexity above the base's (%)"),
        y=alt.Y("ftype:N", title=None, sort=None),
    )
    names = chart.mark_text(align="left", dx=4, fontSize=10).encode(text=alt.Text("delta:Q", format="+.2f"))
    return _svg((chart.mark_bar(color="#4c78a8") + names).properties(width=640, height=alt.Step(18)), "perplexity")


def tensor_errors(file: FileQuality) -> str | None:
    """A heat map of one file: each tensor's error by layer and kind; None when no tensor of a layer was quantized."""
    rows = []
    for name, error in file.tensors.items():
        parts = name.split(".")
        if parts[0] == "blk":
            rows.append({"layer": int(parts[1]), "kind": ".".join(parts[2:-1]), "error": 100 * error})
    if not rows:
        return None
    chart = _chart(rows).encode(
        x=alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        y=alt.Y("kind:N", title=None),
        color=alt.Color("error:Q", title="error (%)", scale=alt.Scale(scheme="viridis")),
    )
    return _svg(chart.mark_rect().properties(width=640, height=alt.Step(18)), file.ftype.partition(BOTH)[0])


def _chart(rows: list[dict[str, Any]]) -> Any:
    return alt.Chart(alt.Data(values=rows))  # type: ignore[no-untyped-call]  # altair's has no types


def _svg(chart: Any, name: str) -> str:
    """`name` begins the picture's own ids, numbered through a process otherwise; on a page they must differ."""
    styled = chart.configure(font=FONT, background="white").configure_view(stroke=None)
    drawn = str(vl_convert.vegalite_to_svg(styled.to_json(), vl_version=vl_convert.get_vegalite_versions()[-1]))
    ids = dict.fromkeys(re.findall(r'\bid="([^"]+)"', drawn))
    for number, id_ in enumerate(ids):
        drawn = re.sub(rf'(id="|url\(#){re.escape(id_)}\b', rf"\g<1>{name}-{number}", drawn)
    return drawn + "\n"
