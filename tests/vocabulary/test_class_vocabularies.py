"""What a class of models asks of its vocabulary's files; whole files of them are in test_class_goldens.py."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from convert_golden.classes.registry import CHECKPOINTS
from quantmill.architectures.errors import TokenizerError
from quantmill.architectures.json_file import model_files
from quantmill.architectures.known import ARCHITECTURES, CLASSES
from quantmill.checkpoint.metadata import metadata
from quantmill.vocabulary.sentencepiece import CONTROL, NORMAL, UNUSED
from quantmill.vocabulary.tiktoken_ranks import ranks, tokens
from quantmill.vocabulary.words import CUTTINGS


def entries(tmp_path: Path, name: str, changed: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a class's checkpoint, some of whose files are others; None: not there."""
    checkpoint, folder = CHECKPOINTS[name], tmp_path / name
    checkpoint.write(folder)
    for file, data in changed.items():
        if data is None:
            (folder / file).unlink()
        else:
            (folder / file).write_text(json.dumps(data))
    pre = None if checkpoint.pre == "-" else checkpoint.pre
    return {entry.key: entry.value for entry in metadata(model_files(folder), name=name, pre_tokenizer=pre)}


@pytest.mark.parametrize("name", ["Phi3ForCausalLM", "Ernie4_5ForCausalLM", "Gemma2ForCausalLM"])
def test_a_vocabulary_of_tokenizer_model_alone_needs_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(TokenizerError, match=r"^the model has no tokenizer\.model, the only file that "):
        entries(tmp_path, name, {"tokenizer.model": None})


def test_phi_4_is_made_of_its_tokenizer_json(tmp_path: Path) -> None:
    found = entries(tmp_path, "Phi-4", {"tokenizer.model": "another model's"})
    assert found["tokenizer.ggml.model"] == "gpt2"


def test_glm_names_its_ends_by_their_text(tmp_path: Path) -> None:
    tokenizer = CHECKPOINTS["Glm4ForCausalLM"].files()["tokenizer.json"]
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "<|user|>"]
    with pytest.raises(TokenizerError, match=r"^tokenizer\.json has no added token '<\|user\|>', which .* for eot$"):
        entries(tmp_path, "Glm4ForCausalLM", {"tokenizer.json": tokenizer})


@pytest.mark.parametrize("bad", [None, True, -1, 288, "x"])
def test_hunyuans_end_of_a_turn_is_a_token(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(TokenizerError, match=r"^generation_config\.json's first `eos_token_id` is .* there$"):
        entries(tmp_path, "HunYuanDenseV1ForCausalLM", {"generation_config.json": {"eos_token_id": [bad, 272]}})


@pytest.mark.parametrize("one", [272, [272], None])
def test_one_end_of_a_text_is_no_end_of_a_turn(tmp_path: Path, one: Any) -> None:
    found = entries(tmp_path, "HunYuanDenseV1ForCausalLM", {"generation_config.json": {"eos_token_id": one}})
    assert "tokenizer.ggml.eot_token_id" not in found


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (b"YQ== 0\n", None),
        (b"YQ== 0\nYg==\n", "line 2 is no token in base64 and its rank"),
        (b"?? 0\n", "line 1 is no token in base64 and its rank"),
        (b"YQ== 0\nYg== 2\n", "its 2 tokens have not one rank each, from 0"),
        (b"\n".join(b"%s %d" % (b64encode(b"%d" % id_), id_) for id_ in range(300)), "has 300 tokens, and config.json"),
    ],
)
def test_ranks_of_tiktoken(tmp_path: Path, lines: bytes, said: str | None) -> None:
    path = tmp_path / "tiktoken.model"
    path.write_bytes(lines)
    if said is None:
        assert tokens(ranks(path), {}, 3) == [
            ("a", NORMAL),
            *((f"<|reserved_token_{id_}|>", CONTROL) for id_ in (1, 2)),
        ]
        assert tokens(ranks(path), {}, 288)[-1] == ("[PAD287]", UNUSED)
        return
    with pytest.raises(TokenizerError, match=said):
        tokens(ranks(path), {}, 288)


def test_ranks_of_another_class_are_refused(tmp_path: Path) -> None:
    """Its special tokens are known to its own code alone."""
    with pytest.raises(
        TokenizerError, match=r"`tokenizer_class` is 'HYTokenizer'; of the vocabularies in tiktoken\.model"
    ):
        entries(tmp_path, "DeepseekV3ForCausalLM-Kimi", {"tokenizer_config.json": {"tokenizer_class": "HYTokenizer"}})


def test_the_vocabularies_of_what_is_computed_are_tokenized_here() -> None:
    """A text goes through the engine by them; Kimi's way of cutting words is llama.cpp's alone."""
    pres = {
        one.pre
        for one in CHECKPOINTS.values()
        if one.class_ in CLASSES and ARCHITECTURES[CLASSES[one.class_][0]].is_computed
    }
    assert {"qwen35", "lfm2", "falcon-h1"} <= pres
    assert pres - CUTTINGS.keys() == {"-", "kimi-k2"}
