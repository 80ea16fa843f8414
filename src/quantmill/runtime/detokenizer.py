"""Tokens back to text, byte for byte; a character may need several tokens."""

import codecs
import re
from collections.abc import Mapping

from quantmill.gguf import KV
from quantmill.vocabulary.byte_level import byte_of

_CONTROL, _BYTE = 3, 6  # token types of GGUF
_SPACE = "\u2581"  # SentencePiece's


class Detokenizer:
    """Text of a model's tokens. Control tokens have none."""

    def __init__(self, metadata: Mapping[str, KV]) -> None:
        self._texts: list[str] = metadata["tokenizer.ggml.tokens"].value
        types = metadata.get("tokenizer.ggml.token_type")
        self._types: list[int] = types.value if types else [1] * len(self._texts)
        self._byte_level = metadata["tokenizer.ggml.model"].value == "gpt2"
        self._bytes = byte_of()
        self._pending = codecs.getincrementaldecoder("utf-8")("replace")

    def bytes_of(self, token: int) -> bytes:
        """What one token stands for."""
        text, kind = self._texts[token], self._types[token]
        if kind == _CONTROL:
            return b""
        if kind == _BYTE and (match := re.fullmatch(r"<0x([0-9A-F]{2})>", text)):
            return bytes([int(match[1], 16)])
        if self._byte_level and all(character in self._bytes for character in text):
            return bytes(self._bytes[character] for character in text)
        return text.replace(_SPACE, " ").encode()

    def text(self, token: int, *, last: bool = False) -> str:
        """The text that this token completes; with `last` also what never will be."""
        return self._pending.decode(self.bytes_of(token), last)
