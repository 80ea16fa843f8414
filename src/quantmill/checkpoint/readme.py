"""The YAML front matter of a model card."""

import importlib
import re
from itertools import chain
from pathlib import Path
from typing import Any

from quantmill.architectures.errors import DamagedModel, ModelError

_LENGTH = 2_000_000  # characters; the longest known, with results of thousands of benchmarks, have a quarter of them
_MORE = 100_000  # characters and values that aliases may add to a text
_DEPTH = 100
_DIGITS = 4300  # of a number, Python's own limit; YAML's numbers in base 60 would go around it


def load(path: Path) -> dict[str, Any]:
    """The table between the `---` lines that begin README.md; empty when there is none. Raises ModelError for bad YAML.

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
        raise DamagedModel(
            f"{path.name}'s front matter has {len(text):,} characters; the most that are read are {_LENGTH:,}"
        )
    yaml: Any = importlib.import_module("yaml")  # late: it costs an import that a plan without a card can do without
    try:
        loader = yaml.SafeLoader(text.replace("- no\n", '- "no"\n'))
        tree = loader.get_single_node()
        _check(tree, 2 * len(text) + _MORE, path.name)
        data = loader.construct_document(tree) if tree is not None else None
    except ModelError:
        raise
    except Exception as error:  # besides YAMLError, whatever Python's own types say of a stranger's value for them
        if end is None:
            return {}
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 2}" if mark is not None else ""
        right = "correct it, or leave the file out by `[base] readme = false` (convert: --no-readme)"
        raise DamagedModel(f"{path.name}'s front matter is not valid YAML{where}; {right}") from None
    return data if isinstance(data, dict) else {}


def _text(data: bytes) -> str:
    found = data.decode("utf-8-sig", errors="surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda byte: chr(ord(byte[0]) - 0xDC00), found)


def _check(tree: Any, left: int, name: str) -> None:
    """Raises ModelError unless the tree has at most `left` characters and values with its aliases and merges written
    out; a few lines can make terabytes."""
    waiting, deepest = [(tree, 0)] if tree is not None else [], 0
    while waiting:
        node, depth = waiting.pop()
        value = node.value
        left, deepest = left - 1 - len(value), max(deepest, depth)
        if left < 0:
            raise DamagedModel(f"{name}'s front matter has aliases that make it endless; write out what they stand for")
        if isinstance(value, list):
            parts = chain.from_iterable(value) if node.id == "mapping" else value
            waiting += [(part, depth + 1) for part in parts]
        elif node.tag == "tag:yaml.org,2002:int" and len(value) > _DIGITS:
            raise DamagedModel(f"{name}'s front matter has a number of thousands of digits; a text would be right")
    if deepest > _DEPTH:
        raise DamagedModel(f"{name}'s front matter has values in values, {deepest} deep; {_DEPTH} at most are read")
