"""Layers that carry a state from token to token, and compressed attention: logits against the exact engine, and the
state itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from architecture_helpers.hybrid_models import HYBRID_MODELS, RUN_MODELS
from forward_models import LENGTH, chunks, write
from quantmill import _kernels
from quantmill.engine.evaluation import Run, evaluate, open_model
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.spans import of_tag
from quantmill.runtime.generator import generate
from quantmill.runtime.layer_plan import CannotRun
from quantmill.runtime.loader import load
from quantmill.runtime.sampler import Sampling

TOKENS = chunks(RUN_MODELS["lfm2"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("small")
    return {name: write(RUN_MODELS[name], folder / f"{name}.gguf") for name in RUN_MODELS}


def exact(path: Path, count: int = 1) -> np.ndarray:
    """The engine's logits of the counted tokens of the first chunks."""
    with open_model(path) as model, evaluate(model, TOKENS[:count], Run()) as hidden:
        return hidden.logits(0, count).copy()


def counted(path: Path, repack: bool, count: int = 1) -> np.ndarray:
    """The runtime's."""
    model = load(path, threads=2, repack=repack)
    every = [model.evaluate(chunk, 0, every=True)[LENGTH // 2 : LENGTH - 1] for chunk in TOKENS[:count]]
    return np.concatenate(every)


def divergences(base: np.ndarray, logits: np.ndarray) -> np.ndarray:
    p, q = (v.astype(np.float64) - v.max(1, keepdims=True) for v in (base, logits))
    p, q = (v - np.log(np.exp(v).sum(1, keepdims=True)) for v in (p, q))
    return (np.exp(p) * (p - q)).sum(1)


def divergence(base: np.ndarray, logits: np.ndarray) -> float:
    return float(divergences(base, logits).mean())


@pytest.mark.parametrize("name", RUN_MODELS)
def test_logits_are_the_engines(files: dict[str, Path], name: str) -> None:
    """But for one token, which may take another expert where two are equal to what floats tell."""
    base = exact(files[name])
    for repack in (True, False):
        logits = counted(files[name], repack)
        found = divergences(base, logits)
        alike = np.argsort(found)[: -1 if RUN_MODELS[name].keys.get("expert_count") else None]
        assert found[alike].mean() < 1e-5, repack
        assert np.abs(logits - base)[alike].max() < 0.02 * np.abs(base).max(), repack


@pytest.mark.parametrize("ftype", ["Q8_0", "Q4_K_M"])
@pytest.mark.parametrize("name", RUN_MODELS)
def test_a_quantized_file_is_as_far_from_its_base_as_the_engine_says(
    files: dict[str, Path], tmp_path: Path, name: str, ftype: str
) -> None:
    """Over all chunks: of 300 experts of random weights some are so near each other that a token takes another one."""
    small, count = tmp_path / f"{ftype}.gguf", len(TOKENS)
    quantize_file(files[name], small, ftype, reference=of_tag("b11312"), threads=1)
    of_file = exact(small, count)
    own = divergence(exact(files[name], count), of_file)
    for repack in (True, False):
        assert divergence(of_file, counted(small, repack, count)) < 0.02 * own


@pytest.mark.parametrize("name", RUN_MODELS)
def test_token_by_token_is_what_a_prompt_is(files: dict[str, Path], name: str) -> None:
    tokens = TOKENS[0]
    prompt = load(files[name], threads=1).evaluate(tokens, 0, every=True)
    model = load(files[name], threads=2)
    parts = [model.evaluate(tokens[:50], 0, every=True)]
    parts += [model.evaluate(tokens[i : i + 1], i) for i in range(50, 80)]
    parts.append(model.evaluate(tokens[80:], 80, every=True))
    assert np.abs(np.concatenate(parts) - prompt).max() < 2e-4 * np.abs(prompt).max()
    assert np.array_equal(load(files[name], threads=3).evaluate(tokens, 0, every=True), prompt)
    texts = [list(generate(model, tokens[:40].tolist(), 8, Sampling(temperature=1, seed=1))) for _ in range(2)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", ["lfm2", "falcon-h1", "qwen35", "deepseek2"])
def test_a_long_prompt_is_what_its_parts_are(name: str, tmp_path: Path) -> None:
    """More tokens than are computed at a time."""
    small = replace(RUN_MODELS[name], keys={**RUN_MODELS[name].keys, "context_length": 1200})
    tokens = chunks(small, 1100, 1)[0]
    path = write(small, tmp_path / "m.gguf")
    whole, model = load(path, threads=2).evaluate(tokens, 0), load(path)
    model.evaluate(tokens[:333], 0)
    assert np.abs(model.evaluate(tokens[333:], 333) - whole).max() < 2e-4 * np.abs(whole).max()


@pytest.mark.parametrize("name", ["lfm2", "granitehybrid", "qwen3next"])
def test_a_state_begins_anew_and_never_goes_back(files: dict[str, Path], name: str) -> None:
    tokens, model = TOKENS[0], load(files[name])
    first = model.evaluate(tokens[:20], 0)
    model.evaluate(tokens[40:60], 20)
    with pytest.raises(ValueError, match="position must be 0 or 40: what a model of this kind carries"):
        model.evaluate(tokens[:1], 20)
    assert np.array_equal(model.evaluate(tokens[:20], 0), first)


def test_heads_of_several_widths(tmp_path: Path) -> None:
    """Columns that fill no pieces of 64, as those of 80 of a Mamba 2 are."""
    for name, columns in (("falcon-h1", 80), ("falcon-h1", 64), ("qwen35", 80), ("qwen35", 128)):
        keys = {**RUN_MODELS[name].keys, "ssm.inner_size": 4 * columns}
        path = write(replace(RUN_MODELS[name], keys=keys), tmp_path / "m.gguf")
        assert divergence(exact(path), counted(path, repack=True)) < 1e-5, (name, columns)


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        (
            "qwen35moe",
            {"expert_shared_feed_forward_length": 48},
            "rows of 48 weights; these kernels need a multiple of 32",
        ),
        ("falcon-h1", {"ssm.inner_size": 32}, "heads of 8 columns; these kernels need a multiple of 16"),
        ("qwen35", {"ssm.state_size": 24}, "heads of 24 columns; these kernels need a multiple of 16"),
        ("deepseek2", {}, "rows of 24 weights; these kernels need a multiple of 32"),
        ("lfm2", {"shortconv.l_cache": 9}, "convolutions of 9 tokens; these kernels have room for 8"),
    ],
)
def test_sizes_that_the_kernels_do_not_have(name: str, keys: dict[str, int], words: str, tmp_path: Path) -> None:
    path = write(replace(HYBRID_MODELS[name], keys={**HYBRID_MODELS[name].keys, **keys}), tmp_path / "m.gguf")
    with pytest.raises(CannotRun) as caught:
        load(path)
    assert str(caught.value) == f"{path}: has {words}"


def test_a_configuration_that_does_not_fit_is_refused() -> None:
    sizes = {"layers": 1, "width": 32, "hidden": 32, "heads": 1, "kv_heads": 1, "head_dim": 16, "vocabulary": 4}
    sizes |= {"context": 8, "rotated": 2, "temper_step": 1, "groups": 1, "groups_used": 1, "gated": 1}
    none = (
        *("experts", "experts_used", "expert_hidden", "shared_hidden", "eps", "embedding_scale", "attention_scale"),
        *("residual_scale", "logit_scale", "score_cap", "logit_cap", "temper_scale", "temper_first", "chunked"),
        *("shares_before", "halves_apart", "layer_norm", "parallel", "attention_normed", "feed_normed", "head_norm"),
        *("activation", "gate_alpha", "gate_limit", "scoring", "shares_normed", "shares_scale"),
    )
    layers: dict[str, list[float]] = {"window": [0], "turns": [0], "tempers": [0], "mixture": [0], "recurs": [1]}
    scan = {"recurrence": 2, "taps": 4, "inner": 64, "state_heads": 4, "state_groups": 2, "states": 16}
    for change, words in (
        ({}, "recurs must be from 0 to 0"),
        ({"recurrence": 4}, "recurrence must be from 0 to 3"),
        ({"recurrence": 1}, "taps must be from 1 to 8"),
        ({"rank": 15}, "rank must be from 0 to 14"),
        ({"rank": 10, "head_key": 34, "head_values": 8}, "compressed attention has one key-value of the rank"),
        ({**scan, "state_groups": 3}, "heads of a state must be a multiple of its groups"),
        ({**scan, "states": 24}, "and their columns and states of 16"),
        ({**scan, "inner": 32}, "and their columns and states of 16"),
    ):
        with pytest.raises(ValueError, match=words):
            _kernels.Model({**dict.fromkeys(none, 0), **sizes, **change}, layers, 1)
