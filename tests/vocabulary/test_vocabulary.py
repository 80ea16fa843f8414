"""Vocabularies: pre-tokenizer names from patterns, SentencePiece files, added and special tokens, chat templates."""

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from convert_golden import models, vocabularies
from quantmill.architectures.errors import TokenizerError, UnknownPreTokenizer
from quantmill.errors import QuantmillError
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.vocabulary import byte_level, pretokenizer
from quantmill.vocabulary.entries import vocabulary
from quantmill.vocabulary.hf_tokenizer import HFTokenizer
from quantmill.vocabulary.sentencepiece import Piece, pieces
from quantmill.vocabulary.words import CUTTINGS, DEEPSEEK_LETTERS, DEEPSEEK_SIGNS, words

TOKENIZER = vocabularies.byte_level(vocabularies.split(vocabularies.QWEN2), [("<|end|>", True, False)])
CONFIG = models.config("Qwen2ForCausalLM", "qwen2")
SETTINGS = {"tokenizer_class": "PreTrainedTokenizerFast"}
DIGITS, BYTES = vocabularies.DIGITS["pretokenizers"][0], vocabularies.split("")["pretokenizers"][1]
NOTHING = {"type": "Sequence", "normalizers": []}
OTHER = {"chat_template": "B"}


def entries(folder: Path, files: Mapping[str, Any], config: Mapping[str, Any] = CONFIG, **more: Any) -> dict[str, Any]:
    paths = {}
    for name, data in files.items():
        paths[name] = folder / name
        paths[name].write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return {entry.key: entry.value for entry in vocabulary(paths, config, reference=B4867, **more)}


def test_a_bos_token_tells_deepseeks_distilled_models() -> None:
    assert pretokenizer.name(TOKENIZER) == "qwen2"
    assert pretokenizer.name(TOKENIZER, "<|endoftext|>") == "qwen2"
    assert pretokenizer.name(TOKENIZER, "<\uff5cbegin▁of▁sentence\uff5c>") == "deepseek-r1-qwen"


def variant(**pre_tokenizer: Any) -> dict[str, Any]:
    return {"model": {"type": "BPE", "vocab": {}}, "pre_tokenizer": pre_tokenizer}


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (variant(type="ByteLevel", add_prefix_space=False, trim_offsets=True), "gpt-2"),
        (variant(**vocabularies.DIGITS), "smollm"),
        (
            {
                **variant(**vocabularies.split(vocabularies.QWEN2)),
                "normalizer": {"type": "Sequence", "normalizers": []},
            },
            "qwen2",
        ),
        ({**variant(**vocabularies.split(vocabularies.LLAMA3)), "model": {"ignore_merges": True}}, "llama-bpe"),
    ],
)
def test_names_of_patterns(tokenizer: Mapping[str, Any], expected: str) -> None:
    assert pretokenizer.name(tokenizer) == expected


DEEPSEEK = {
    "deepseek-llm": ("[\r\n]", DEEPSEEK_LETTERS, DEEPSEEK_SIGNS, r"\s+$", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
    "deepseek-coder": ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"),
}


@pytest.mark.parametrize("expected", DEEPSEEK)
def test_a_pattern_of_deepseeks_cuts_as_its_name_does(expected: str) -> None:
    """The stages are those of the models' tokenizer.json; with them and the vocabularies among llama.cpp's own tests,
    its sample text has the ids that the converter knows the two names by."""
    cuts = [cut["pretokenizers"][0] for cut in map(vocabularies.split, DEEPSEEK[expected])]
    sequence = {"type": "Sequence", "pretokenizers": [*cuts, DIGITS]}
    data = {**variant(type="Sequence", pretokenizers=[sequence, BYTES]), "normalizer": NOTHING}
    assert pretokenizer.name(data) == expected
    backend = Tokenizer.from_str(json.dumps(vocabularies.byte_level(sequence, [])))
    text = "Hello, \u0395\u03bb\u03bb\u03ac\u03b4\u03b1!\n\n  \u4f60\u597d\u3002 x 7 y's \uff01 \u01c5\u1e9e  "
    assert backend.pre_tokenizer is not None
    assert [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)] == words(text, CUTTINGS[expected])


