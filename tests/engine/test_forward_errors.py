"""Everything that keeps a model from being evaluated is one sentence, said before work is lost."""

import resource
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forward_models
from architecture_helpers.hybrid_models import HYBRID_MODELS
from forward_models import MODELS, Small, chunks
from quantmill.architectures.known import computed, listed
from quantmill.engine.evaluation import Run, collect, open_model
from quantmill.errors import QuantmillError
from quantmill.gguf import Writer, kv
from quantmill.gguf.types import TYPES
from quantmill.runtime.loader import load

TOKENS = chunks(MODELS["qwen2"], 16, 2)
Change = Callable[[dict[str, Any]], None]


def model(path: Path, small: Small, change: Change, keys: Mapping[str, Any] | None = None) -> Path:
    """The small model after a change of its tensors, by name, and of its metadata."""
    tensors = {name: values for name, _, values in forward_models.weights(small)}
    change(tensors)
    described = [(name, tuple(reversed(values.shape)), TYPES["F32"]) for name, values in tensors.items()]
    entries = {entry.key: entry for entry in forward_models.metadata(small)}
    for key, value in (keys or {}).items():
        entries.pop(key, None)
        if value is not None:
            entries[key] = kv(key, value)
    with Writer(path, entries.values(), described) as writer:
        for values in tensors.values():
            writer.append(np.ascontiguousarray(values).view(np.uint8).reshape(-1))
    return path


def message(path: Path, tokens: Any = TOKENS, run: Run | None = None) -> str:
    with pytest.raises(QuantmillError) as error, open_model(path) as opened:
        collect(opened, tokens, run or Run())
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{path}: ", "")


def refused(path: Path) -> str:
    """What the runtime says."""
    with pytest.raises(QuantmillError) as error:
        load(path)
    return str(error.value).replace(f"{path}: ", "")


def put(name: str, row: int, value: float) -> Change:
    def change(tensors: dict[str, Any]) -> None:
        tensors[name].reshape(-1, tensors[name].shape[-1])[row, 3] = value

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda t: t.pop("blk.1.ffn_up.weight"),
            "lacks the tensor 'blk.1.ffn_up.weight', which qwen2 needs; convert it anew",
        ),
        (
            lambda t: t.pop("token_embd.weight"),
            "lacks the tensor 'token_embd.weight', which qwen2 needs; convert it anew",
        ),
        (
            lambda t: t.update({"blk.0.attn_q_norm.weight": np.ones(16, np.float32)}),
            "holds a tensor 'blk.0.attn_q_norm.weight', for which this qwen2 has no place",
        ),
        (
            lambda t: t.update({"blk.2.ffn_up.weight": np.ones((96, 64), np.float32)}),
            "holds a tensor 'blk.2.ffn_up.weight', for which this qwen2 has no place",
        ),
        (
            lambda t: t.update({"blk.0.attn_k.weight": np.ones((64, 64), np.float32)}),
            "the tensor 'blk.0.attn_k.weight' has shape [64, 64]; by the metadata it should be [64, 32]",
        ),
        (put("blk.1.ffn_down.weight", 17, np.nan), "row 17 of blk.1.ffn_down.weight has a weight that is not finite"),
        (put("blk.0.attn_v.weight", 2, np.inf), "row 2 of blk.0.attn_v.weight has a weight that is not finite"),
        (put("blk.0.attn_norm.weight", 0, np.nan), "row 0 of blk.0.attn_norm.weight has a weight that is not finite"),
        (put("token_embd.weight", 101, np.nan), "row 101 of token_embd.weight has a weight that is not finite"),
        (put("output.weight", 200, np.nan), "row 200 of output.weight has a weight that is not finite"),
        (put("blk.0.ffn_up.weight", 2, 1e20), "the inputs of blk.0.ffn_down.weight overflow"),
    ],
)
def test_odd_tensors(tmp_path: Path, change: Change, expected: str) -> None:
    assert message(model(tmp_path / "m.gguf", MODELS["qwen2"], change)).startswith(expected)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"general.architecture": "mamba"},
            f"the architecture 'mamba' cannot be evaluated; {listed(computed())} can, any other with "
            "llama.cpp's own tools",
        ),
        ({"qwen2.block_count": None}, "qwen2.block_count is missing; a whole number from 1 would be right"),
        ({"qwen2.block_count": 0}, "qwen2.block_count is 0; a whole number from 1 would be right"),
        ({"qwen2.block_count": "2"}, "qwen2.block_count is '2'; a whole number from 1 would be right"),
        (
            {"qwen2.attention.head_count_kv": 3},
            "qwen2.attention.head_count_kv is 3; a divisor of the 4 heads would be right",
        ),
        (
            {"qwen2.attention.head_count_kv": [2, 1]},
            "qwen2.attention.head_count_kv differs between layers; one number for all of them would be right",
        ),
        (
            {"qwen2.attention.layer_norm_rms_epsilon": float("nan")},
            "qwen2.attention.layer_norm_rms_epsilon is nan; a number from 0 would be right",
        ),
        (
            {"qwen2.rope.scaling.type": "longrope"},
            "qwen2.rope.scaling.type is 'longrope'; none, linear or yarn would be right",
        ),
        ({"qwen2.expert_count": 8}, "qwen2.expert_count is 8; none (no qwen2 is a mixture) would be right"),
        ({"qwen2.rope.dimension_count": 8}, "qwen2.rope.dimension_count is 8; the length of a key, 16, would be right"),
    ],
)
def test_odd_metadata(tmp_path: Path, keys: dict[str, Any], expected: str) -> None:
    assert message(model(tmp_path / "m.gguf", MODELS["qwen2"], lambda tensors: None, keys)) == expected


