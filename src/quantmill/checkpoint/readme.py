"""The YAML front matter of a model card."""

import importlib
import re
from itertools import chain
from pathlib import Path
from typing import Any

from quantmill.architectures.errors import DamagedModel
from quantmill.errors import way

_LENGTH = 2_000_000  # characters; the longest known, with results of thousands of benchmarks, have a quarter of them
_MORE = 100_000  # characters and values that aliases may add to a text
_DEPTH = 100
_DIGITS = 4300  # of a number, Python's own limit; YAML's numbers in base 60 would go around it


class UnreadablePage(DamagedModel):
    """The front matter of a model's page cannot be read, by its `problem`; a release can be made without it."""

    def __init__(self, name: str, problem: str, right: str = "correct it") -> None:
        by = way("`[base] readme = false`", "--no-readme")
        self.problem = f"{name}'s front matter {problem}"
        super().__init__(f"{self.problem}; {right}, or leave the file out{' by ' * bool(by)}{by}")


def load(path: Path) -> dict[str, Any]:
    """The table between the `---` lines that begin README.md; empty when there is none. Raises UnreadablePage.

    As llama.cpp's converter does, the list item `no` is the language and not the truth value, and a tab, which YAML
    forbids, is two spaces (there since 2025). A byte that is no UTF-8 is taken for Latin-1; an editor's mark at the
    beginning and spaces behind `---` are nothing. A line that nothing ends is a rule across the page.
    """
    lines = _text(path.read_bytes()).splitlines()
    if not lines or lines[0].rstrip() != "---":
        return {}
    end = next((index for index, line in enumerate(lines) if index and line.rstrip() == "---"), None)
    text = "\n".join(lines[1:end]).replace("\t", "  ") + "\n"
    if len(text) > _LENGTH:
        raise UnreadablePage(path.name, f"has {len(text):,} characters, and at most {_LENGTH:,} are read", "shorten it")
    yaml: Any = importlib.import_module("yaml")  # late: it costs an import that a plan without a card can do without
    try:
        loader = yaml.SafeLoader(text.replace("- no\n", '- "no"\n'))
        tree = loader.get_single_node()
        _check(tree, 2 * len(text) + _MORE, path.name)
        data = loader.construct_document(tree) if tree is not None else None
    except UnreadablePage:
        raise
    except Exception as error:  # besides YAMLError, whatever Python's own types say of a stranger's value for them
        if end is None:
            return {}
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 2}" if mark is not None else ""
        raise UnreadablePage(path.name, f"is not valid YAML{where}") from None
    return data if isinstance(data, dict) else {}


def _text(data: bytes) -> str:
    found = data.decode("utf-8-sig", errors="surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda byte: chr(ord(byte[0]) - 0xDC00), found)


def _check(tree: Any, left: int, name: str) -> None:
    """Raises UnreadablePage unless the tree has at most `left` characters and values, with its aliases and merges
    written out; a few lines can make terabytes."""
    waiting, deepest = [(tree, 0)] if tree is not None else [], 0
    while waiting:
        node, depth = waiting.pop()
        value = node.value
        left, deepest = left - 1 - len(value), max(deepest, depth)
        if left < 0:
            raise UnreadablePage(name, "has aliases that make it endless", "write out what they stand for")
        if isinstance(value, list):
            parts = chain.from_iterable(value) if node.id == "mapping" else value
            waiting += [(part, depth + 1) for part in parts]
        elif node.tag == "tag:yaml.org,2002:int" and len(value) > _DIGITS:
            raise UnreadablePage(name, "has a number of thousands of digits", "write a text")
    if deepest > _DEPTH:
        raise UnreadablePage(name, f"has values in values, {deepest} deep, and {_DEPTH} at most are read")
