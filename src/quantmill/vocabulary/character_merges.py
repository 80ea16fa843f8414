"""Gemma 4's BPE of characters as llama.cpp runs it (b11312): lines, not words, are merged, and spaces are signs."""

import re
from collections.abc import Iterable, Mapping

from quantmill.vocabulary.bpe import ranks
from quantmill.vocabulary.merges import merge
from quantmill.vocabulary.sentencepiece import CONTROL, NORMAL

_SPACE = "\u2581"
_ENDS = ("<eos>", "<turn|>", "<|tool_response>")  # control tokens, whatever the file says
_LINES = re.compile(r"[^\n]+|\n+")


def retyped(ids: Mapping[str, int], types: list[int]) -> list[int]:
    """The tokens' types as llama.cpp has them for such a vocabulary."""
    types = [*types]
    for text in _ENDS:
        if text in ids:
            types[ids[text]] = CONTROL
    if _ENDS[-1] in ids and "</s>" in ids:
        types[ids["</s>"]] = NORMAL
    return types


class CharacterLevel:
    """`ids`: token text → id; `merges`: `left right`, the first in the list first."""

    def __init__(self, ids: Mapping[str, int], merges: Iterable[str]) -> None:
        self._ids, self._ranks = ids, ranks(merges)

    def encode(self, text: str, after_special: bool) -> list[int]:
        """The ids of a text without special tokens. What comes before it does not matter."""
        return [id_ for line in _LINES.findall(text.replace(" ", _SPACE)) for id_ in self._line(line)]

    def _line(self, line: str) -> Iterable[int]:
        if line.startswith("\n") and line in self._ids:
            yield self._ids[line]
            return
        for symbol in merge(list(line), lambda left, right: self._ranks.get((left, right))):
            if symbol in self._ids:
                yield self._ids[symbol]
            else:
                names = (f"<0x{byte:02X}>" for byte in symbol.encode())
                yield from (self._ids[name] for name in names if name in self._ids)
