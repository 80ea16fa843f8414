"""A vocabulary as tiktoken's ranks, tiktoken.model, with special tokens behind them: Kimi's.

Its own Python code, which is not run, calls a special token without a text of its own after its id.
"""

import base64
import binascii
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from quantmill.architectures.errors import TokenizerError
from quantmill.architectures.json_file import read_file
from quantmill.vocabulary.byte_level import Token, byte_of
from quantmill.vocabulary.sentencepiece import CONTROL, NORMAL, UNUSED

FILE, CLASS, PRE = "tiktoken.model", "TikTokenTokenizer", "kimi-k2"
_SPECIAL = 258  # ids behind the ranks that are special tokens


def ranks(path: Path) -> dict[bytes, int]:
    """Tokens and their ranks, which are their ids, in the file's order."""
    found: dict[bytes, int] = {}
    for number, line in enumerate(read_file(path, FILE, TokenizerError).splitlines(), 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            found[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise TokenizerError(f"{FILE}: line {number} is no token in base64 and its rank; fetch it again") from None
    if sorted(found.values()) != list(range(len(found))) or b"" in found:
        raise TokenizerError(f"{FILE}: its {len(found)} tokens have not one rank each, from 0; fetch it again")
    return found


def tokens(found: Mapping[bytes, int], settings: Mapping[str, Any], size: int) -> list[Token]:
    """(text, type) for every id below `size`; what tokenizer_config.json does not name is a reserved token."""
    stated = settings.get("added_tokens_decoder") or {}
    if not isinstance(stated, Mapping) or not all(isinstance(token, Mapping) for token in stated.values()):
        raise TokenizerError("tokenizer_config.json's `added_tokens_decoder` is no table of tokens; fetch it again")
    named = {id_: str(token.get("content")) for id_, token in stated.items()}
    places = range(len(found), len(found) + _SPECIAL)
    special = {named.get(str(id_), f"<|reserved_token_{id_}|>"): id_ for id_ in places}
    texts = {id_: text for text, id_ in {**{text_of(token): rank for token, rank in found.items()}, **special}.items()}
    if len(found) > size:
        raise TokenizerError(f"{FILE} has {len(found)} tokens, and config.json's `vocab_size` is {size}")
    control = set(special.values())
    return [
        (texts[id_], CONTROL if id_ in control else NORMAL) if id_ in texts else (f"[PAD{id_}]", UNUSED)
        for id_ in range(size)
    ]


def merges(found: Mapping[bytes, int]) -> list[str]:
    """For each token the two that it is made of, where two are left when those of lower rank are joined."""
    made = (_parts(found, token, rank) for token, rank in found.items() if len(token) > 1)
    return [" ".join(map(text_of, parts)) for parts in made if len(parts) == 2]


def text_of(token: bytes) -> str:
    """The token in GPT-2's alphabet."""
    return "".join(map(_alphabet().__getitem__, token))


@cache
def _alphabet() -> dict[int, str]:
    return {byte: char for char, byte in byte_of().items()}


def _parts(found: Mapping[bytes, int], token: bytes, limit: int) -> list[bytes]:
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 1:
        joined = [found.get(a + b, limit) for a, b in pairwise(parts)]
        least = min(joined)
        if least >= limit:
            break
        at = joined.index(least)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts
