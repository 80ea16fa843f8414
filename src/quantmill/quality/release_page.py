"""A release as it lies there, or two beside each other, as one page."""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from quantmill.errors import printable
from quantmill.quality import charts
from quantmill.quality.charts import Axis, Mark, heat_map, in_page
from quantmill.quality.html_report import ABSENT, COLUMNS, note, number, picture, row, sized
from quantmill.quality.pages import cut, rendered
from quantmill.released import ReleasedFile, ReleaseFacts, front

LONGEST, LABEL = 160, 40  # characters of what is told, of a name in a picture
MOST_DRAWN, MOST_ROWS, MOST_LINES = 60, 400, 300  # points and maps of a release, rows of a table, lines that differ
MOST_TESTS = 4
_WHOLE = ("F32", "F16", "BF16")  # so much larger than the others that these would be drawn in a corner
MOST_MAPPED = 40_000  # tensors of all maps


def render_release(one: ReleaseFacts, other: ReleaseFacts | None = None, version: str = "", home: str = "") -> str:
    """The page of a release, or of two; of a site that is entered at `home`, if it is of one."""
    both = [one] if other is None else [one, other]
    shown = [_shown(release) for release in both]
    return rendered(
        "release.html",
        title=" and ".join(cut(release.place, LONGEST) for release in both),
        releases=shown,
        columns=COLUMNS,
        charts=list(_charts(both)),
        compared=_compared(one, other) if other else None,
        version=version,
        home=home,
    )


def _title(key: str) -> str:
    if key == "llama_cpp_proof":
        return "equal to llama.cpp's by"
    return key.replace("llama_cpp", "llama.cpp").replace("_", " ")


def _called(release: ReleaseFacts) -> dict[str, str]:
    """What each file is called, by its name: its ftype, where no other has it."""
    counts = Counter(file.ftype for file in release.files)
    return {file.name: file.ftype if counts[file.ftype] == 1 else file.name for file in release.files}


def names_of(release: ReleaseFacts) -> dict[str, str]:
    """The same as the page shows it."""
    return {name: cut(printable(text), LABEL) for name, text in _called(release).items()}


def quality_of(file: ReleasedFile) -> dict[str, Any]:
    found = file.quality
    if found is None:
        return {}
    told = {"perplexity": found.perplexity, "kld_error": found.kld_error, "top1": found.top1}
    told |= {"delta_p_rms": found.delta_p_rms}
    usual = {key: value for key, value in told.items() if value is not None and 0 <= value < 1e30}
    return usual | {"kld": {name: value for name, value in found.kld.items() if 0 <= value < 1e30}}


def _base_perplexity(release: ReleaseFacts) -> float | None:
    """The perplexity of the file that loses nothing, the base's own."""
    exact = [quality_of(file) for file in release.files if file.quality]
    found = [each.get("perplexity") for each in exact if not each["kld"].get("mean")]
    return next((value for value in found if value), None)


def _shown(release: ReleaseFacts) -> dict[str, Any]:
    names, base = names_of(release), _base_perplexity(release)
    measured = [file for file in release.files if quality_of(file).get("kld", {}).get("mean") is not None]
    best = {measured[at].name for at in front([(f.bytes, quality_of(f)["kld"]["mean"]) for f in measured])}
    rows = [
        row(
            names[file.name],
            file.bytes,
            file.bits,
            quality_of(file),
            base,
            file.name in best,
        )
        for file in release.files[:MOST_ROWS]
    ]
    maps: list[tuple[str, Markup, list[tuple[str, int]]]] = []
    left = MOST_MAPPED
    for file in release.files[:MOST_DRAWN]:
        tensors = release.types.get(file.name, {})
        left -= len(tensors)
        bits = [
            (cut(printable(name), LONGEST), bits, f"{type_}, {bits:.4g} bits a weight")
            for name, (type_, bits) in tensors.items()
        ]
        drawn = heat_map(bits, "bits", f"map{len(maps)}") if left >= 0 else None
        if drawn:
            label = f"types of {names[file.name]} by tensor and layer"
            counts = Counter(type_ for type_, _ in tensors.values())
            maps.append((names[file.name], Markup(in_page(drawn, label)), counts.most_common(8)))
    return {
        "place": cut(release.place, LONGEST),
        "files": len(release.files),
        "bytes": sized(sum(file.bytes for file in release.files)),
        "settings": [(_title(key), cut(value, 400)) for key, value in release.settings.items()],
        "base_perplexity": base,
        "notes": [cut(each, 400) for each in release.notes[:MOST_LINES]],
        "audits": [cut(each, 700) for each in release.audits],
        "rows": rows,
        "measured": bool(measured),
        "more": max(0, len(release.files) - MOST_ROWS),
        "bench": _bench(release),
        "maps": maps,
        "digests": [
            (cut(f.name, LONGEST), digest) for f in release.files[:MOST_ROWS] for digest in f.digest.split()[:1]
        ],
    }


