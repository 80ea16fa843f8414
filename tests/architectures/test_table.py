"""The page's table of architectures is the records'; run as a program it writes it anew."""

from collections.abc import Iterator
from pathlib import Path

from quantmill.architectures.known import ARCHITECTURES

PAGE = Path(__file__).parents[2] / "docs" / "new-architecture.md"
HEAD = "| architecture | convert | imatrix | quality | bench |"
OTHERS = "| any other | llama.cpp's | llama.cpp's | no | llama.cpp's |"


def rows() -> Iterator[str]:
    yield HEAD
    yield "| --- | --- | --- | --- | --- |"
    for name, known in sorted(ARCHITECTURES.items()):
        convert = "ours" if known.classes else "llama.cpp's"
        computed = ("ours", "ours", "ours") if known.is_computed else ("llama.cpp's", "no", "llama.cpp's")
        yield f"| `{name}` | {convert} | {' | '.join(computed)} |"
    yield OTHERS


def written(page: str) -> str:
    """The page with the table of the records."""
    before, _, rest = page.partition(HEAD)
    return before + "\n".join(rows()) + rest.partition(OTHERS)[2]


def test_the_pages_table_is_the_records() -> None:
    page = PAGE.read_text()
    assert page.count(HEAD) == page.count(OTHERS) == 1
    assert page == written(page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