def test_deepseek_llms_letters_are_its_files() -> None:
    assert hashlib.sha256(DEEPSEEK_LETTERS.encode()).hexdigest()[:16] == "38fd0b5eb7e66ecf"


def test_the_way_to_keep_matches_decides_nothing() -> None:
    removed = copy.deepcopy(vocabularies.split(vocabularies.QWEN2))
    removed["pretokenizers"][0] |= {"behavior": "Removed", "invert": True}
    assert pretokenizer.name(variant(**removed)) == "qwen2"


@pytest.mark.parametrize(
    "tokenizer",
    [
        variant(type="ByteLevel", add_prefix_space=True),
        variant(**vocabularies.split(vocabularies.QWEN2 + "|x")),
        {**variant(**vocabularies.DIGITS), "normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": None},
        variant(type="Metaspace"),
    ],
)
def test_an_unknown_pattern_names_the_recipes_key(tokenizer: Mapping[str, Any]) -> None:
    with pytest.raises(UnknownPreTokenizer, match=r"\(pattern [0-9a-f]{12}\)") as error:
        pretokenizer.name(tokenizer)
    assert str(error.value).endswith("name it by `[base] pre_tokenizer` in the recipe")


def test_an_ambiguous_pattern_names_the_choice() -> None:
    with pytest.raises(UnknownPreTokenizer, match=r"\(llama-bpe for Llama 3 and its descendants, smaug-bpe or dbrx"):
        pretokenizer.name(variant(**vocabularies.split(vocabularies.LLAMA3)))


def test_the_recipe_may_name_the_pre_tokenizer(tmp_path: Path) -> None:
    unknown = vocabularies.byte_level(vocabularies.split("x"), [])
    found = entries(tmp_path, {"tokenizer.json": unknown}, pre_tokenizer="superbpe")
    assert found["tokenizer.ggml.pre"] == "superbpe"


def test_padding_fills_the_vocabulary(tmp_path: Path) -> None:
    found = entries(tmp_path, {"tokenizer.json": TOKENIZER, "tokenizer_config.json": SETTINGS})
    assert found["tokenizer.ggml.tokens"][268:] == ["a ", "<|end|>", *(f"[PAD{id_}]" for id_ in range(270, 288))]
    assert found["tokenizer.ggml.token_type"][268:] == [1, 3, *[5] * 18]
    assert found["tokenizer.ggml.merges"][-1] == "aĠ b"


@pytest.mark.parametrize(
    ("text", "special", "normalized", "expected"),
    [
        ("<|x|>", False, False, ("<|x|>", 3)),
        ("<tool>", False, False, ("<tool>", 4)),
        ("<tool>", True, False, ("<tool>", 3)),
        ("<pad>", False, True, ("<pad>", 3)),
        ("▁a", False, True, (" a", 4)),
        ("Ġa", False, False, (" a", 4)),
        ("Ġa", False, True, ("Ġa", 4)),
        ("a .", False, False, ("a.", 4)),
        ("\u00e9", False, False, ("\ufffd", 4)),
    ],
)
def test_added_tokens(text: str, special: bool, normalized: bool, expected: tuple[str, int]) -> None:
    data = vocabularies.byte_level(None, [(text, special, normalized)])
    tokenizer = HFTokenizer(data, {**SETTINGS, "clean_up_tokenization_spaces": True})
    id_ = tokenizer.data["added_tokens"][0]["id"]
    assert byte_level.tokens(tokenizer, id_ + 1)[id_] == expected


def test_the_alphabet_is_gpt2s() -> None:
    assert [byte_level.byte_of()[character] for character in vocabularies.alphabet()] == list(range(256))


