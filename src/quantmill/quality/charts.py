"""The pictures of a release, as SVG: the same measurements give the same bytes, with the versions that pyproject.toml
pins.

Made by altair and drawn by vl-convert with a font that it brings.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert
from markupsafe import escape

from quantmill import released
from quantmill.quality.labels import SIZE, Box, places

# vl-convert brings the first, so that no machine measures text by another; the second is as wide, where a page is read.
FONT = "Liberation Sans, Arial, sans-serif"
BOTH = ", "  # between the names of one file
WIDTH, HEIGHT = 860, 520
ON_FRONT, OFF_FRONT, OTHER = "#3b6ea5", "#6a6a6a", "#b3461b"  # what a page's style has a dark form of
_NEAR = 16  # pixels between a name and its point from which on a line joins them


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


@dataclass(frozen=True)
class Mark:
    """A point of a picture of sizes: its name, and `note`, which is told of it under the pointer.

    `other`: it is of the second of two releases; `own_mix`: the file is of no ftype of llama.cpp's
    """

    name: str
    bytes: int
    value: float
    note: str
    other: bool = False
    own_mix: bool = False


def front(files: Sequence[FileQuality]) -> list[FileQuality]:
    """The Pareto front, smallest file first: those that no file of their size or smaller beats in KL divergence."""
    return [files[at] for at in released.front([(file.bytes, file.kld) for file in files])]


def size_against_kld(files: Sequence[FileQuality], searched: Collection[str] = ()) -> str:
    """File size against mean KL divergence, logarithmic, with the Pareto front as a line; those of `searched` types are
    diamonds. A file that loses nothing has no place on such an axis, and is left out."""
    files = [file for file in files if file.kld > 0] or files
    marks = [Mark(f.ftype, f.bytes, f.kld, "", own_mix=not {*searched}.isdisjoint(f.ftype.split(BOTH))) for f in files]
    return drawn(marks, KLD)


@dataclass(frozen=True)
class Axis:
    """What the points of a picture have beside their size. `rising`: more of it is better; `log`: as its logarithm,
    where all are positive."""

    id: str
    title: str
    log: bool = False
    rising: bool = False


KLD = Axis("size", "mean KL divergence to the base (nats a token)", log=True)
PERPLEXITY = Axis("perplexity", "perplexity")


def drawn(marks: Sequence[Mark], axis: Axis) -> str:
    """File size against what `axis` says, with the Pareto front of each release as a line."""
    unit, scale = ("GB", 1e9) if max(mark.bytes for mark in marks) >= 1e8 else ("MB", 1e6)
    log = axis.log and all(mark.value > 0 for mark in marks)
    x, x_back = _scale([mark.bytes / scale for mark in marks], WIDTH, False)
    y, y_back = _scale([mark.value for mark in marks], HEIGHT, log)
    rows: list[dict[str, Any]] = []
    lines: list[tuple[float, float]] = []
    for other in (False, True):
        own = [mark for mark in marks if mark.other is other]
        sign = -1 if axis.rising else 1
        best = {own[at] for at in released.front([(mark.bytes, sign * mark.value) for mark in own])}
        lines += sorted((x(mark.bytes / scale), HEIGHT - y(mark.value)) for mark in best)
        for mark in own:
            color = OTHER if other else ON_FRONT if mark in best else OFF_FRONT
            shape = "diamond" if mark.own_mix else "triangle-up" if other else "circle"
            rows.append(
                {"name": mark.name, "size": mark.bytes / scale, "value": mark.value, "color": color, "shape": shape}
                | {"front": str(int(other)) if mark in best else "", "note": mark.note or mark.name}
            )
    pixels = [(x(row["size"]), HEIGHT - y(row["value"]), str(row["name"])) for row in rows]
    for row, (at, up, _), box in zip(rows, pixels, places(pixels, Box(0, 0, WIDTH, HEIGHT), lines), strict=True):
        across, down = box.middle
        row |= {"label_x": x_back(across), "label_y": y_back(HEIGHT - down)}
        edge = min(max(at, box.left), box.right), min(max(up, box.top), box.bottom)
        far = math.dist(edge, (at, up)) > _NEAR
        row |= {"far": far, "edge_x": x_back(edge[0]), "edge_y": y_back(HEIGHT - edge[1])}
    x_axis, y_axis = alt.Axis(tickCount=10), alt.Axis(titlePadding=12)  # where a page's font is wider than ours
    encoded = {
        "x": alt.X("size:Q", title=f"file size ({unit})", scale=_fixed(x_back, WIDTH, False), axis=x_axis),
        "y": alt.Y("value:Q", title=axis.title, scale=_fixed(y_back, HEIGHT, log), axis=y_axis),
        "color": alt.Color("color:N", scale=None),
    }
    base = _chart(rows).encode(**encoded)
    line = base.transform_filter("datum.front != ''").mark_line(opacity=0.45).encode(order="size:Q", detail="front:N")
    marked = base.mark_point(filled=True, size=55, opacity=1).encode(
        shape=alt.Shape("shape:N", scale=None), description="note:N"
    )
    joined = base.transform_filter("datum.far").mark_rule(opacity=0.5).encode(x="edge_x:Q", y="edge_y:Q")
    joined = joined.encode(x2="size", y2="value")
    names = base.mark_text(fontSize=SIZE).encode(x="label_x:Q", y="label_y:Q", text="name:N")
    return _svg((line + joined + marked + names).properties(width=WIDTH, height=HEIGHT), axis.id)


def tensor_errors(file: FileQuality) -> str | None:
    """A heat map of one file: each tensor's error by layer and kind; None when no tensor of a layer was quantized."""
    errors = [(name, 100 * error, f"{100 * error:.3g} %") for name, error in file.tensors.items()]
    return heat_map(errors, "error (%)", file.ftype.partition(BOTH)[0])