def _bench(release: ReleaseFacts) -> dict[str, Any] | None:
    found = release.bench
    if found is None:
        return None
    tests = list(dict.fromkeys(each.test for each in found.rows))[:MOST_TESTS]
    rates = {(each.ftype, each.test): each for each in found.rows}
    rows = []
    for ftype in list(dict.fromkeys(each.ftype for each in found.rows))[:MOST_ROWS]:
        cells = []
        for test in tests:
            rate = rates.get((ftype, test))
            spread = f" ± {rate.deviation:.1f}" if rate and rate.deviation is not None else ""
            cells.append((f"{rate.rate:.1f}{spread}", rate.rate) if rate else (ABSENT, None))
        rows.append({"name": cut(ftype, LABEL), "front": False, "cells": cells})
    where = f"{cut(found.cpu, LONGEST)}, {found.threads} threads, {cut(found.backend, LABEL)}"
    return {"where": where, "columns": ["file", *(f"{cut(test, LABEL)} (t/s)" for test in tests)], "rows": rows}


def _charts(releases: Sequence[ReleaseFacts]) -> Iterator[tuple[str, str, Markup]]:
    """Of each picture its title, what it says, and itself."""
    values: list[tuple[str, str, Axis, Any]] = [
        ("Size and KL divergence", "Nearer to the base is lower.", charts.KLD, lambda q: q.get("kld", {}).get("mean")),
        (
            "Size and perplexity",
            "Lower is better. What is not quantized is in the table alone.",
            charts.PERPLEXITY,
            lambda q: q.get("perplexity"),
        ),
    ]
    for title, said, axis, value in values:
        marks = []
        for release, file, name in _drawn(releases):
            found = value(quality_of(file))
            if found is not None and (found > 0 or not axis.log):
                told = note(name, file.bytes, quality_of(file))
                marks.append(_mark(releases, release, file, name, found, told))
        if marks:
            yield title, said, picture(_once(marks), axis)
    tests = list(dict.fromkeys(each.test for release in releases if release.bench for each in release.bench.rows))
    for at, test in enumerate(tests[:MOST_TESTS]):
        marks = []
        for release, file, name in _drawn(releases):
            rows = release.bench.rows if release.bench else ()
            rate = next((each.rate for each in rows if each.ftype == file.ftype and each.test == test), None)
            if rate is not None and 0 <= rate < 1e30:
                marks.append(_mark(releases, release, file, name, rate, f"{name}: {sized(file.bytes)}, {rate:.1f} t/s"))
        if marks:
            shown = cut(printable(test), LABEL)
            axis = Axis(f"speed{at}", f"tokens a second ({shown})", rising=True)
            yield (
                f"Size and speed: {shown}",
                "On the machine that measured; higher is faster.",
                picture(_once(marks), axis),
            )


def _drawn(releases: Sequence[ReleaseFacts]) -> Iterator[tuple[ReleaseFacts, ReleasedFile, str]]:
    for release in releases:
        names = names_of(release)
        quantized = [file for file in release.files if file.ftype not in _WHOLE] or release.files
        yield from ((release, file, names[file.name]) for file in quantized[:MOST_DRAWN])


