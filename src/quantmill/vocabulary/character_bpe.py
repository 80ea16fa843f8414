"""Gemma 4's BPE of characters (`tokenizer.ggml.model` gemma4): tokens and their types as llama.cpp wants them."""

import re
from collections.abc import Mapping

from quantmill.architectures.errors import TokenizerError, UnknownVocabulary
from quantmill.vocabulary.byte_level import Token, check_ids
from quantmill.vocabulary.hf_tokenizer import HFTokenizer, content
from quantmill.vocabulary.sentencepiece import BYTE, CONTROL, NORMAL, USER_DEFINED

SCORE = -1000.0  # of every token
_BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")
# Tokens that llama.cpp writes out, so that who reads an answer sees them.
_SHOWN = frozenset(
    ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>')
)


def tokens(tokenizer: HFTokenizer, vocab_size: int) -> list[Token]:
    """(text, type) for every id. Raises TokenizerError unless each has a token."""
    model = tokenizer.data.get("model")
    if not isinstance(model, Mapping) or not model.get("byte_fallback"):
        raise UnknownVocabulary(
            "tokenizer.json holds no BPE with `byte_fallback`, of which a gemma4's vocabulary is made"
        )
    base = {id_: text for text, id_ in tokenizer.vocab.items()}
    by_id = base | {id_: token.content for id_, token in tokenizer.added.items()}
    check_ids(by_id, vocab_size)
    if (lost := next((id_ for id_ in range(vocab_size) if id_ not in by_id), None)) is not None:
        raise TokenizerError(
            f"tokenizer.json has no token of the id {lost}, but config.json's `vocab_size` is {vocab_size}; each "
            "id below it needs one"
        )
    special = _special(tokenizer)
    return [(text, _type(text, id_ in base, text in special)) for id_, text in sorted(by_id.items())]


def _type(text: str, is_own: bool, is_special: bool) -> int:
    if text in _SHOWN:
        return USER_DEFINED
    if is_own and _BYTE.fullmatch(text):
        return BYTE
    return CONTROL if is_special else NORMAL if is_own else USER_DEFINED


def _special(tokenizer: HFTokenizer) -> set[str]:
    """The tokens that transformers takes for special: those with a use, not all that are marked."""
    more = tokenizer.config.get("extra_special_tokens")
    listed = more.values() if isinstance(more, Mapping) else more if isinstance(more, list) else ()
    return {*tokenizer.specials.values(), *(text for token in listed if (text := content(token)))}