def test_special_ids_come_from_the_tokenizer_then_the_config(tmp_path: Path) -> None:
    settings = {**SETTINGS, "eos_token": {"content": "<|end|>"}, "add_eos_token": False, "add_bos_token": None}
    config = {**CONFIG, "bos_token_id": 5, "eos_token_id": 6, "pad_token_id": [7, 8], "cls_token_id": 9}
    found = entries(tmp_path, {"tokenizer.json": TOKENIZER, "tokenizer_config.json": settings}, config)
    kept = {key: value for key, value in found.items() if key.endswith(("_id", "_token"))}
    assert kept == {
        "tokenizer.ggml.eos_token_id": 269,
        "tokenizer.ggml.bos_token_id": 5,
        "tokenizer.ggml.add_eos_token": False,
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"tokenizer_config.json": {**SETTINGS, "chat_template": "A"}, "chat_template.json": OTHER},
            "A",
        ),
        ({"tokenizer_config.json": SETTINGS, "chat_template.json": OTHER}, "B"),
        ({"tokenizer_config.json": SETTINGS, "chat_template.jinja": b"C"}, "C"),
        ({"tokenizer_config.json": {**SETTINGS, "chat_template": ""}}, None),
        ({"tokenizer_config.json": {**SETTINGS, "chat_template": "A"}, "chat_template.jinja": b"C"}, "C"),
        ({"tokenizer_config.json": {**SETTINGS, "chat_template": "A"}, "chat_template.jinja": b""}, "A"),
        ({"tokenizer_config.json": {**SETTINGS, "chat_template": ""}, "chat_template.jinja": b"C"}, "C"),
        ({"tokenizer_config.json": {**SETTINGS, "chat_template": ""}, "chat_template.json": OTHER}, "B"),
        ({"tokenizer_config.json": {**SETTINGS, "chat_template": None}, "chat_template.json": OTHER}, "B"),
        ({"tokenizer_config.json": {**SETTINGS, "chat_template": {"x": 1}}, "chat_template.jinja": b"C"}, "C"),
        ({"chat_template.json": {"chat_template": [{"name": "default", "template": "D"}]}}, "D"),
        ({"chat_template.jinja": b"\xef\xbb\xbfC\r\nD\rE"}, "C\nD\nE"),
    ],
)
def test_the_chat_template_has_three_places(tmp_path: Path, files: Mapping[str, Any], expected: str | None) -> None:
    found = entries(tmp_path, {"tokenizer.json": TOKENIZER, **files})
    assert found.get("tokenizer.chat_template") == expected


def test_named_chat_templates(tmp_path: Path) -> None:
    choices = [{"name": "default", "template": "D"}, {"name": "tool-use", "template": "T"}]
    settings = {**SETTINGS, "chat_template": choices}
    found = entries(tmp_path, {"tokenizer.json": TOKENIZER, "tokenizer_config.json": settings})
    assert found["tokenizer.chat_template"] == "D"
    assert found["tokenizer.chat_template.tool_use"] == "T"
    assert found["tokenizer.chat_templates"] == ["tool_use"]


def test_a_list_without_a_default_is_kept_beside_the_file(tmp_path: Path) -> None:
    settings = {**SETTINGS, "chat_template": [{"name": "rag", "template": "R"}, {"name": "empty", "template": ""}]}
    files = {"tokenizer.json": TOKENIZER, "tokenizer_config.json": settings}
    alone = entries(tmp_path, files)
    assert alone["tokenizer.chat_templates"] == ["rag"]
    assert "tokenizer.chat_template" not in alone
    (tmp_path / "additional_chat_templates").mkdir()
    more = {"additional_chat_templates/tool use.jinja": b"T", "additional_chat_templates/rag.jinja": b"R2"}
    found = entries(tmp_path, {**files, "chat_template.jinja": b"C", **more})
    assert found["tokenizer.chat_templates"] == ["rag", "tool_use"]
    assert found["tokenizer.chat_template"] == "C"
    assert (found["tokenizer.chat_template.rag"], found["tokenizer.chat_template.tool_use"]) == ("R2", "T")


