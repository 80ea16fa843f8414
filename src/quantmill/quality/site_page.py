"""The pages of a site: an index of releases and of all their files, and the page of each release."""

from collections.abc import Sequence
from typing import Any

from quantmill.quality.html_report import ABSENT, number, sized
from quantmill.quality.pages import cut, rendered
from quantmill.quality.release_page import LONGEST, MOST_ROWS, names_of, quality_of, render_release
from quantmill.released import ReleasedFile, ReleaseFacts

INDEX = "index.html"
RELEASES = ("release", "files", "smallest", "largest", "bits/weight", "least KLD", "audits", "llama.cpp", "tag")
FILES = ("release", "file", "size", "bits/weight", "KLD", "top-1", "perplexity")


def render_site(releases: Sequence[tuple[str, ReleaseFacts]], title: str, version: str) -> dict[str, str]:
    """Every page by its file's name; `releases` are in the index's order, each with the file of its page."""
    shown = [_shown(at, name, facts) for at, (name, facts) in enumerate(releases)]
    rows = [row for release in shown for row in release["rows"]]
    index = rendered(
        "site.html",
        title=title,
        releases=shown,
        rows=rows,
        types=sorted({row["type"] for row in rows}),
        bytes=sized(sum(file.bytes for _, facts in releases for file in facts.files)),
        columns=RELEASES,
        file_columns=FILES,
        version=version,
    )
    pages = {name: render_release(facts, version=version, home=f"../{INDEX}") for name, facts in releases}
    return {INDEX: index} | pages


def _shown(at: int, page: str, facts: ReleaseFacts) -> dict[str, Any]:
    name, tag = cut(facts.place, LONGEST), cut(facts.settings.get("tag", ABSENT), LONGEST)
    sizes, bits = [file.bytes for file in facts.files], [file.bits for file in facts.files if file.bits]
    lost = [kld for file in facts.files if (kld := quality_of(file).get("kld", {}).get("mean"))]
    cells = [
        (str(len(sizes)), len(sizes)),
        (sized(min(sizes)), min(sizes)),
        (sized(max(sizes)), max(sizes)),
        (f"{min(bits):.2f}\N{EN DASH}{max(bits):.2f}", min(bits)) if bits else (ABSENT, None),
        number(min(lost, default=None), "#.3g"),
        (_audits(facts), None),
        (cut(facts.settings.get("llama_cpp", ABSENT), LONGEST), None),
        (tag, None),
    ]
    said = [facts.place, *facts.settings.values(), *facts.results]
    names = names_of(facts)
    return {
        "at": at,
        "page": page,
        "name": name,
        "cells": cells,
        "text": cut(" ".join(said).lower(), 2000),
        "rows": [_row(at, page, name, names[file.name], file) for file in facts.files[:MOST_ROWS]],
        "more": max(0, len(facts.files) - MOST_ROWS),
    }


def _row(at: int, page: str, release: str, name: str, file: ReleasedFile) -> dict[str, Any]:
    quality = quality_of(file)
    top1 = quality.get("top1")
    cells = [
        (name, None),
        (sized(file.bytes), file.bytes),
        number(file.bits or None, ".2f"),
        number(quality.get("kld", {}).get("mean"), "#.3g"),
        number(None if top1 is None else 100 * top1, ".2f", " %"),
        number(quality.get("perplexity"), ".4f"),
    ]
    told = cut(f"{name} {file.name}".lower(), LONGEST)
    return {
        "at": at, "page": page, "name": release, "cells": cells, "text": told, "bytes": file.bytes,
        "type": cut(file.ftype, LONGEST),
    }  # fmt: skip


def _audits(facts: ReleaseFacts) -> str:
    """What the statements beside a release come to."""
    if not facts.audits:
        return "none"
    counts = [(facts.results.count(word), word) for word in ("PASSED", "FAILED")]
    counts.append((len(facts.audits) - len(facts.results), "not of these files"))
    return ", ".join(f"{count} {word}" for count, word in counts if count)
