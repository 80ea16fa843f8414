"""The converters of later tags: whole files against llama.cpp's own, and what each reads that the first did not."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from convert_golden import later_models, models
from quantmill.architectures.errors import ModelError, TokenizerError
from quantmill.architectures.json_file import model_files
from quantmill.architectures.loading import check_loadable
from quantmill.artifact import Context
from quantmill.checkpoint.conversion import convert
from quantmill.checkpoint.metadata import metadata
from quantmill.cli import main
from quantmill.errors import UsageError
from quantmill.gguf import KV, read
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.reference.spans import of_tag, offered
from quantmill.vocabulary import pretokenizer

DIGESTS = json.loads((Path(later_models.__file__).parent / "later_digests.json").read_text())
BUILDS = {**models.MODELS, **later_models.MODELS}
NEWEST = of_tag("b11312")
CASES = [
    (tag, name, type_)
    for tag, types in later_models.TAGS.items()
    for name in BUILDS
    for type_ in types
    if name not in later_models.MEANT.get(tag, ())
]
QWEN = "Sampled-1.5B-Instruct"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, build in BUILDS.items():
        build(folder / name)
    return folder


@pytest.mark.parametrize(("tag", "name", "type_"), CASES)
def test_the_file_is_the_converters(built: Path, tmp_path: Path, tag: str, name: str, type_: str) -> None:
    files, out = model_files(built / name), tmp_path / "model.gguf"
    convert(files, out, type_, name, later_models.NAMED.get(name), Context(), reference=of_tag(tag))
    assert hashlib.sha256(out.read_bytes()).hexdigest() == DIGESTS[tag][name][type_]


def entries(folder: Path, tag: str = "b11312", **more: Any) -> dict[str, KV]:
    return {
        entry.key: entry for entry in metadata(model_files(folder), name=folder.name, reference=of_tag(tag), **more)
    }


def changed(source: Path, folder: Path, file: str, change: Any) -> Path:
    """A copy of the model's small files, of which one is other JSON."""
    folder.mkdir()
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / file).write_text(json.dumps(change))
    return folder


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ({"top_k": 20.5}, "generation_config.json's `top_k` is 20.5; a whole number would be right"),
        ({"top_k": 2**31}, "generation_config.json's `top_k` is 2147483648; a whole number would be right"),
        ({"temperature": "hot"}, "generation_config.json's `temperature` is 'hot'; a number would be right"),
        ({"temperature": True}, "generation_config.json's `temperature` is True; a number would be right"),
        ({"top_p": 1e39}, "generation_config.json's `top_p` is 1e+39; a number would be right"),
        ({"sequence": ["top_k"]}, "generation_config.json's `sequence` is ['top_k']; a text would be right"),
    ],
)
def test_a_value_that_no_key_holds_is_said(built: Path, tmp_path: Path, stated: Any, sentence: str) -> None:
    folder = changed(built / QWEN, tmp_path / QWEN, "generation_config.json", stated)
    with pytest.raises(ModelError) as error:
        entries(folder)
    assert str(error.value) == sentence
    assert "general.name" in entries(folder, "b5490")  # which does not read the file


@pytest.mark.parametrize("stated", [[], ["top_k"], "top_k", None, {"sequence": "", "top_k": None}])
def test_what_says_nothing_of_sampling_is_passed_over(built: Path, tmp_path: Path, stated: Any) -> None:
    folder = changed(built / QWEN, tmp_path / QWEN, "generation_config.json", stated)
    assert not [key for key in entries(folder) if ".sampling." in key]


BROKEN = [
    "TemplateProcessing",
    ["TemplateProcessing"],
    {"type": "Sequence", "processors": None},
    {"type": "Sequence", "processors": ["ByteLevel"]},
    {"type": "TemplateProcessing", "single": "<s> $A"},
    {"type": "TemplateProcessing", "single": [None, None]},
    {"type": "TemplateProcessing", "single": [], "pair": {"A": 1}},
]


