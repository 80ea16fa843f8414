"""Models on quantized kernels: logits against the exact engine, the cache, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

import forward_models
from architecture_helpers.dense_models import DENSE_MODELS
from forward_models import LENGTH, MODELS, Small, metadata, weights, write
from quantmill.commands.files.generate import tokens_of
from quantmill.engine.evaluation import Run, evaluate, open_model
from quantmill.errors import QuantmillError
from quantmill.gguf import Writer, kv, read
from quantmill.gguf.types import TYPES
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.runtime.layer_plan import CannotRun
from quantmill.runtime.loader import load
from quantmill.vocabulary.tokenizer import from_metadata

TOKENS = forward_models.chunks(MODELS["qwen2"])
SMALL = MODELS | DENSE_MODELS


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("small")
    return {name: write(small, folder / f"{name}.gguf") for name, small in SMALL.items()}


def exact(path: Path) -> np.ndarray:
    """The engine's logits of the counted tokens of the first chunk."""
    with open_model(path) as model, evaluate(model, TOKENS[:1], Run()) as hidden:
        return hidden.logits(0, 1).copy()


def divergence(base: np.ndarray, logits: np.ndarray) -> float:
    p, q = (v.astype(np.float64) - v.max(1, keepdims=True) for v in (base, logits))
    p, q = (v - np.log(np.exp(v).sum(1, keepdims=True)) for v in (p, q))
    return float((np.exp(p) * (p - q)).sum(1).mean())


@pytest.mark.parametrize("wants", [True, False])
def test_a_conversation_begins_with_one_bos_where_the_model_adds_it(wants: bool) -> None:
    entries = {entry.key: entry for entry in forward_models.metadata(MODELS["qwen2"])}
    entries["tokenizer.ggml.add_bos_token"] = kv("tokenizer.ggml.add_bos_token", wants)
    tokenizer = from_metadata(entries)
    bos = [257]
    assert tokens_of(tokenizer, "<s>abc", raw=False) == [*bos, *b"abc"]
    assert tokens_of(tokenizer, "abc", raw=False) == [*(bos * wants), *b"abc"]
    assert tokens_of(tokenizer, "", raw=False) == bos * wants
    assert tokens_of(tokenizer, "<s>abc", raw=True) == [*(bos * wants), *b"<s>abc"]


@pytest.mark.parametrize("name", SMALL)
def test_logits_are_the_engines(files: dict[str, Path], name: str) -> None:
    base = exact(files[name])
    for repack in (True, False):
        model = load(files[name], threads=2, repack=repack)
        logits = model.evaluate(TOKENS[0], 0, every=True)[LENGTH // 2 : LENGTH - 1]
        assert divergence(base, logits) < 1e-5, repack
        assert np.abs(logits - base).max() < 0.02 * np.abs(base).max(), repack


@pytest.mark.parametrize(
    ("name", "ftype"),
    [
        *[("qwen2", "Q8_0"), ("qwen2", "Q4_0"), ("qwen2", "IQ4_NL"), ("mixtral", "Q4_0"), ("qwen3moe", "Q8_0")],
        *[(name, "Q8_0") for name in DENSE_MODELS],
        *[("phi3", "Q4_K_M"), ("cohere2", "Q4_0")],
    ],
)
def test_a_quantized_file_is_as_far_from_its_base_as_the_engine_says(
    files: dict[str, Path], tmp_path: Path, name: str, ftype: str
) -> None:
    small = tmp_path / f"{ftype}.gguf"
    quantize_file(files[name], small, ftype, reference=B4867, threads=1)
    of_file = exact(small)
    own = divergence(exact(files[name]), of_file)
    for repack in (True, False):
        logits = load(small, repack=repack).evaluate(TOKENS[0], 0, every=True)[LENGTH // 2 : LENGTH - 1]
        assert divergence(of_file, logits) < max(0.02 * own, 1e-5)


@pytest.mark.parametrize(
    "name",
    [
        *("llama", "llama-bias", "gemma3", "mixtral", "qwen3moe", "olmo2", "exaone4-windows", "hunyuan-dense"),
        *("granite-bias", "gemma2", "cohere2", "glm4", "mistral3"),
    ],
)
def test_token_by_token_is_what_a_prompt_is(files: dict[str, Path], name: str) -> None:
    tokens = TOKENS[0]
    whole = load(files[name], threads=2).evaluate(tokens, 0, every=True)
    model = load(files[name], threads=1)
    parts = [model.evaluate(tokens[:50], 0, every=True)]
    parts += [model.evaluate(tokens[i : i + 1], i) for i in range(50, 80)]
    parts.append(model.evaluate(tokens[80:], 80, every=True))
    assert np.abs(np.concatenate(parts) - whole).max() < 2e-4 * np.abs(whole).max()
    assert np.array_equal(load(files[name], threads=3).evaluate(tokens, 0, every=True), whole)


def test_the_cache_can_be_rewound(files: dict[str, Path]) -> None:
    tokens = TOKENS[0]
    model = load(files["qwen3"], context=100)
    first = model.evaluate(tokens[:20], 0)
    model.evaluate(tokens[40:60], 20)
    assert np.array_equal(model.evaluate(tokens[:20], 0), first)
    with pytest.raises(ValueError, match="position must be from 0 to 20, where the cache ends"):
        model.evaluate(tokens[:1], 21)
    with pytest.raises(ValueError, match="the context has room for 100 tokens, not 101"):
        model.evaluate(np.resize(tokens, 81).astype(np.int32), 20)
    with pytest.raises(ValueError, match="there is no token 258"):
        model.evaluate(np.array([258], np.int32), 0)


def test_models_that_do_not_run(tmp_path: Path) -> None:
    path = write(Small("qwen2", heads=8), tmp_path / "m.gguf")
    with pytest.raises(CannotRun) as caught:
        load(path)
    assert str(caught.value) == f"{path}: has heads of 8 columns; these kernels need a multiple of 16"


def test_the_factors_are_those_of_the_context(tmp_path: Path) -> None:
    """A longer context than the original one takes the long factors, also where the text is short."""
    small, path = DENSE_MODELS["phi3-long"], tmp_path / "m.gguf"
    tensors = [(name, shape, values * (2 if "long" in name else 1)) for name, shape, values in weights(small)]
    with Writer(path, metadata(small), [(name, shape, TYPES["F32"]) for name, shape, _ in tensors]) as writer:
        for _, _, values in tensors:
            writer.append(values.view(np.uint8).reshape(-1))
    short, long = (load(path, context=context).evaluate(TOKENS[0][:40], 0) for context in (64, 65))
    assert np.array_equal(short, load(path, context=40).evaluate(TOKENS[0][:40], 0))
    assert not np.array_equal(short, long)


@pytest.mark.parametrize(("id_", "name"), [(31, "Q4_0_4_4"), (32, "Q4_0_4_8"), (33, "Q4_0_8_8"), (36, "IQ4_NL_4_4")])
def test_withdrawn_types_are_refused_with_advice(tmp_path: Path, id_: int, name: str) -> None:
    from gguf_files import raw, tensor

    path = tmp_path / "old.gguf"
    path.write_bytes(raw(tensors=[tensor(b"blk.0.attn_q.weight", (32, 4), id_)], data=bytes(96)))
    with pytest.raises(QuantmillError) as caught:
        read(path)
    plain = "IQ4_NL" if name.startswith("IQ") else "Q4_0"
    assert str(caught.value) == (
        f"{path}: the tensor 'blk.0.attn_q.weight' has the type {name}, which llama.cpp withdrew in b4282; "
        f"use {plain}, which is repacked when it is loaded"
    )