def _mark(
    releases: Sequence[ReleaseFacts], release: ReleaseFacts, file: ReleasedFile, name: str, value: float, told: str
) -> Mark:
    which = f"{'AB'[release is not releases[0]]}, " if len(releases) > 1 else ""
    other = release is not releases[0]
    return Mark(name, file.bytes, value, which + told, other, file.ftype in release.own_mixes)


def _once(marks: Sequence[Mark]) -> list[Mark]:
    """Without the second release's points that lie on the first's."""
    first = {(mark.name, mark.bytes, mark.value) for mark in marks if not mark.other}
    return [mark for mark in marks if not mark.other or (mark.name, mark.bytes, mark.value) not in first]


def _compared(one: ReleaseFacts, other: ReleaseFacts) -> dict[str, Any]:
    keys = list(dict.fromkeys([*one.settings, *other.settings]))
    settings = []
    for key in keys:
        pair = [cut(release.settings.get(key, ABSENT), LONGEST) for release in (one, other)]
        settings.append((_title(key), *pair, one.settings.get(key) != other.settings.get(key)))
    lines = difflib.unified_diff(one.recipe.splitlines(), other.recipe.splitlines(), "A", "B", lineterm="", n=2)
    diff = [cut(line, LONGEST) for line in lines] if len(one.recipe) + len(other.recipe) < 400_000 else []
    beside = []
    for name in sorted({*one.beside, *other.beside}):
        said = _same(one.beside.get(name), other.beside.get(name))
        if said != "same":
            beside.append((cut(name, LONGEST), said))
    return {
        "settings": settings,
        "columns": (
            "file",
            "size A",
            "size B",
            "B against A",
            "KLD A",
            "KLD B",
            "perplexity A",
            "perplexity B",
            "bytes",
            "types that differ",
        ),
        "rows": list(_pairs(one, other))[:MOST_ROWS],
        "recipe": diff[:MOST_LINES],
        "beside": beside[:MOST_LINES],
        "more_beside": max(0, len(beside) - MOST_LINES),
    }


def _same(a: str | None, b: str | None) -> str:
    """What is to be said of two digests; None for a file that is not there, empty for what is not known."""
    if a is None or b is None:
        return "only in A" if b is None else "only in B"
    return "not known" if not a or not b else "same" if a == b else "other"


def _pairs(one: ReleaseFacts, other: ReleaseFacts) -> Iterator[dict[str, Any]]:
    both = [(release, _called(release)) for release in (one, other)]
    mine, theirs = ({name: file for file in r.files for name in [called[file.name]]} for r, called in both)
    order = sorted(
        {*mine, *theirs}, key=lambda name: (-max(f.bytes for f in (mine.get(name), theirs.get(name)) if f), name)
    )
    for name in order:
        a, b = mine.get(name), theirs.get(name)
        sizes = [(sized(file.bytes), file.bytes) if file else (ABSENT, None) for file in (a, b)]
        change = 100 * (b.bytes / a.bytes - 1) if a and b and a.bytes else None
        qualities = [quality_of(file) if file else {} for file in (a, b)]
        said = _same(a.digest if a else None, b.digest if b else None)
        cells = [*sizes, number(change, "+.2f", " %")]
        cells += [number(quality.get("kld", {}).get("mean"), "#.3g") for quality in qualities]
        cells += [number(quality.get("perplexity"), ".4f") for quality in qualities]
        cells += [(said, None), _types_cell(one, other, a, b)]
        yield {"name": cut(printable(name), LABEL), "front": False, "odd": said != "same", "cells": cells}


def _types_cell(
    one: ReleaseFacts, other: ReleaseFacts, a: ReleasedFile | None, b: ReleasedFile | None
) -> tuple[str, float | None]:
    """How many tensors have other types, or are in one file alone."""
    types: list[Mapping[str, tuple[str, float]]] = [
        release.types.get(file.name, {}) if file else {} for release, file in ((one, a), (other, b))
    ]
    if not all(types):
        return ABSENT, None
    differing = sum(types[0].get(name) != types[1].get(name) for name in {*types[0], *types[1]})
    return f"{differing} of {len({*types[0], *types[1]})}", differing
