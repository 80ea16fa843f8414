"""Facts that a file states where its architecture has a default: computed, or refused in a sentence, never ignored."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from architecture_helpers.dense_models import DENSE_MODELS
from architecture_helpers.hybrid_models import HYBRID_MODELS
from forward_models import MODELS, VOCABULARY, Small, metadata, write
from quantmill.architectures.errors import ForwardError
from quantmill.architectures.hyperparameters import Hyper, hyper
from quantmill.architectures.known import ARCHITECTURES
from quantmill.architectures.rope_scaling import Rope
from quantmill.architectures.tensor_check import check, expected
from quantmill.engine.evaluation import Run, evaluate, open_model
from quantmill.gguf import kv
from quantmill.gguf.types import TYPES
from quantmill.runtime.loader import load

WINDOW = {"attention.sliding_window": 16}


def facts(architecture: str, layers: int = 4, **keys: Any) -> Hyper:
    small = (MODELS | DENSE_MODELS).get(architecture) or Small(architecture)
    found = {entry.key: entry for entry in metadata(small)}
    stated = {"block_count": layers, **{key.replace("__", "."): value for key, value in keys.items()}}
    for key, value in stated.items():
        found[f"{architecture}.{key}"] = kv(f"{architecture}.{key}", value)
    return hyper("m.gguf", found, VOCABULARY)


@pytest.mark.parametrize(
    ("pattern", "windowed"),
    [(None, [1, 1, 1, 0]), (2, [1, 0, 1, 0]), (0, [1, 1, 1, 1]), ([False, True, True, False], [0, 1, 1, 0])],
)
@pytest.mark.parametrize("architecture", ["cohere2", "olmo2", "gemma2", "gemma3"])
def test_a_file_may_say_which_layers_have_a_window(architecture: str, pattern: Any, windowed: list[int]) -> None:
    said = {} if pattern is None else {"attention__sliding_window_pattern": pattern}
    found = facts(architecture, attention__sliding_window=16, **said)
    usual = {"gemma2": [1, 0, 1, 0], "gemma3": [1, 1, 1, 1]}.get(architecture, windowed)
    assert [found.windowed(layer) for layer in range(4)] == (usual if pattern is None else windowed)


def test_how_layers_with_a_window_turn() -> None:
    yarn = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0, "attention__sliding_window": 16}
    full = facts("olmo2", **yarn)
    assert full.rope_of(0) == Rope(full.rope.base)
    assert (full.rope_of(3).scaling, full.rope_of(3)) == ("yarn", full.rope)
    assert facts("gemma3", attention__sliding_window=16).rope_of(0).base == 10000.0
    assert facts("gemma3", attention__sliding_window=16, rope__freq_base_swa=5000.0).rope_of(0).base == 5000.0
    other = facts("cohere2", attention__sliding_window=16, rope__freq_base_swa=5000.0)
    assert (other.rope_of(0).base, other.rope_of(3)) == (5000.0, other.rope)


def test_a_file_of_olmo_without_windows_has_none() -> None:
    assert not any(facts("olmo2").windowed(layer) for layer in range(4))
    assert not any(facts("olmo2", attention__sliding_window=0).windowed(layer) for layer in range(4))


@pytest.mark.parametrize(
    ("architecture", "keys", "said"),
    [
        ("glm4", {"rope__dimension_sections": [8, 4, 4, 0]}, "glm4.rope.dimension_sections is [8, 4, 4, 0]; none, for"),
        ("gemma3", {**WINDOW, "attention__key_length_swa": 64}, "gemma3.attention.key_length_swa is 64; that of all"),
        ("mistral3", {"rope__scaling__type": "yarn", "rope__scaling__yarn_beta_fast": 4.0}, "yarn_beta_fast is 4.0"),
        ("cohere2", {**WINDOW, "attention__sliding_window_pattern": [True]}, "is another list; 4 truths would be"),
    ],
)
def test_what_is_not_computed_is_refused(architecture: str, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ForwardError) as error:
        facts(architecture, **{key.replace(".", "__"): value for key, value in keys.items()})
    assert said in str(error.value)


def test_factors_of_positions_are_above_zero(tmp_path: Path) -> None:
    path = write(MODELS["llama-3"], tmp_path / "m.gguf")
    data = bytearray(path.read_bytes())
    with open_model(path) as model:
        raw = model.source.rows("rope_freqs.weight", 0, 1).tobytes()
    at = data.index(raw)
    data[at : at + 4] = np.float32(-1).tobytes()
    path.write_bytes(data)
    ids = np.zeros((1, 8), np.int32)
    said = "rope_freqs.weight has a factor of -1; numbers above 0"
    with open_model(path) as model, pytest.raises(ForwardError, match=said):
        evaluate(model, ids, Run()).__enter__()
    with pytest.raises(ForwardError, match=said):
        load(path)


@pytest.mark.parametrize(
    "odd", ["blk.0.attn_norm.scale", "blk.0.ffn_norm.input_scale", "blk.0.attn_odd.bias", "cls.output.weight"]
)
@pytest.mark.parametrize("architecture", [known.name for known in ARCHITECTURES.values() if known.is_computed])
def test_no_tensor_is_passed_over(architecture: str, odd: str) -> None:
    """What llama.cpp takes beside, of files that others make, changes the result: it is refused by its name."""
    names = {**MODELS, **DENSE_MODELS, **HYBRID_MODELS}
    small = next((one for one in names.values() if one.architecture == architecture), None)
    if small is None:
        pytest.skip("its small models are checkpoints, which the goldens of classes convert")
    found = hyper("m.gguf", {entry.key: entry for entry in metadata(small)}, VOCABULARY)
    tensors = {name: (shape, TYPES["F32"]) for name, shape, _ in expected(found)}
    check("m.gguf", found, tensors)
    with pytest.raises(ForwardError, match=f"holds a tensor '{odd}', for which this {architecture} has no place"):
        check("m.gguf", found, {**tensors, odd: ((1,), TYPES["F32"])})