@pytest.mark.parametrize("processor", BROKEN)
def test_a_broken_post_processor_is_said(built: Path, tmp_path: Path, processor: Any) -> None:
    tokenizer = json.loads((built / QWEN / "tokenizer.json").read_text()) | {"post_processor": processor}
    folder = changed(built / QWEN, tmp_path / QWEN, "tokenizer.json", tokenizer)
    with pytest.raises(TokenizerError, match=r"^tokenizer.json's `post_processor` "):
        entries(folder)


@pytest.mark.parametrize(
    "processor",
    [
        {"type": "TemplateProcessing"},
        {"type": "TemplateProcessing", "single": [{}, {}], "pair": [{}, {}, {}]},
        {"type": "RobertaProcessing"},
        {"type": "RobertaProcessing", "cls": "<s>", "sep": 3},
        {"type": "Sequence", "processors": []},
        {"type": 5},
    ],
)
def test_an_odd_post_processor_is_read(built: Path, tmp_path: Path, processor: Any) -> None:
    tokenizer = json.loads((built / QWEN / "tokenizer.json").read_text()) | {"post_processor": processor}
    folder = changed(built / QWEN, tmp_path / QWEN, "tokenizer.json", tokenizer)
    assert "tokenizer.ggml.eos_token_id" in entries(folder)


