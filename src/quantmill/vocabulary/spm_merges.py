"""SentencePiece's BPE as llama.cpp runs it (b5490): characters merged by the score of what they become.

llama.cpp merges a whole text at once. Two characters that stand side by side in no token are never merged into one, so
the text may be cut there first; pieces repeat, and each is merged once.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from quantmill.architectures.errors import TokenizerError
from quantmill.vocabulary.merges import merge
from quantmill.vocabulary.unicode_classes import code_points

_SPACE = "▁"
_KNOWN = 1 << 18


class SentencePiece:
    """`ids`: token text → id; `scores`: by id, the highest is merged first."""

    def __init__(self, ids: Mapping[str, int], scores: Sequence[float], space_prefix: bool) -> None:
        self._ids, self._scores, self._space_prefix = ids, scores, space_prefix
        self._found: dict[str, list[int]] = {}
        points = code_points("\0".join(ids)).astype(np.uint64)
        pairs = np.unique(points[:-1] << np.uint64(32) | points[1:])
        inside = (pairs >> np.uint64(32) != 0) & (pairs & np.uint64(0xFFFFFFFF) != 0)
        if any("\0" in text for text in ids):
            inside[:] = True  # where tokens end is not known, but more neighbours do no harm
        self._neighbours = pairs[inside]

    def encode(self, text: str, after_special: bool) -> list[int]:
        """The ids of a text without special tokens; a space is put before it after a special token or at the start."""
        if self._space_prefix and after_special:
            text = " " + text
        text = text.replace(" ", _SPACE)
        found: list[int] = []
        begin = 0
        for end in self._ends(text):
            piece = text[begin:end]
            known = self._found.get(piece)
            if known is None:
                known = self._piece(piece)
                if len(self._found) < _KNOWN:
                    self._found[piece] = known
            found += known
            begin = end
        return found

    def _ends(self, text: str) -> list[int]:
        points = code_points(text).astype(np.uint64)
        pairs = points[:-1] << np.uint64(32) | points[1:]
        at = np.searchsorted(self._neighbours, pairs)
        at[at == self._neighbours.size] = 0
        apart = self._neighbours[at] != pairs if self._neighbours.size else np.ones(pairs.size, bool)
        return [*(np.flatnonzero(apart) + 1).tolist(), len(text)]

    def _rank(self, left: str, right: str) -> float | None:
        id_ = self._ids.get(left + right)
        return None if id_ is None else -self._scores[id_]

    def _piece(self, piece: str) -> list[int]:
        found = []
        for symbol in merge(list(piece), self._rank):
            id_ = self._ids.get(symbol)
            found += [id_] if id_ is not None else [self._byte(byte) for byte in symbol.encode()]
        return found

    def _byte(self, byte: int) -> int:
        for text in (f"<0x{byte:02X}>", chr(byte) if byte < 0x80 else ""):
            if text in self._ids:
                return self._ids[text]
        raise TokenizerError(
            f"the vocabulary has neither a token for the byte 0x{byte:02X} nor for the character that it is part of"
        )
