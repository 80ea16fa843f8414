"""A stranger's model may be large, and no larger than that: bombs end in a sentence, in little memory and time."""

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from disks import ending
from projects import ROOT
from quantmill.architectures.checkpoint_tensors import tensors
from quantmill.architectures.configuration import MAX_EXPERTS, MAX_LAYERS, MAX_VOCABULARY
from quantmill.architectures.errors import ModelError, TokenizerError
from quantmill.architectures.json_file import load_json
from quantmill.checkpoint.metadata import metadata
from quantmill.checkpoint.safetensors import INDEX, SINGLE, open_weights
from quantmill.listing import MAX_DEPTH, read_strangers, strangers_json

TINY = ROOT / "recipes" / "tiny"
CONFIG = json.loads((TINY / "config.json").read_text())
MIXTURE = {**CONFIG, "architectures": ["Qwen3MoeForCausalLM"], "moe_intermediate_size": 64, "num_experts_per_tok": 2}
BOMB = b'{"__metadata__":[' + b"[]," * 32_000_000 + b"[]]}"  # 2.6 GB once it is parsed
MANY = "has more than 6000000 values"


def model(folder: Path, **changed: bytes) -> Path:
    """The tiny model with other files, each named with `__` for its dots."""
    for path in TINY.iterdir():
        if path.is_file():
            os.symlink(path, folder / path.name)
    for name, data in changed.items():
        path = folder / name.replace("__", ".")
        path.unlink(missing_ok=True)
        path.write_bytes(data)
    return folder


def described(folder: Path) -> str:
    return ending("quantmill.checkpoint.metadata", "metadata", folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config__json": BOMB}, "config.json is larger than 10000000 bytes, which no such file is; fetch it again"),
        ({"tokenizer__json": BOMB}, f"tokenizer.json {MANY}; fetch it again"),
        (
            {"tokenizer_config__json": BOMB},
            "tokenizer_config.json is larger than 10000000 bytes, which no such file is; fetch it again",
        ),
        (
            {"chat_template__jinja": b"a" * 10_000_001, "tokenizer_config__json": b"{}"},
            "chat_template.jinja is larger than 10000000 bytes, which no such file is; fetch it again",
        ),
        (
            {"tokenizer__model": b"\x0a\x00" * 20_000_000},
            "tokenizer.model has more tokens than can be, 1048576",
        ),
        (
            {"tokenizer__model": bytes(100_000_001)},
            "tokenizer.model is larger than 100000000 bytes, which no such file is; fetch it again",
        ),
        (
            {
                "tokenizer_config__json": json.dumps(
                    {"added_tokens_decoder": {str(id_): {"content": f"<x{id_}>"} for id_ in range(100_000)}}
                ).encode()
            },
            "the tokenizer's token '<x99999>' has the id 102047, but config.json's `vocab_size` is 2048",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bomb_among_a_models_files(tmp_path: Path, changed: Mapping[str, bytes], message: str) -> None:
    assert described(model(tmp_path, **changed)) == message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            CONFIG | {"num_hidden_layers": 10**6},
            f"`num_hidden_layers` is 1000000; at most {MAX_LAYERS} can be converted",
        ),
        (CONFIG | {"vocab_size": 10**8}, f"`vocab_size` is 100000000; at most {MAX_VOCABULARY} can be converted"),
        (MIXTURE | {"num_experts": 10**8}, f"`num_experts` is 100000000; at most {MAX_EXPERTS} can be converted"),
        (CONFIG | {"head_dim": 2**30}, "`head_dim` is 1073741824; at most 65536 can be converted"),
    ],
)
def test_a_number_that_would_be_counted_to(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    assert described(model(tmp_path, config__json=json.dumps(config).encode())) == f"config.json's {message}"


def test_experts_of_all_layers_count() -> None:
    assert len(tensors(MIXTURE | {"num_hidden_layers": 64, "num_experts": 4096})) > 64
    with pytest.raises(ModelError, match=r"^config.json has 65 layers of 4096 experts; at most 262144 experts can be"):
        tensors(MIXTURE | {"num_hidden_layers": 65, "num_experts": 4096})


def test_an_id_of_thousands_of_digits(tmp_path: Path) -> None:
    settings = json.dumps({"added_tokens_decoder": {"9" * 5000: {"content": "x"}}}).encode()
    files = {path.name: path for path in model(tmp_path, tokenizer_config__json=settings).iterdir()}
    with pytest.raises(TokenizerError, match="where an id belongs") as error:
        metadata(files, name="X")
    assert len(str(error.value)) <= 700


@pytest.mark.parametrize("name", [SINGLE, INDEX])
def test_a_bomb_of_a_safetensors_header(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes((struct.pack("<Q", len(BOMB)) if name == SINGLE else b"") + BOMB)
    what = "the header" if name == SINGLE else "it"
    message = f"{name}: {what} {MANY}; it is damaged or hostile, fetch it again"
    assert ending("quantmill.checkpoint.safetensors", "open_weights", tmp_path) == message


def test_a_bomb_of_a_lock(tmp_path: Path) -> None:
    (tmp_path / "x.lock").write_bytes(BOMB)
    message = ending("quantmill.recipe.lock", "read", tmp_path / "x.lock")
    assert "x.lock: it is longer than 50000000 characters, which no lock is; run 'quantmill lock" in message
    (tmp_path / "x.lock").write_bytes(BOMB[:30_000_000])
    assert f"x.lock: it {MANY}; run" in ending("quantmill.recipe.lock", "read", tmp_path / "x.lock")


def test_a_bomb_of_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("a = [" + "[]," * 30_000_000 + "]")
    message = ending("quantmill.recipe.recipe", "load", tmp_path / "x.toml")
    assert message == f"{tmp_path}/x.toml: it is longer than 1000000 characters, which no recipe is"


def test_a_bomb_of_a_listing(tmp_path: Path) -> None:
    (tmp_path / "release.json").write_bytes(BOMB)
    assert ending("quantmill.listing", "read_strangers", tmp_path / "release.json") == "done"
    assert read_strangers(tmp_path / "release.json") is None


def test_depth_is_counted_and_brackets_in_texts_are_not() -> None:
    assert strangers_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    assert strangers_json(json.dumps({"a": "[" * 100_000}).encode())
    with pytest.raises(ValueError, match=r"^is more than 100 levels deep$"):
        strangers_json(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))


def test_a_tokenizer_json_of_30_megabytes_is_read(tmp_path: Path) -> None:
    vocab = {f"token {id_}, [{id_}]": id_ for id_ in range(262_144)}
    merges = [[f"left{rank}", f"right{rank}"] for rank in range(514_906)]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"model": {"type": "BPE", "vocab": vocab, "merges": merges}}, indent=1))
    assert path.stat().st_size > 30_000_000
    found = load_json({"tokenizer.json": path}, "tokenizer.json", TokenizerError)
    assert found is not None
    assert len(found["model"]["merges"]) == len(merges)


def test_a_safetensors_header_of_10_megabytes_is_read(tmp_path: Path) -> None:
    names = [f"model.layers.{n // 3000}.mlp.experts.{n % 3000}.down_proj.weight" for n in range(96_000)]
    header = json.dumps(
        {name: {"dtype": "BF16", "shape": [0, 4096], "data_offsets": [0, 0]} for name in names}
    ).encode()
    assert len(header) > 10_000_000
    path = tmp_path / SINGLE
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with open_weights({SINGLE: path}) as weights:
        assert len(weights) == len(names)
