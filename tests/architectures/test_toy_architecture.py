"""An architecture that is converted only is one record: layers that differ, keys of its own, tensors that are cut."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert_golden import models
from convert_golden.vocabularies import QWEN2, byte_level, split
from quantmill import gguf
from quantmill.architectures import known
from quantmill.architectures.architecture import Architecture, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.conditions import behind, leading
from quantmill.architectures.description import describe
from quantmill.architectures.errors import ForwardError, ModelError
from quantmill.architectures.key_reader import KeyReader
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    COMMON,
    EXPERTS,
    FFN_NORM,
    LEADING,
    QKV,
    TOP,
    changed,
)
from quantmill.architectures.sizes import shape_of, with_products
from quantmill.checkpoint.safetensors import open_weights
from quantmill.cli import main
from quantmill.engine.suitability import check_config_computable
from quantmill.errors import UsageError
from quantmill.gguf import ValueType
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.reference.spans import newest

_FUSED = "mlp.gate_up_proj.weight"
TOY = Architecture(
    "toy",
    TOP,
    (
        ATTN_NORM,
        *QKV,
        ATTN_OUTPUT,
        FFN_NORM,
        TensorLine("ffn_gate.weight", "embd ff", _FUSED, where=leading, cut=("", "ff ff")),
        TensorLine("ffn_up.weight", "embd ff", _FUSED, where=leading, cut=("ff", "ff ff")),
        TensorLine("ffn_down.weight", "ff embd", "mlp.down_proj.weight", where=leading),
        *changed(EXPERTS, where=behind),
        TensorLine("shortconv.conv.weight", "taps embd", "conv.weight", change="squeeze", f32=True),
        TensorLine("ffn_down_shexp.weight", "shared embd", "mlp.shared.down_proj.weight", where=behind),
    ),
    (
        ModelClass(
            "ToyForCausalLM",
            {**COMMON, "max_position_embeddings": 4096},
            spellings={"n_routed_experts": "num_experts"},
            mixture=True,
            dropped=r"model\.mtp_",
            stacks=("ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"),
            facts=lambda found: {"shared": found["n_shared"] * found["moe_intermediate_size"]},
        ),
    ),
    keys=(
        LEADING,
        "expert_feed_forward_length",
        MetadataKey("expert_count", "num_experts", behind=True),
        MetadataKey("attention.head_count_kv", lambda found: [found["num_key_value_heads"]] * 2),
        MetadataKey("taps", "conv_kernel", size="taps"),
        MetadataKey("expert_shared_feed_forward_length", "shared", size="shared"),
        MetadataKey("logit_scale", "logit_scale", ValueType.FLOAT32),
    ),
    since=7830,
)


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(known.ARCHITECTURES, "toy", TOY)
    monkeypatch.setitem(known.CLASSES, "ToyForCausalLM", ["toy"])


def config() -> dict[str, Any]:
    more = {"n_routed_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared": 2}
    return models.config(
        "ToyForCausalLM",
        "toy",
        **more,
        first_k_dense_replace=1,
        conv_kernel=4,
        n_group=1,
        scoring_func="sigmoid",
        logit_scale=0.5,
        tie_word_embeddings=True,
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    facts = config()
    shapes = {name: shape for name, shape in models.shapes_of(facts).items() if ".mlp." not in name}
    shapes |= {"model.layers.0.mlp.gate_up_proj.weight": (192, 64), "model.layers.0.mlp.down_proj.weight": (64, 96)}
    shapes |= {"model.layers.1.mlp.gate.weight": (3, 64), "model.layers.1.mlp.shared.down_proj.weight": (64, 64)}
    for expert in range(3):
        for name, shape in {"gate": (32, 64), "up": (32, 64), "down": (64, 32)}.items():
            shapes[f"model.layers.1.mlp.experts.{expert}.{name}_proj.weight"] = shape
    shapes |= {"model.mtp_block.0.norm.weight": (64,)}
    shapes |= {f"model.layers.{layer}.conv.weight": (64, 1, 4) for layer in (0, 1)}
    settings = {"eos_token": "<|end|>", "bos_token": None}
    files = {"tokenizer.json": byte_level(split(QWEN2), [("<|end|>", True, False)]), "tokenizer_config.json": settings}
    models.write(tmp_path / "Toy-1B", facts, "BF16", files, shapes)
    return tmp_path / "Toy-1B"


def ended(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return caught.value.code


def test_a_record_converts(model: Path, tmp_path: Path) -> None:
    assert ended("convert", str(model), str(tmp_path / "m.gguf")) == 0
    with (
        gguf.read(tmp_path / "m.gguf") as file,
        open_weights({"model.safetensors": model / "model.safetensors"}) as weights,
    ):
        names = set(file.tensors)
        data = {name: bytes(file.data(info)) for name, info in file.tensors.items()}
        values = {key.removeprefix("toy."): entry.value for key, entry in file.metadata.items()}
        types = {info.type.name for info in file.tensors.values() if "shortconv" in info.name}
        whole = bytes(weights["model.layers.0.mlp.gate_up_proj.weight"].data)
        stack = b"".join(bytes(weights[f"model.layers.1.mlp.experts.{i}.up_proj.weight"].data) for i in range(3))
        taps = weights["model.layers.1.conv.weight"].data.view("<u2").astype("<u4") << 16
    assert data["blk.0.ffn_gate.weight"] + data["blk.0.ffn_up.weight"] == whole
    assert data["blk.1.ffn_up_exps.weight"] == stack
    assert (types, data["blk.1.shortconv.conv.weight"]) == ({"F32"}, taps.astype("<u4").tobytes())
    assert {"blk.0.ffn_down.weight", "blk.1.ffn_down_shexp.weight"} < names
    assert not {"blk.1.ffn_down.weight", "blk.0.ffn_down_shexp.weight", "blk.0.ffn_up_exps.weight"} & names
    assert [values[key] for key in ("attention.head_count_kv", "leading_dense_block_count", "logit_scale")] == [
        *([2, 2], 1, 0.5)
    ]
    assert [values[key] for key in ("taps", "expert_shared_feed_forward_length")] == [4, 64]
    assert [values[key] for key in ("expert_group_count", "expert_gating_func")] == [1, 2]
    assert np.prod(list(file.tensors["blk.1.ffn_down_exps.weight"].shape)) == 32 * 64 * 3
    order = [key.removeprefix("toy.") for key in file.metadata if key.startswith("toy.")]
    base = [key for key in newest().converter.shape if key in order and key != "expert_count"]
    stacks = [name for name in data if "_exps" in name]
    assert [name.split("_")[1] for name in stacks] == ["gate", "up", "down"]
    assert order.index("expert_count") == len(base) + 2
    assert order == [*base, *(key for key in order if key not in base)]  # the base class's keys, then its own


def test_what_is_not_computed_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = "the architecture 'toy' cannot be evaluated; qwen2, "
    with pytest.raises(
        UsageError, match=rf"^config\.json: {said}.* llama\.cpp's own tools, and \[calibration\] would;"
    ):
        check_config_computable(config(), ["calibration"])
    check_config_computable(config(), [])
    assert ended("convert", str(model), str(tmp_path / "m.gguf")) == 0
    capsys.readouterr()
    (tmp_path / "text").write_text("a text " * 200)
    for base in (model, tmp_path / "m.gguf"):
        assert ended("imatrix", str(base), "-f", str(tmp_path / "text"), "-o", str(tmp_path / "i")) == 2
        assert said in capsys.readouterr().err
    assert ended("bench", str(tmp_path / "m.gguf")) == 2
    assert said in capsys.readouterr().err


def test_a_converter_from_before_its_time_is_not_followed() -> None:
    with pytest.raises(ModelError, match=r"^config\.json: a toy is converted as llama\.cpp b7830 and later do it, not"):
        describe(config(), "BF16", reference=B4867)


def test_another_way_to_score_experts_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^config\.json's `scoring_func` is 'tanh'; one of softmax, sigmoid, sqrt"):
        describe(config() | {"scoring_func": "tanh"}, "BF16")


def test_a_class_without_defaults_says_what_is_missing(tmp_path: Path) -> None:
    stated = json.loads(json.dumps(config()))
    for key, said in (
        ("n_routed_experts", "`num_experts` is None"),
        ("moe_intermediate_size", "`moe_intermediate_size`"),
    ):
        with pytest.raises(ModelError, match=said):
            describe({k: v for k, v in stated.items() if k != key}, "BF16")


def test_sizes_may_differ_between_layers() -> None:
    sizes = with_products(TOY, {"embd": 64, "heads": 4, "kv_heads": (2, 1), "head": 16})
    assert [shape_of(QKV[1], sizes, layer) for layer in (0, 1)] == [(64, 32), (64, 16)]
    assert [shape_of(QKV[0], sizes, layer) for layer in (0, 1)] == [(64, 64), (64, 64)]


@pytest.mark.parametrize(
    ("value", "found"),
    [([2, 1], (2, 1)), ([3, 3], 3), (7, 7), (None, 0), ([2, 1, 0], None), ([2, -1], None), ([2.5, 1.5], None)],
)
def test_a_size_is_read_for_each_layer(value: Any, found: Any) -> None:
    entries = {} if value is None else {"toy.x": gguf.kv("toy.x", value)}
    keys = KeyReader("m", "toy", entries)
    if found is not None:
        assert keys.per_layer("x", 2) == found
        return
    with pytest.raises(
        ForwardError, match=rf"^m: toy\.x has {len(value)} values for 2 layers; a whole number for each"
    ):
        keys.per_layer("x", 2)