def test_mixtures_need_their_experts(tmp_path: Path) -> None:
    small = MODELS["qwen3moe"]
    path = model(tmp_path / "m.gguf", small, lambda tensors: None, {"qwen3moe.expert_used_count": 9})
    assert message(path) == "qwen3moe.expert_used_count is 9; at most the 8 experts would be right"
    path = model(tmp_path / "n.gguf", small, lambda tensors: None, {"qwen3moe.expert_count": None})
    assert message(path) == "qwen3moe.expert_count is 0 or missing; the number of experts would be right"


def test_lists_of_one_number_are_that_number(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf", MODELS["qwen2"], lambda t: None, {"qwen2.attention.head_count_kv": [2, 2]})
    with open_model(path) as opened:
        assert opened.hyper.n_head_kv == 2


def test_tokens_of_another_vocabulary(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf", MODELS["qwen2"], lambda tensors: None)
    strange = TOKENS.copy()
    strange[1, 3] = 258
    expected = "the text has the token id 258, but the model has 258 tokens; use its own tokenizer"
    assert message(path, strange) == expected
    strange[1, 3] = -1
    assert message(path, strange) == expected.replace("id 258", "id -1")
    assert message(path, TOKENS.astype(np.int64)).startswith(
        "tokens come as int32 of shape (chunks, tokens), not int64"
    )
    assert message(path, TOKENS[:0]).startswith("tokens come as int32 of shape (chunks, tokens), not int32 of (0, 16)")


def test_memory_that_cannot_do(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf", MODELS["qwen2"], lambda tensors: None)
    said = message(path, run=Run(memory=1 << 20))
    assert said.startswith("1048576 bytes of memory are too few for this model and chunk length; ")
    needed = int(said.split("; ")[1].split()[0])
    with open_model(path) as opened:
        assert collect(opened, TOKENS, Run(memory=needed)).sums


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    path = model(tmp_path / "m.gguf", replace(MODELS["qwen2"]), lambda tensors: None)
    (tmp_path / "file").write_text("")
    assert message(path, run=Run(work=tmp_path / "file" / "below")).startswith(f"{tmp_path / 'file' / 'below'}: ")


def test_a_full_disk(tmp_path: Path) -> None:
    """States are spilled to files that may not grow."""
    path = model(tmp_path / "m.gguf", MODELS["qwen2"], lambda tensors: None)
    needed = int(message(path, run=Run(memory=1)).split("; ")[1].split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        said = message(path, run=Run(memory=needed, work=tmp_path / "work"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert said.endswith("states.0: File too large; check the path, its rights and the room left")


@pytest.mark.parametrize("opened", [message, refused], ids=["engine", "runtime"])
def test_factors_that_divide_by_nothing(opened: Callable[[Path], str], tmp_path: Path) -> None:
    small = replace(MODELS["llama"], without=(".bias",))
    path = model(tmp_path / "m.gguf", small, put("rope_freqs.weight", 0, 0.0))
    assert opened(path) == "rope_freqs.weight has a factor of 0; numbers above 0 would be right"


def test_a_set_of_states_of_no_length(tmp_path: Path) -> None:
    """AltUp makes all sets as long as the active one, which a set of zeros cannot be."""

    def change(tensors: dict[str, Any]) -> None:
        tensors["altup_proj.weight"][1] = 0

    path = model(tmp_path / "m.gguf", HYBRID_MODELS["gemma3n"], change)
    assert message(path).startswith("layer 0 gives values that are not finite")


def test_keys_and_values_that_no_layer_has(tmp_path: Path) -> None:
    keys = {"gemma4.attention.shared_kv_layers": 4}
    path = model(tmp_path / "m.gguf", HYBRID_MODELS["gemma4"], lambda tensors: None, keys)
    assert message(path) == (
        "gemma4.attention.shared_kv_layers leaves layer 2 keys and values of no layer before it that sees as much as "
        "it does; fewer would be right"
    )