def test_a_normalizer_of_another_kind_is_said(built: Path, tmp_path: Path) -> None:
    tokenizer = json.loads((built / QWEN / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "BertNormalizer", "lowercase": "yes"}
    folder = changed(built / QWEN, tmp_path / QWEN, "tokenizer.json", tokenizer)
    with pytest.raises(TokenizerError) as error:
        entries(folder, pre_tokenizer="qwen2")
    assert str(error.value) == "tokenizer.json's `normalizer` has 'yes' as `lowercase`; take the model's own anew"


def test_a_plan_takes_no_reranker_for_a_model(built: Path) -> None:
    files = model_files(built / "Qwen3-0.6B")
    with pytest.raises(ModelError, match=r"^the model is a reranker by its name or its README.md, of which llama.cpp "):
        metadata(files, name="Qwen3-Reranker-0.6B", reference=NEWEST)
    assert metadata(files, name="Qwen3-Reranker-0.6B", reference=B4867)


def test_a_reranker_becomes_a_classifier_of_two_rows(built: Path, tmp_path: Path) -> None:
    folder, out = built / "ranks-untied", tmp_path / "model.gguf"
    convert(model_files(folder), out, "BF16", "any", None, Context(), reference=NEWEST)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    head = models.weight("lm_head.weight", (vocabulary, 64), "BF16")[1]
    with read(out) as file:
        tokens, found = file.metadata["tokenizer.ggml.tokens"].value, file.tensors["cls.output.weight"]
        rows = [tokens.index("yes"), tokens.index("no")]
        assert "output.weight" not in file.tensors
        assert (next(iter(file.tensors)), found.shape) == ("cls.output.weight", (64, 2))
        assert file.data(found).tobytes() == head[rows].tobytes()
        check_loadable(out.name, file.metadata, file.tensor_entries())
    convert(model_files(folder), out, "BF16", "any", None, Context(), reference=B4867)
    with read(out) as file:
        assert "output.weight" in file.tensors
        assert "cls.output.weight" not in file.tensors


def test_a_reranker_without_an_answer_is_refused(built: Path, tmp_path: Path) -> None:
    folder = built / "Qwen3-0.6B"
    with pytest.raises(TokenizerError) as error:
        convert(model_files(folder), tmp_path / "out", "BF16", "Qwen3-Reranker", None, Context(), reference=NEWEST)
    assert str(error.value) == "tokenizer.json has no token 'yes', by which a reranker answers"


def test_a_converter_says_which_tags_it_stands_for() -> None:
    assert of_tag("b5490").converts_as("b5490") is None
    assert of_tag("b5590").converts_as("b5590") == "b5490"
    assert NEWEST.converts_as("b11312") is None
    assert NEWEST.converts_as("b11739") == "b11312"
    assert NEWEST.converts_as("v0.5.0") == "b11312"
    for span in offered():
        first, last = span.converter.shown
        assert first <= int(span.converter.tag[1:]) <= last
        assert set(span.converter.model) == set(B4867.converter.model)


def test_the_names_of_pre_tokenizers_are_the_tags_own() -> None:
    """As the libraries of the spans' first tags said, asked to load a vocabulary of each name."""
    names = {"seed-coder": 5590, "kimi-k2": 6122, "minimax-m2": 7830, "qwen35": 8054, "gemma4": 8683, "laguna": 10236}
    for span in offered():
        assert {name for name in names if name in span.pre_tokenizers} == {
            name for name, first in names.items() if first <= span.first
        }
    with pytest.raises(UsageError, match=r"^'qwen35' is no pre-tokenizer of llama.cpp b7830 to b7836 "):
        of_tag("b7836").check_pre_tokenizer("qwen35")


def test_a_known_vocabulary_has_its_own_name(built: Path, tmp_path: Path) -> None:
    """By the ids that its tokenizer gives a sample, with what the post-processor puts around it."""
    tokenizer = json.loads((built / QWEN / "tokenizer.json").read_text())
    ids = Tokenizer.from_str(json.dumps(tokenizer)).encode(pretokenizer._SAMPLE).ids
    digest = hashlib.sha256(str(ids).encode()).hexdigest()
    assert pretokenizer.known(tokenizer, {digest: "kormo"}) == "kormo"
    assert pretokenizer.known(tokenizer, {}) is None
    assert pretokenizer.known({**tokenizer, "model": {"type": "none"}}, {digest: "kormo"}) is None
    knowing = replace(NEWEST, converter=replace(NEWEST.converter, vocabularies={digest: "kormo"}))
    without = replace(knowing, pre_tokenizers=B4867.pre_tokenizers)
    for reference, name in ((knowing, "kormo"), (NEWEST, "qwen2"), (without, "qwen2")):
        found = metadata(model_files(built / QWEN), name=QWEN, reference=reference)
        assert [entry.value for entry in found if entry.key == "tokenizer.ggml.pre"] == [name]


def test_the_tables_of_known_vocabularies_are_the_converters() -> None:
    assert hashlib.sha256(pretokenizer._SAMPLE.encode()).hexdigest()[:16] == "a36179c1e2b1cfcf"
    counts = [len(span.converter.vocabularies) for span in offered()]
    assert sorted(set(counts)) == [0, 61, 81, 90, 95]
    assert counts == sorted(counts)
    for span in offered():
        assert all(len(digest) == 64 for digest in span.converter.vocabularies)
    words_alone = {"bert-bge-large", "jina-v2-en"}  # of WordPiece's kind, which has no pre-tokenizer
    assert set(NEWEST.converter.vocabularies.values()) - set(NEWEST.pre_tokenizers) == words_alone


@pytest.mark.parametrize(
    ("name", "tag", "type_"),
    [("gemma-3-1b-it", "b5490", "F16"), ("qwen2-sharded", "b5490", "BF16"), ("qwen2-sharded", "b11312", "F16")],
)
def test_the_command_chooses_a_type(built: Path, tmp_path: Path, name: str, tag: str, type_: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["convert", str(built / name), str(tmp_path / "out.gguf"), "--type", "auto", "--llama-cpp", tag])
    assert ended.value.code == 0
    with read(tmp_path / "out.gguf") as file:
        assert file.tensors["token_embd.weight"].type.name == type_


def test_a_template_s_separator_is_none_to_what_follows_it(built: Path, tmp_path: Path) -> None:
    """RobertaProcessing after it names SEP anew, as no file did."""
    template = later_models.template("A", "A <|im_end|> B")
    roberta = {"type": "RobertaProcessing", "sep": ["<|im_start|>", 270], "cls": ["<|im_start|>", 270]}
    tokenizer = json.loads((built / QWEN / "tokenizer.json").read_text())
    tokenizer["post_processor"] = later_models.in_turn(template, roberta)
    found = entries(changed(built / QWEN, tmp_path / QWEN, "tokenizer.json", tokenizer))
    (id_,) = (token["id"] for token in tokenizer["added_tokens"] if token["content"] == "<|im_start|>")
    assert found["tokenizer.ggml.seperator_token_id"].value == id_
