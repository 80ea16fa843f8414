"""A tokenizer.json run by Hugging Face's tokenizers, for a pattern that has no name in llama.cpp."""

import json
from collections.abc import Mapping
from typing import Any

from quantmill.architectures.errors import TokenizerError


class TokenizerJSON:
    """`data` is tokenizer.json; its own special tokens are text here, for they are found before it is asked."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer as Backend

        try:
            self._backend = Backend.from_str(json.dumps({**data, "truncation": None, "padding": None}))
        except Exception as error:  # the library raises nothing narrower
            first = str(error).splitlines()[0]
            raise TokenizerError(f"tokenizer.json cannot be used: {first}; take the model's own anew") from None
        self._backend.encode_special_tokens = True

    def encode(self, text: str, after_special: bool) -> list[int]:
        """The ids of a text without special tokens."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def begins_with(self, id_: int) -> bool:
        """Whether it puts this special token in front of a text."""
        return list(self._backend.encode("a", add_special_tokens=True).ids)[:1] == [id_]
