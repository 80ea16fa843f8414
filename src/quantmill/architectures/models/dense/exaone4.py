"""LG's EXAONE 4: layers with a window turn by position, and those without do not."""

from collections.abc import Iterator, Mapping
from typing import Any

from quantmill.architectures.architecture import Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.dense.llama import rope_factors
from quantmill.architectures.models.pieces import (
    ATTN_OUTPUT,
    COMMON,
    FFN,
    POST_ATTENTION_NORM,
    POST_FFN_NORM,
    QK_NORM,
    QKV,
    SILU,
    TOP,
    check_whole_heads,
)
from quantmill.architectures.operations import Add, Attend, Feed, Norm
from quantmill.gguf import ValueType

WINDOWED_LAYERS = 64  # a model of so many layers has windows in llama.cpp, and no other
_SLIDING, _FULL = "sliding_attention", "full_attention"


def _pattern(facts: Facts) -> Mapping[str, Any]:
    """The window, and which layers have it, one truth a layer; None where there is none."""
    check_whole_heads(facts)
    width = facts.get("sliding_window", 4096)
    if width is None:
        return {"sliding_window": None, "windows": None}
    return {"sliding_window": width, "windows": _windows(facts)}


def _windows(facts: Facts) -> list[bool]:
    layers = facts["num_hidden_layers"]
    kinds, step = facts.get("layer_types"), facts["sliding_window_pattern"]
    if kinds is not None:
        if not isinstance(kinds, list) or len(kinds) != layers or not {_SLIDING, _FULL}.issuperset(map(str, kinds)):
            raise ModelError(f"config.json's `layer_types` is no list of {_SLIDING!r} and {_FULL!r}, one a layer")
        return [kind == _SLIDING for kind in kinds]
    if isinstance(step, str) and step:
        return [step[layer % len(step)] == "L" for layer in range(layers)]
    if isinstance(step, int) and step > 0:
        return [(layer + 1) % step != 0 for layer in range(layers)]
    raise ModelError(
        f"config.json's `sliding_window_pattern` is {step!r}; a whole number, or a text such as LLLG, would be right"
    )


def _notes(facts: Facts) -> Iterator[str]:
    """llama.cpp goes by the number of layers, whatever a file says."""
    layers, windowed = facts["num_hidden_layers"], facts["windows"] is not None
    if windowed != (layers == WINDOWED_LAYERS):
        has = "windows" if layers == WINDOWED_LAYERS else "no windows, and rotary positions in every layer,"
        yield (
            f"config.json's `sliding_window` is {facts['sliding_window']}; llama.cpp's exaone4 has {has} in a model of "
            f"{layers} layers, so that it computes otherwise than transformers"
        )


EXAONE4 = Architecture(
    "exaone4",
    (*TOP, TensorLine("rope_freqs.weight", "pairs", asked=rope_factors, optional=True)),
    (*QKV, *QK_NORM, ATTN_OUTPUT, POST_ATTENTION_NORM, *FFN, POST_FFN_NORM),
    (
        ModelClass(
            "Exaone4ForCausalLM",
            {
                **COMMON,
                "rms_norm_eps": 1e-5,
                "num_key_value_heads": None,
                "max_position_embeddings": 2048,
                "sliding_window_pattern": 4,
            },
            scalings=("linear", "yarn", "llama3"),
            only=SILU | {"attention_bias": (False, None)},
            facts=_pattern,
            notes=_notes,
        ),
    ),
    keys=(
        "vocab_size",
        "attention.sliding_window",
        MetadataKey("attention.sliding_window_pattern", "windows", ValueType.BOOL),
    ),
    since=6122,
    operations=(
        Attend(qk_norm=True, turns="windowed", of="states"),
        Norm("post_attention_norm", of="change"),
        Add(),
        Feed(of="states"),
        Norm("post_ffw_norm", of="change"),
        Add(),
    ),
    window_pattern=4,
    window_base=0.0,
    windowed_layers=WINDOWED_LAYERS,
    whole_heads=True,
)
