"""Byte-level BPE as llama.cpp runs it (b5490): words in GPT-2's alphabet of bytes, merged by rank."""

from collections.abc import Iterable, Mapping

from quantmill.vocabulary.byte_level import byte_of
from quantmill.vocabulary.merges import merge
from quantmill.vocabulary.words import Cutting, words

_KNOWN = 1 << 18  # words whose ids are remembered


def ranks(merges: Iterable[str]) -> dict[tuple[str, str], int]:
    """The places of pairs in a list of `left right`."""
    found: dict[tuple[str, str], int] = {}
    for rank, pair in enumerate(merges):
        at = pair.find(" ", 1)
        if at > 0:
            found.setdefault((pair[:at], pair[at + 1 :]), rank)
    return found


class ByteLevel:
    """`ids`: token text → id; `merges`: `left right`, the first in the list first."""

    def __init__(self, ids: Mapping[str, int], merges: Iterable[str], cutting: Cutting) -> None:
        self._ids, self._cutting, self._ranks = ids, cutting, ranks(merges)
        self._alphabet = {byte: sign for sign, byte in byte_of().items()}
        self._found: dict[str, list[int]] = {}

    def encode(self, text: str, after_special: bool) -> list[int]:
        """The ids of a text without special tokens. What comes before it does not matter."""
        found: list[int] = []
        for word in words(text, self._cutting):
            known = self._found.get(word)
            if known is None:
                known = self._word(word)
                if len(self._found) < _KNOWN:
                    self._found[word] = known
            found += known
        return found

    def _word(self, word: str) -> list[int]:
        signs = word.encode().decode("latin-1").translate(self._alphabet)
        if self._cutting.whole_words and signs in self._ids:
            return [self._ids[signs]]
        found = []
        for symbol in merge(list(signs), lambda left, right: self._ranks.get((left, right))):
            id_ = self._ids.get(symbol)
            # A symbol that is no token falls to the tokens of its UTF-8 bytes, of which only ASCII can be tokens; the
            # others leave no trace, there as here.
            found += [id_] if id_ is not None else [self._ids[sign] for sign in symbol if sign in self._ids]
        return found
