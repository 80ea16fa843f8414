"""A tokenizer.json run by Hugging Face's tokenizers, for a pattern that has no name in llama.cpp."""

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from quantmill.architectures.errors import TokenizerError

_ALONE = threading.Lock()


class TokenizerJSON:
    """`data` is tokenizer.json; its own special tokens are text here, for they are found before it is asked."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer as Backend

        with _sentences("tokenizer.json cannot be used"):
            self._backend = Backend.from_str(json.dumps({**data, "truncation": None, "padding": None}))
        self._backend.encode_special_tokens = True

    def encode(self, text: str, after_special: bool) -> list[int]:
        """The ids of a text without special tokens."""
        return self._ids(text, add_special_tokens=False)

    def whole(self, text: str) -> list[int]:
        """The ids of a text with the special tokens that the post-processor puts around it."""
        return self._ids(text, add_special_tokens=True)

    def begins_with(self, id_: int) -> bool:
        """Whether it puts this special token in front of a text."""
        return self._ids("a", add_special_tokens=True)[:1] == [id_]

    def _ids(self, text: str, add_special_tokens: bool) -> list[int]:
        with _sentences("tokenizer.json's patterns cannot cut this text"):
            return list(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)


@contextlib.contextmanager
def _sentences(what: str) -> Iterator[None]:
    """Whatever the library raises, as a TokenizerError: errors, and Rust's panics, such as that of a pattern that has
    tried ten million ways. What Rust writes of a panic to file 2 is not let through."""
    with _ALONE, tempfile.TemporaryFile() as told:
        kept = os.dup(2)
        os.dup2(told.fileno(), 2)
        try:
            yield
        except BaseException as error:  # the library raises nothing narrower
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            told.truncate(0)
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise TokenizerError(f"{what}: {first}; take the model's own anew") from None
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            told.seek(0)
            with open(2, "wb", closefd=False) as others:  # what was written there beside us
                others.write(told.read())