def test_sizes_that_llama_knows(tmp_path: Path) -> None:
    for size, key, value in ((32016, "eot_token_id", 32010), (49152, "add_bos_token", False)):
        config = models.config("LlamaForCausalLM", "llama") | {"vocab_size": size}
        found = entries(tmp_path, {"tokenizer.model": vocabularies.spm_model()}, config)
        assert found[f"tokenizer.ggml.{key}"] == value


def test_sentencepiece_pieces() -> None:
    found = pieces(vocabularies.spm_model())
    assert len(found) == 272
    assert found[:2] == [Piece(b"<unk>", 0.0, 2), Piece(b"<s>", 0.0, 3)]
    assert found[5] == Piece(b"<0x00>", 0.0, 6)
    assert found[-1].text.decode() == "日本"


MODEL = vocabularies.spm_model()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it has no unknown token"),
        (MODEL[:100], "it ends within a field; the file was cut short"),
        (b"\x0a", "it ends within a number"),
        (b"\xff" * 20, "a number is too long (byte 10)"),
        (b"\x0b", "wire type 3 does not exist (byte 1)"),
        (b"\x00\x00", "no field has number 0 (byte 1)"),
        (b"\x0a\x03\x0a\x01\xff", "a token is not UTF-8"),
        (b"\x0a\x02\x18\x09", "a token is of the unknown type 9"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "it ends within a field; the file was cut short"),
    ],
)
def test_a_damaged_sentencepiece_model_is_said(data: bytes, problem: str) -> None:
    with pytest.raises(TokenizerError) as error:
        pieces(data)
    assert str(error.value) == f"tokenizer.model is not a SentencePiece model: {problem}"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"model": {"type": "Unigram", "vocab": []}},
            "tokenizer.json holds no BPE vocabulary; only BPE and SentencePiece can be converted",
        ),
        ({"model": {"type": "BPE", "vocab": {"a": -1}}}, "tokenizer.json has a token whose id is not a whole number"),
        ({"added_tokens": [{"content": "x"}]}, "tokenizer.json has an added token without a whole number as its id"),
        ({"added_tokens": [{"id": 1}]}, "an added token of the tokenizer has no `content`"),
        (
            {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]}},
            "tokenizer.json has a merge that is not two texts",
        ),
        (
            {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"], "a b"]}},
            "tokenizer.json has merges in two forms or none",
        ),
    ],
)
def test_a_wrong_tokenizer_is_said(tmp_path: Path, change: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(QuantmillError) as error:
        entries(tmp_path, {"tokenizer.json": {**TOKENIZER, **change}, "tokenizer_config.json": SETTINGS})
    assert str(error.value) == sentence


def test_an_added_token_that_is_no_table_is_said_beside_a_sentencepiece_model(tmp_path: Path) -> None:
    config = models.config("LlamaForCausalLM", "llama")
    with pytest.raises(TokenizerError) as error:
        entries(
            tmp_path, {"tokenizer.model": vocabularies.spm_model(), "tokenizer.json": {"added_tokens": [1]}}, config
        )
    assert str(error.value) == "tokenizer.json has an added token that is no table; fetch it again"


def test_json_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"^tokenizer.json is not valid JSON in UTF-8; fetch it again$"):
        entries(tmp_path, {"tokenizer.json": b"{"})
    with pytest.raises(TokenizerError, match=r"^tokenizer.json is not valid JSON in UTF-8; fetch it again$"):
        entries(tmp_path, {"tokenizer.json": b"[" * 100_000})
    with pytest.raises(TokenizerError, match=r"^tokenizer.json holds no JSON object; fetch it again$"):
        entries(tmp_path, {"tokenizer.json": b"[]"})
