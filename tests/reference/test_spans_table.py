"""docs/reference.md has the table of spans that the records say; as a program this file writes it."""

import re
import sys
from itertools import pairwise
from pathlib import Path

from quantmill.reference.spans import module_of, offered

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"
BEGIN, END = "| Tags | What changed |", "\n\n"


def table() -> str:
    """A row a span: its tags, and its file's first sentence after them."""
    rows = [BEGIN, "|---|---|"]
    for reference in offered():
        module = sys.modules[module_of(reference.first)]
        text = " ".join((module.__doc__ or "").split())
        changed = text.split(": ", 1)[1].split(". ")[0].rstrip(".")
        rows.append(f"| {reference} | {changed[0].upper()}{changed[1:]} |")
    return "\n".join(rows)


def test_the_page_has_the_spans() -> None:
    assert table() in PAGE.read_text()


def test_tags_between_spans_are_told() -> None:
    gaps = [f"b{one.last + 1} to b{two.first - 1}" for one, two in pairwise(offered())]
    text = re.sub(r"\s+", " ", PAGE.read_text())
    assert f"Not offered, since no library of these tags was compared: {', '.join(gaps)}." in text


if __name__ == "__main__":
    page = PAGE.read_text()
    start = page.index(BEGIN)
    PAGE.write_text(page[:start] + table() + page[page.index(END, start) :])
