"""The YAML front matter of a model card."""

import importlib
from pathlib import Path
from typing import Any

from quantmill.architectures.errors import ModelError

_MORE = 10_000_000  # characters and values that aliases may add to a text


def load(path: Path) -> dict[str, Any]:
    """The table between the `---` lines that begin README.md; empty when there is none. Raises ModelError for bad YAML.

    As llama.cpp's converter does, the list item `no` is the language and not the truth value.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ModelError(f"{path.name} is not UTF-8 text; a model card is") from None
    if not lines or lines[0] != "---":
        return {}
    end = next((index for index, line in enumerate(lines) if index and line == "---"), len(lines))
    text = "\n".join(lines[1:end]) + "\n"
    yaml: Any = importlib.import_module("yaml")  # late: it costs an import that a plan without a card can do without
    try:
        data = yaml.safe_load(text.replace("- no\n", '- "no"\n'))
    except Exception as error:  # besides YAMLError, whatever Python's own types say of a stranger's value for them
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 2}" if mark is not None else ""
        raise ModelError(f"{path.name}'s front matter is not valid YAML{where}") from None
    if not _ends(data, len(text) + _MORE):
        raise ModelError(f"{path.name}'s front matter has aliases that make it endless; write out what they stand for")
    return data if isinstance(data, dict) else {}


def _ends(data: Any, left: int) -> bool:
    """Whether it has fewer characters and values than `left` with its aliases written out; a few lines can make
    terabytes."""
    waiting = [data]
    while waiting and left > 0:
        value = waiting.pop()
        left -= len(value) if isinstance(value, str | list | dict) else 1
        waiting += value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return left > 0
