"""Vocabularies of GGUF files: what llama.cpp refuses, verify refuses; what it warns of, verify says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantmill import gguf
from quantmill.artifact import Artifact, Context
from quantmill.cli import main
from quantmill.gguf import KV, GGUFError, ValueType, kv
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.token_facts import PREFIX, TokenFacts
from quantmill.gguf.types import TYPES
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.reference.spans import newest, offered
from quantmill.steps import verify as step
from quantmill.vocabulary.pretokenizer import PATTERNS
from quantmill.vocabulary.words import CUTTINGS

TEXTS = ["a", "b", "ab", "Ċ", "<|end|>", *(f"t{number}" for number in range(11))]
SOUND = {
    "general.architecture": kv("general.architecture", "falcon"),
    **{
        entry.key: entry
        for entry in (
            kv(f"{PREFIX}model", "gpt2"),
            kv(f"{PREFIX}pre", "qwen2"),
            kv(f"{PREFIX}tokens", TEXTS),
            kv(f"{PREFIX}token_type", [1, 1, 1, 1, 3, *[1] * 11]),
            kv(f"{PREFIX}merges", ["a b"]),
            kv(f"{PREFIX}eos_token_id", 4),
        )
    },
}


def with_(*entries: KV, drop: str = "") -> list[KV]:
    found = {**SOUND, **{entry.key: entry for entry in entries}}
    return [entry for key, entry in found.items() if key != PREFIX + drop]


def write(path: Path, entries: list[KV], rows: int = len(TEXTS)) -> Path:
    described = [TensorEntry("token_embd.weight", (32, rows), TYPES["F32"])]
    with gguf.Writer(path, entries, described) as writer:
        writer.append(np.zeros(32 * rows, "<f4"))
    return path


def changed(key: str, value: Any, *types: ValueType) -> list[KV]:
    return with_(kv(PREFIX + key, value, *types))


SPM = (kv(f"{PREFIX}model", "llama"), kv(f"{PREFIX}scores", [0.0] * len(TEXTS)))
REFUSED: list[tuple[list[KV], str]] = [
    (with_(drop="model"), "it has no tokenizer.ggml.model"),
    (with_(drop="tokens"), "tokenizer.ggml.tokens is missing or no list of texts"),
    (changed("tokens", [1] * 16), "tokenizer.ggml.tokens is missing or no list of texts"),
    (changed("tokens", TEXTS[:-1]), "it has 15 tokens for 16 rows of token_embd.weight"),
    (changed("tokens", [*TEXTS[:-1], "ab"]), "the tokens 2 and 15 have the same text 'ab'"),
    (changed("tokens", [*TEXTS[:-1], "ab\0c"]), "the tokens 2 and 15 have the same text 'ab'"),
    (changed("tokens", [*TEXTS[:-2], "", "[EMPTY_14]"]), "the tokens 14 and 15 have the same text '[EMPTY_14]'"),
    (changed("token_type", [1] * 15), "tokenizer.ggml.token_type has 15 entries for 16 tokens"),
    (
        changed("token_type", [1] * 16, ValueType.ARRAY, ValueType.UINT32),
        "tokenizer.ggml.token_type is no list of INT32",
    ),
    (with_(*SPM[:1], kv(f"{PREFIX}scores", [0.0])), "tokenizer.ggml.scores has 1 entries for 16 tokens"),
    (
        with_(*SPM[:1], kv(f"{PREFIX}scores", [0.0] * 16, ValueType.ARRAY, ValueType.FLOAT64)),
        "tokenizer.ggml.scores is no list of FLOAT32",
    ),
    (with_(drop="merges"), "tokenizer.ggml.merges is missing or no list of texts"),
    (changed("merges", [1, 2]), "tokenizer.ggml.merges is missing or no list of texts"),
    (changed("eos_token_id", 4, ValueType.INT32), "tokenizer.ggml.eos_token_id is INT32 and not UINT32"),
    (changed("eos_token_id", "4"), "tokenizer.ggml.eos_token_id is STRING and not UINT32"),
    (changed("add_bos_token", 1), "tokenizer.ggml.add_bos_token is UINT32 and not BOOL"),
    (changed("pre", 1), "tokenizer.ggml.pre is UINT32 and not STRING"),
    (
        with_(kv(f"{PREFIX}pre", "chatglm-bpe"), kv(f"{PREFIX}add_bos_token", True)),
        "it asks for a BOS token around a text and has none",
    ),
    (with_(kv("general.name", "My phi3")), "its name is 'My phi3', and a model so called needs the token '</s>'"),
    (with_(*SPM, kv(f"{PREFIX}token_type", [6] * 16)), "the token 'a' is of the type BYTE and no <0x..>"),
]
DOUBTED: list[tuple[list[KV], str]] = [
    (with_(drop="pre"), "it has no tokenizer.ggml.pre, so that its words are cut in a way that fits few models"),
    (
        changed("eos_token_id", 16),
        "tokenizer.ggml.eos_token_id is 16 and the vocabulary has 16 tokens, so that it is not used",
    ),
    (changed("token_type", [3] * 17), "tokenizer.ggml.token_type has 17 entries for 16 tokens"),
    (changed("tokens", [*TEXTS[:-2], "", ""]), "the token 14 has no text, nor have 1 more"),
    (changed("tokens", [*TEXTS[:3], "N", *TEXTS[4:]]), "it has no token for the end of a line"),
    (
        changed("token_type", [1] * 16),
        "the token 4, '<|end|>', ends a turn by its text and is no control token by its type",
    ),
    (changed("merges", ["a b", "a z", "ab"]), "the merge 'a z' and 1 more is of texts that are no tokens"),
    (
        changed("pre", "qwen3"),
        "llama.cpp b11227 to b11739, v0.5.0 knows no tokenizer.ggml.pre 'qwen3' (did you mean qwen35?)",
    ),
    (
        changed("model", "gpt3"),
        "llama.cpp b11227 to b11739, v0.5.0 knows no tokenizer.ggml.model 'gpt3' (did you mean gpt2?)",
    ),
]


@pytest.mark.parametrize(("entries", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_verify_refuses_what_llama_cpp_does_not_load(tmp_path: Path, entries: list[KV], said: str) -> None:
    path = write(tmp_path / "x.gguf", entries)
    with pytest.raises(GGUFError) as error:
        gguf.verify(path)
    assert str(error.value).startswith(f"{path}: {said}")
    assert error.value.exit_code == 1


@pytest.mark.parametrize(("entries", "said"), DOUBTED, ids=[said for _, said in DOUBTED])
def test_verify_says_what_llama_cpp_warns_of(
    tmp_path: Path, entries: list[KV], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(write(tmp_path / "x.gguf", entries))])
    assert ended.value.code == 0
    assert f"note: x.gguf: {said}" in capsys.readouterr().out


def test_a_sound_vocabulary_has_no_note(tmp_path: Path) -> None:
    with gguf.read(write(tmp_path / "x.gguf", list(SOUND.values()))) as file:
        facts = TokenFacts(file.metadata, 16)
        assert [*facts.refused(), *facts.doubted()] == []
        assert facts.unknown(B4867.known_tokenizers) is None


def test_what_has_no_vocabulary_is_none_of_a_models(tmp_path: Path) -> None:
    gguf.verify(write(tmp_path / "x.gguf", [SOUND["general.architecture"]]))


@pytest.mark.parametrize("key", ["pre", "model"])
def test_a_build_refuses_names_that_its_tag_does_not_know(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "x.gguf", changed(key, "qwen3"))
    artifact = Artifact(path, "0" * 64, path.stat().st_size)
    with pytest.raises(
        GGUFError, match=f"llama.cpp b4867 to b5490 knows no tokenizer.ggml.{key} 'qwen3'.*, and does not"
    ):
        step.run({"files/x.gguf": artifact, "base.gguf": artifact}, {}, tmp_path, Context())


def test_the_names_of_pre_tokenizers_are_those_that_are_run_and_found() -> None:
    assert set(B4867.pre_tokenizers) <= set(CUTTINGS) <= set(newest().pre_tokenizers)
    for reference in offered():
        assert set(B4867.pre_tokenizers) <= set(reference.pre_tokenizers)
        assert set(PATTERNS.values()) | {"deepseek-r1-qwen"} <= set(reference.pre_tokenizers)
