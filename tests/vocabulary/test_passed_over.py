"""What a file of a model says otherwise than the one that wins is told: by plan, convert and build."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from projects import TINY, Project
from quantmill.architectures.json_file import load_config, model_files
from quantmill.reference.spans import of_tag
from quantmill.vocabulary.entries import vocabulary

FIRST, LATER = "b5490", "b11739"  # chat_template.jinja wins, and tokenizer_config.json
CONFIG, JINJA = "tokenizer_config.json", "chat_template.jinja"
LOSES = "is not written: that of {} is, and the two differ"


def told(folder: Path, tag: str = LATER) -> list[str]:
    files, notes = model_files(folder), list[str]()
    vocabulary(files, load_config(files), "default", notes, of_tag(tag))
    return notes


def edit(folder: Path, name: str, **change: Any) -> None:
    path = folder / name
    data = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(data | change))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shutil.copytree(TINY, tmp_path / "model")
    edit(tmp_path / "model", CONFIG, chat_template="{{ a }}")
    return tmp_path / "model"


def test_a_template_that_loses_is_told(model: Path) -> None:
    assert told(model) == told(model, FIRST) == []
    (model / JINJA).write_text("{{ a }}\n")
    edit(model, "chat_template.json", chat_template="{{ a }}")
    assert told(model) == told(model, FIRST) == []
    (model / JINJA).write_text("{{ b }}")
    assert told(model) == [f"the chat template of {JINJA} {LOSES.format(CONFIG)}"]
    older = [f"the chat template of {name} {LOSES.format(JINJA)}" for name in (CONFIG, "chat_template.json")]
    assert told(model, FIRST) == older
    (model / JINJA).unlink()
    edit(model, "chat_template.json", chat_template="{{ c }}")
    assert told(model) == told(model, FIRST) == [f"the chat template of chat_template.json {LOSES.format(CONFIG)}"]
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "tool.jinja").write_text("{{ d }}")
    file = "additional_chat_templates/tool.jinja"
    assert f"the chat template 'tool' of {file} is not written: none of that name is, and the two differ" in told(model)
    assert file not in " ".join(told(model, FIRST))


def token(model: Path, id_: int) -> str:
    vocab = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    return next(text for text, number in vocab.items() if number == id_)


CASES: dict[str, tuple[Callable[[Path], Mapping[str, Mapping[str, Any]]], str]] = {
    "vocab.json with a token more": (
        lambda model: {"vocab.json": {token(model, 5): 5, "nobody": 6}},
        "vocab.json has 'nobody', which tokenizer.json lacks: it is left out",
    ),
    "vocab.json in another order": (
        lambda model: {"vocab.json": {token(model, 5): 6, token(model, 6): 5}},
        "as the token 5; tokenizer.json has another, which is written, and so 1 more",
    ),
    "vocab.json that agrees": (lambda model: {"vocab.json": {token(model, 5): 5}}, ""),
    "vocab.json of other things": (lambda model: {"vocab.json": {"a": [1], "b": True, "c": None}}, ""),
    "added_tokens.json": (
        lambda model: {"added_tokens.json": {"<old>": 5}},
        "added_tokens.json has '<old>', which tokenizer.json lacks: it is left out",
    ),
    "special_tokens_map.json": (
        lambda model: {"special_tokens_map.json": {"eos_token": {"content": token(model, 5)}, "pad_token": "nobody"}},
        " for eos; by other files it is ",
    ),
    "generation_config.json": (
        lambda model: {"generation_config.json": {"eos_token_id": [3, 4]}},
        "generation_config.json ends a text with the token 3; by the other files ",
    ),
    "generation_config.json of other things": (
        lambda model: {"generation_config.json": {"eos_token_id": ["a", None]}},
        "",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_another_file_that_loses_is_told(model: Path, name: str) -> None:
    made, said = CASES[name]
    for file, change in made(model).items():
        edit(model, file, **change)
    assert [said in note for note in told(model)] == ([True] if said else [])


@pytest.mark.parametrize(
    "file", ["vocab.json", "added_tokens.json", "special_tokens_map.json", "generation_config.json"]
)
@pytest.mark.parametrize(
    "data", [b"", b"[1]", b"\xff", b'{"eos_token": {"content": [1]}, "eos_token_id": {}}', b"{" * 9]
)
def test_what_is_not_read_may_be_damaged(model: Path, file: str, data: bytes) -> None:
    (model / file).write_bytes(data)
    assert told(model) == []


def test_plan_and_convert_say_it(project: Project) -> None:
    base = project.folder / "recipes" / "tiny"
    edit(base, CONFIG, chat_template="{{ a }}")
    (base / JINJA).write_text("{{ b }}")
    shutil.copy(base / "model.safetensors", base / "model-00001-of-00002.safetensors")
    weights = "model.safetensors is what is read; model-00001-of-00002.safetensors beside it is not"
    note = f"the chat template of {CONFIG} {LOSES.format(JINJA)}"
    planned = project.run("quantmill", "plan", "small").stdout
    converted = project.run("quantmill", "convert", str(base), "x.gguf", "--llama-cpp", FIRST).stdout
    built = project.run("quantmill", "build", "small", "--only", "Q8_0").stdout
    for said in (note, weights):
        assert f"note: {said}\n" in planned
        assert f"note: {said}\n" in converted
        assert said in built