def heat_map(tensors: Iterable[tuple[str, float, str]], title: str, name: str) -> str | None:
    """A value for each tensor of a layer, by layer and kind, with what is told of it; None for no such tensor."""
    rows = []
    for tensor, value, note in tensors:
        parts = tensor.split(".")
        if parts[0] == "blk" and len(parts) > 2 and parts[1].isdecimal():
            kind = ".".join(parts[2:-1]) or parts[2]
            rows.append({"layer": int(parts[1]), "kind": kind, "value": value, "note": f"{tensor}: {note}"})
    if not rows:
        return None
    chart = _chart(rows).encode(
        x=alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        y=alt.Y("kind:N", title=None),
        color=alt.Color("value:Q", title=title, scale=alt.Scale(scheme="viridis")),
        description="note:N",
    )
    return _svg(chart.mark_rect().properties(width=640, height=alt.Step(18)), name, 24)


def in_page(drawing: str, label: str) -> str:
    """A drawing as a page has it: a picture with a name for who hears it, and what is told of each mark under the
    pointer."""
    held = re.sub(r'<(path|g)( aria-label="[^"]*")? role="graphics-[a-z]*"', _named, drawing)
    held = re.sub(
        r'<path data-note="([^"]*)" aria-roledescription="[^"]*"([^>]*)/>', r"<path\2><title>\1</title></path>", held
    )
    held = re.sub(r' (aria-[a-z]*|role|data-note)="[^"]*"', "", held)
    return held.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def _named(found: re.Match[str]) -> str:
    note = (found[2] or "").removeprefix(' aria-label="').removesuffix('"')
    return f'<{found[1]} data-note="{note}"' if found[1] == "path" and note else f"<{found[1]}"


def _scale(
    values: Sequence[float], pixels: int, log: bool
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """From values to pixels and back, such that the points lie within the picture's edges."""
    least, most = min(values), max(values)
    if log:
        least, most = math.log(least), math.log(most)
    spread = (most - least) or abs(most) or 1.0
    start, length = least - 0.08 * spread, 1.16 * spread

    def there(value: float) -> float:
        return ((math.log(value) if log else value) - start) / length * pixels

    def back(at: float) -> float:
        found = start + at / pixels * length
        return math.exp(found) if log else found

    return there, back


def _fixed(back: Callable[[float], float], pixels: int, log: bool) -> Any:
    return alt.Scale(domain=[back(0), back(pixels)], nice=False, zero=False, type="log" if log else "linear")


def _chart(rows: Sequence[Mapping[str, Any]]) -> Any:
    return alt.Chart(alt.Data(values=list(rows)))  # type: ignore[no-untyped-call]  # altair's has no types


def _svg(chart: Any, name: str, left: int = 5) -> str:
    """`name` begins the picture's own ids, numbered through a process otherwise; on a page they must differ."""
    edge = {"left": left, "top": 5, "right": 24, "bottom": 5}  # texts are drawn wider than measured by other fonts
    styled = chart.configure(font=FONT, background="white", padding=edge).configure_view(stroke=None)
    shown = str(vl_convert.vegalite_to_svg(styled.to_json(), vl_version=vl_convert.get_vegalite_versions()[-1]))
    ids = dict.fromkeys(re.findall(r'\bid="([^"]+)"', shown))
    for number, id_ in enumerate(ids):
        shown = re.sub(rf'(id="|url\(#){re.escape(id_)}\b', rf"\g<1>{name}-{number}", shown)
    return shown + "\n"
