"""Docstrings that can be read: sentences of at most 35 words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import quantmill

PACKAGE = Path(quantmill.__file__).parent if quantmill.__file__ else Path()
LONGEST = 35  # words of a sentence
# A sentence ends where a list's item or a paragraph does, too.
END = re.compile(r"(?<=[.:;!?])\s+(?=[A-Z`\"'(0-9])|\n\s*\n|\n\s*(?=- |`\w+`: )")
WORD = re.compile(r"[^\s→=]*\w[^\s]*")


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """(line, sentence) of every docstring of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            for sentence in END.split(text):
                yield node.body[0].lineno, " ".join(sentence.split())


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_sentence_is_long(path: Path) -> None:
    long = [(line, text) for line, text in sentences(path) if len(WORD.findall(text)) > LONGEST]
    assert not long
