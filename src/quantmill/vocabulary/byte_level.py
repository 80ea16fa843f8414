"""Byte-level BPE (GPT-2's kind): the tokens and their types as llama.cpp wants them."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from quantmill.architectures.errors import TokenizerError
from quantmill.vocabulary.hf_tokenizer import AddedToken, HFTokenizer
from quantmill.vocabulary.sentencepiece import CONTROL, NORMAL, UNUSED, USER_DEFINED

Token = tuple[str, int]

# Added tokens that models forgot to mark as special.
_CONTROL = frozenset({"<pad>", "<mask>", "<2mass>", "[@BOS@]"})
_CONTROL_BRACKETS = (("<|", "|>"), ("<\uff5c", "\uff5c>"), ("<unused", ">"))  # U+FF5C: DeepSeek's bar
# What transformers' clean-up of spaces replaces, in its order.
_TIDY = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def looks_special(text: str) -> bool:
    """Whether an added token is a control token by its look."""
    return text in _CONTROL or any(text.startswith(begin) and text.endswith(end) for begin, end in _CONTROL_BRACKETS)


@cache
def byte_of() -> dict[str, int]:
    """GPT-2's alphabet: the character that stands for each byte. Printable Latin-1 stands for itself."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in own)
    return {chr(byte): byte for byte in own} | {chr(256 + index): byte for index, byte in enumerate(others)}


def tokens(tokenizer: HFTokenizer, vocab_size: int) -> list[Token]:
    """(text, type) for every id below `vocab_size`; ids without a token are `[PAD…]`, unused.

    Raises TokenizerError when a token's id is not below `vocab_size`.
    """
    by_id: dict[int, str] = {id_: text for text, id_ in tokenizer.vocab.items()}
    by_id |= {id_: token.content for id_, token in tokenizer.added.items()}
    check_ids(by_id, vocab_size)
    return list(_tokens(tokenizer, by_id, vocab_size))


def check_ids(by_id: Mapping[int, str], vocab_size: int) -> None:
    """Raises TokenizerError unless each of the tokens has an id below `vocab_size`."""
    last = max(by_id, default=-1)
    if last >= vocab_size:
        raise TokenizerError(
            f"the tokenizer's token {by_id[last]!r} has the id {last}, but config.json's `vocab_size` is {vocab_size}"
        )


def _tokens(tokenizer: HFTokenizer, by_id: dict[int, str], vocab_size: int) -> Iterator[Token]:
    # The converter asks by text whether a token is an added one, and by id for its flags.
    for id_ in range(vocab_size):
        if id_ not in by_id:
            yield f"[PAD{id_}]", UNUSED
        elif id_ in tokenizer.added:
            yield _added(tokenizer, tokenizer.added[id_])
        else:
            yield by_id[id_], NORMAL


def _added(tokenizer: HFTokenizer, token: AddedToken) -> Token:
    text = token.content if token.normalized else _decoded(tokenizer, token.content)
    if token.special or looks_special(text):
        return text, CONTROL
    return text.replace("▁", " "), USER_DEFINED


def _decoded(tokenizer: HFTokenizer, text: str) -> str:
    """An added token as text that was encoded and decoded again: what the converter writes for raw tokens."""
    if _has_byte_level(tokenizer.data.get("decoder")):
        alphabet = byte_of()
        if all(character in alphabet for character in text):
            text = bytes(alphabet[character] for character in text).decode(errors="replace")
    if tokenizer.tidies:
        for spaced in _TIDY:
            text = text.replace(spaced, spaced.strip(" "))
    return text


def _has_byte_level(decoder: Any) -> bool:
    if not isinstance(decoder, dict):
        return False
    children = decoder.get("decoders")
    return decoder.get("type") == "ByteLevel" or (isinstance(children, list) and any(map(_has_byte_level, children)))
