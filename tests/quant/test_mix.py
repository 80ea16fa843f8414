"""The mix against llama-quantize's own choices, as peer_mix/record.py recorded them, and what a plan promises."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peer_mix.runs import OPTIONS, run_lengths
from projects import GOLDEN
from quantmill import _kernels
from quantmill.admission.conformance import write
from quantmill.admission.shapes import MODELS
from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf import TensorEntry, kv
from quantmill.gguf.types import TYPES
from quantmill.quant.file_plan import ImatrixFacts, plan_file
from quantmill.quant.mix import Mix, Overrides, WidthDoesNotFit, needs_importance, plan_types
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.ftypes import FTYPES, STANDARD_MATRIX, tensor_type
from quantmill.reference.hparams import Hparams, ModelFacts
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.reference.reference import Reference
from quantmill.reference.spans import of_tag, offered

RECORDED = json.loads((GOLDEN / "peer_mix" / "types.json").read_text())
ALIASES = ("Q3_K", "Q4_K", "Q5_K")
IMATRIX = ImatrixFacts("imatrix.dat", b"text.txt", 448, 100)
OVERRIDES: dict[str, dict[str, Any]] = {"": {}, **dict(OPTIONS)}


def overrides(options: dict[str, Any]) -> Overrides:
    found = dict(options)
    for key in ("output_tensor_type", "token_embedding_type"):
        if key in found:
            found[key] = TYPES[found[key]]
    found["tensor_types"] = tuple((pattern, TYPES[name]) for pattern, name in found.get("tensor_types", ()))
    return Overrides(**found)


def ours(model: str, call: str) -> dict[str, str] | None:
    """What we choose for a recorded call; None where we refuse."""
    name, _, options = call.removesuffix(" +imatrix").partition(" ")
    guided = call.endswith(" +imatrix")
    facts, tensors = MODELS[model]
    try:
        mix = plan_types(
            B4867, B4867.ftype(name), Hparams.from_metadata(facts), tensors, guided, overrides(OVERRIDES[options])
        )
    except QuantmillError:
        return None
    # The recorded imatrix knows the matrices in the layers.
    for tensor, type_ in mix.types.items():
        known = guided and "blk." in tensor
        if mix.sources[tensor] != type_ and needs_importance(B4867, B4867.ftype(name), tensor, type_) and not known:
            return None
    matrices = {tensor for tensor, shape, _ in tensors if len(shape) > 1}
    types = {tensor: type_.name for tensor, type_ in mix.types.items() if tensor in matrices}
    return run_lengths({tensor: type_ for tensor, type_ in types.items() if type_ != "F32" or name == "F32"})


@pytest.mark.parametrize("model", RECORDED["models"])
def test_types_are_those_of_llama_quantize(model: str) -> None:
    for call, number in RECORDED["models"][model].items():
        expected = None if number == "fails" else RECORDED["mixes"][number]
        assert ours(model, call) == expected, f"{model} {call}"


def test_every_model_and_ftype_is_recorded() -> None:
    assert RECORDED["models"].keys() == MODELS.keys()
    for calls in RECORDED["models"].values():
        names = {name for name, ftype in B4867.ftypes.items() if ftype.name not in ALIASES}
        assert {call.split()[0] for call in calls} >= names


def qwen2_32b() -> tuple[dict[str, Any], list[tuple[str, tuple[int, ...], Any]]]:
    width, ffn, vocabulary, kv_width = 5120, 27648, 152064, 1024
    bf16, f32 = TYPES["BF16"], TYPES["F32"]
    tensors = [(f"{name}.weight", (width, vocabulary), bf16) for name in ("token_embd", "output")]
    tensors.append(("output_norm.weight", (width,), f32))
    for i in range(64):
        b = f"blk.{i}."
        matrices = {
            "attn_q": (width, width),
            "attn_k": (width, kv_width),
            "attn_v": (width, kv_width),
            "attn_output": (width, width),
            "ffn_gate": (width, ffn),
            "ffn_up": (width, ffn),
            "ffn_down": (ffn, width),
        }
        tensors += [(f"{b}{name}.weight", shape, bf16) for name, shape in matrices.items()]
        tensors += [(f"{b}{name}_norm.weight", (width,), f32) for name in ("attn", "ffn")]
        tensors += [(f"{b}{name}.bias", (matrices[name][1],), f32) for name in ("attn_q", "attn_k", "attn_v")]
    facts = {"general.architecture": "qwen2", "qwen2.block_count": 64}
    facts |= {"qwen2.attention.head_count": 40, "qwen2.attention.head_count_kv": 8}
    return facts, tensors


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [
        ("BF16", 65.54),
        ("Q8_0", 34.82),
        ("Q6_K_L", 27.26),
        ("Q6_K", 26.89),
        ("Q5_K_M", 23.26),
        ("Q4_K_M", 19.85),
        ("Q4_0", 18.71),
        ("IQ4_XS", 17.69),
        ("Q3_K_M", 15.94),
        ("IQ3_M", 14.81),
        ("Q2_K", 12.31),
        ("IQ2_M", 11.26),
        ("IQ2_XXS", 9.03),
    ],
)
def test_sizes_of_a_32b_model(name: str, gigabytes: float) -> None:
    facts, tensors = qwen2_32b()
    vocabulary = 5_940_000  # bytes of its tokens, merges and types
    planned = plan_file(B4867, [kv(key, value) for key, value in facts.items()], tensors, name, imatrix=IMATRIX)
    assert abs((planned.n_bytes + vocabulary) / 1e9 - gigabytes) < 0.01


def test_the_standard_matrix_has_26_files() -> None:
    assert len(STANDARD_MATRIX) == 26
    assert all(name in FTYPES for name in STANDARD_MATRIX)


def test_order_is_by_layer_then_by_bytes() -> None:
    names = ["blk.10.a", "output.weight", "blk.2.b", "blk.2.a", "blk.2.B", "zeta", "token_embd.weight"]
    assert B4867.order(names) == [
        "output.weight",
        "token_embd.weight",
        "zeta",
        "blk.2.B",
        "blk.2.a",
        "blk.2.b",
        "blk.10.a",
    ]


def small(*extra: tuple[str, tuple[int, ...]]) -> tuple[Hparams, list[Any]]:
    facts, tensors = MODELS["tiny"]
    return Hparams.from_metadata(facts), [*tensors, *((name, shape, TYPES["F16"]) for name, shape in extra)]


def planned(name: str, *extra: tuple[str, tuple[int, ...]], **options: Any) -> Mix:
    hparams, tensors = small(*extra)
    return plan_types(B4867, B4867.ftype(name), hparams, tensors, False, overrides(options))


def test_a_matrix_of_one_row_is_left_alone() -> None:
    assert planned("Q4_K_M", ("x.weight", (256, 1))).types["x.weight"] == TYPES["F16"]


def test_fallbacks_are_reported() -> None:
    mix = planned("Q4_K_M", ("x.weight", (320, 4)), ("y.weight", (40, 4)))
    assert [(f.tensor, f.wanted.name, f.type.name) for f in mix.fallbacks] == [
        ("x.weight", "Q4_K", "Q5_0"),
        ("y.weight", "Q4_K", "F16"),
    ]


def test_an_ftype_that_needs_an_imatrix_says_so() -> None:
    with pytest.raises(UsageError) as error:
        planned("IQ2_XXS")
    assert str(error.value) == ("IQ2_XXS needs an importance matrix: give an imatrix file computed from this model")


def test_a_width_without_fallback_says_so() -> None:
    with pytest.raises(WidthDoesNotFit) as error:
        planned("Q4_0", ("x.weight", (40, 4)))
    assert str(error.value) == (
        "x.weight has rows of 40 weights, which Q4_0 cannot hold (its blocks have 32); "
        "choose a type with smaller blocks for it"
    )


def test_patterns_that_tags_read_differently_are_refused() -> None:
    with pytest.raises(QuantmillError, match=r"both match blk\.0\.attn_k\.weight"):
        planned("Q4_K_M", tensor_types=(("attn_k", "Q4_K"), ("attn", "Q8_0")))


def test_a_broken_pattern_says_so() -> None:
    with pytest.raises(QuantmillError, match="'attn\\(' is not a regular expression for tensor names"):
        planned("Q4_K_M", tensor_types=(("attn(", "Q8_0"),))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, "its metadata have no general.architecture, which every"),
        ({"general.architecture": "qwen2"}, "its metadata have no qwen2.block_count, which every"),
        ({"general.architecture": "qwen2", "qwen2.block_count": "4"}, "the GGUF key qwen2.block_count is '4'"),
        (
            {"general.architecture": "q", "q.block_count": 4, "q.attention.head_count": [1, 2]},
            "the GGUF key q.attention.head_count has 2 values; the model has 4 layers",
        ),
    ],
)
def test_missing_model_facts_are_named(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFacts, match=message):
        Hparams.from_metadata(facts)


@pytest.mark.parametrize(
    ("arch", "tags", "is_tied"),
    [
        ("mpt", "b4980 b8179", False),
        ("bert", "b4980 b8179", True),
        ("lfm2", "b6133", True),
        ("lfm2", "b6301 b8352", False),
        ("gemma3n", "b6133 b8179", True),
        ("neo-bert", "b6133 b8179", True),
        ("jina-bert-v3", "b6431 b8179", True),
        ("lfm2moe", "b6845 b8179", True),
        ("modern-bert", "b7698 b8179", True),
        ("eurobert", "b8179", True),
        ("eurobert", "b8352", False),
    ],
)
def test_an_output_matrix_counts_where_the_architecture_has_one(arch: str, tags: str, is_tied: bool) -> None:
    """As the libraries of these tags quantized a file with embedding and output of each architecture."""
    tensors = [TensorEntry(f"{name}.weight", (256, 2), TYPES["F16"]) for name in ("token_embd", "output")]
    for tag in tags.split():
        reference = of_tag(tag)
        types = plan_types(reference, reference.ftype("Q4_K_M"), Hparams(arch, 2), tensors, has_imatrix=False).types
        assert [types[name].name for name in ("token_embd.weight", "output.weight")] == (
            ["Q6_K", "Q4_K"] if is_tied else ["Q4_K", "Q6_K"]
        )


def test_token_types_of_jina_bert_v3_stay_as_they_are() -> None:
    tensors = [TensorEntry("token_types.weight", (256, 2), TYPES["F16"])]
    for tag in ("b6431", "b8179", "b8352", "b8739"):
        reference = of_tag(tag)
        model = Hparams("jina-bert-v3", 2)
        mix = plan_types(reference, reference.ftype("Q4_K_M"), model, tensors, has_imatrix=False)
        assert mix.types["token_types.weight"].name == "F16"


def test_layers_without_their_attention_are_refused() -> None:
    facts, tensors = MODELS["tiny"]
    with pytest.raises(ModelFacts, match="the file has 3 attention value tensors, but its metadata names 4"):
        plan_types(B4867, B4867.ftype("Q4_0"), Hparams.from_metadata(facts), tensors[:-9], False)


@pytest.mark.parametrize(("tag", "is_checked"), [("b6845", True), ("b7324", False), ("b8179", False)])
def test_from_b7324_on_the_values_of_the_attention_are_not_counted(tag: str, is_checked: bool) -> None:
    facts, tensors = MODELS["tiny"]
    reference = of_tag(tag)
    with pytest.raises(ModelFacts) if is_checked else contextlib.nullcontext():
        plan_types(reference, reference.ftype("Q4_0"), Hparams.from_metadata(facts), tensors[:-9], False)


@pytest.mark.parametrize(("name", "near"), [("Q4_KM", "Q4_K_M"), ("IQ2XXS", "IQ2_XXS")])
def test_an_unknown_ftype_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(QuantmillError, match=f"{name} is not an ftype \\(did you mean {near}\\?\\)"):
        B4867.ftype(name)
    assert B4867.ftype("q4_k_m") is FTYPES["Q4_K_M"]
    assert tensor_type("q4_k") is TYPES["Q4_K"]


@pytest.mark.parametrize("reference", offered(), ids=str)
def test_what_a_kernel_demands_is_asked_for_beforehand(reference: Reference) -> None:
    """The embeddings too, for which later tags ask nothing until ggml stops."""
    out = np.zeros(1 << 10, np.uint8)
    for ftype in reference.ftypes.values():
        if ftype.type.name not in _kernels.quantize_types():
            continue
        with contextlib.suppress(ValueError):
            _kernels.quantize(ftype.type.name, np.zeros((1, 256), np.float32), out[: ftype.type.row_bytes(256)])
            continue
        for name in ("token_embd.weight", "output.weight", "blk.0.attn_q.weight"):
            assert needs_importance(reference, ftype, name, ftype.type), (ftype.name, name)


def test_a_pure_file_of_a_type_that_needs_importance_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "tiny")
    with pytest.raises(UsageError) as error:
        quantize_file(
            tmp_path / "tiny.gguf",
            tmp_path / "out.gguf",
            "IQ2_S",
            imatrix=tmp_path / "tiny.imatrix",
            pure=True,
            reference=of_tag("v0.5.0"),
        )
    assert str(error.value) == (
        f"{tmp_path / 'tiny.gguf'}: token_embd.weight is to become IQ2_XS, which needs an importance vector, and there "
        "is none for it; choose another type for it, or give an imatrix that has it"
    )


def test_every_type_that_a_mix_can_ask_for_is_in_the_table() -> None:
    assert {ftype.type.name for ftype in FTYPES.values()} <= TYPES.keys()
