"""Strangers' texts in Markdown: what comes out of here is text and nothing else, on one line.

A page is made of names, licences and languages that other people wrote. `text` takes every sign that Markdown or HTML
would act on for what it looks like; `fence` shows a text of several lines as it is; `link` makes no link of what is not
an address on the web.
"""

import re
from collections.abc import Sequence

HARD = "&nbsp;"  # a space at which no browser breaks a narrow cell: a number stays with its unit
LENGTH = 300  # characters of a text that a page shows
_SIGNS = re.compile(r"([\\`*_\[\]|~$])")
_WORD_UNDERSCORE = re.compile(r"(?<=[A-Za-z0-9])\\_(?=[A-Za-z0-9])")  # within a word it is only an underscore
_BARE_ADDRESS = re.compile(r"(?i)(?:https?|ftp)://|www\.|mailto:|@")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.-]+(?::\d+)?(?:/[A-Za-z0-9._~!$&'*+,;=:@%/?#-]*)?")


def plain(value: str) -> str:
    """The text on one line, what cannot be printed as an escape, cut to LENGTH characters."""
    line = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in " ".join(value.split()))
    return line if len(line) <= LENGTH else f"{line[: LENGTH - 1]}…"


def text(value: str) -> str:
    """The text as Markdown that shows it, in a paragraph, a list or a table's cell."""
    found = _SIGNS.sub(r"\\\1", plain(value))
    found = _WORD_UNDERSCORE.sub("_", found).replace("&", "&amp;").replace("<", "&lt;")
    found = _BARE_ADDRESS.sub(lambda match: re.sub(r"([:.@])", r"\\\1", match[0], count=1), found)
    return re.sub(r"^(\d+(?=[.)])|(?=[-+=#>]))", r"\1\\", found)


def code(value: str) -> str:
    """The text as code within a line, in a table too."""
    line = plain(value).replace("|", "\u2502")
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if "`" in line else ""
    return f"{ticks}{space}{line}{space}{ticks}"


def link(shown: str, address: str) -> str:
    """A link that shows a text; the text alone when the address is none that a browser should follow."""
    if not _ADDRESS.fullmatch(address):
        return text(shown)
    return f"[{text(shown)}]({address})"


def addressed(value: str) -> str:
    """The text with the web addresses in it as links."""
    value, found, at = plain(value), "", 0
    for match in _ADDRESS.finditer(value):
        address = match[0].rstrip(".,;:!?'")
        found += f"{_part(value[at : match.start()])}<{address}>"
        at = match.start() + len(address)
    return found + _part(value[at:])


def _part(value: str) -> str:
    """Part of a line: the spaces at its ends stay."""
    before, after = value[: len(value) - len(value.lstrip())], value[len(value.rstrip()) :]
    return before + text(value) + after if value.strip() else value


def fence(lines: str, kind: str = "text") -> list[str]:
    """A block that shows the lines as they are; what cannot be printed as an escape."""
    shown = ["".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in line) for line in lines.split("\n")]
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", lines)), default=0))
    return [f"{ticks}{kind}", *shown, ticks]


def table(head: Sequence[str], align: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """A table; `align` is one of `l`, `r` for each column. Cells are Markdown already."""
    marks = {"l": "---", "r": "---:"}
    lines = [head, [marks[a] for a in align], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
