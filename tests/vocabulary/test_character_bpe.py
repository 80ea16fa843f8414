"""Gemma 4's vocabulary where it is not what a file of it needs; whole ones are among convert_golden's classes."""

from typing import Any

import pytest

from convert_golden.classes.tokenizers import GEMMA4
from quantmill.architectures.errors import TokenizerError
from quantmill.vocabulary import character_bpe
from quantmill.vocabulary.hf_tokenizer import HFTokenizer
from quantmill.vocabulary.sentencepiece import BYTE, CONTROL, NORMAL, USER_DEFINED


def tokenizer(**model: Any) -> HFTokenizer:
    files = GEMMA4()
    data = files["tokenizer.json"]
    return HFTokenizer({**data, "model": {**data["model"], **model}}, files["tokenizer_config.json"])


def test_types() -> None:
    found = dict(character_bpe.tokens(tokenizer(), 279))
    assert [found[text] for text in ("<bos>", "<|think|>", "<|channel>", "<0x41>")] == [CONTROL, NORMAL, 4, BYTE]
    assert found["<|tool_call>"] == USER_DEFINED


def test_what_is_no_vocabulary_of_it() -> None:
    with pytest.raises(TokenizerError, match=r"^tokenizer\.json has no token of the id 279, but .* each id below it"):
        character_bpe.tokens(tokenizer(), 280)
    with pytest.raises(TokenizerError, match="has the id 278"):
        character_bpe.tokens(tokenizer(), 200)
    with pytest.raises(TokenizerError, match=r"^tokenizer\.json holds no BPE with `byte_fallback`"):
        character_bpe.tokens(tokenizer(byte_fallback=False), 279)
