"""SmolLM 3: every fourth layer has no rotary positions."""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.architecture import Architecture, Facts, ModelClass
from quantmill.architectures.conditions import Sizes
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    COMMON,
    FED,
    FFN,
    FFN_NORM,
    QKV,
    SILU,
    TOP,
    attended,
    permuted,
)
from quantmill.architectures.operations import Attend

_STEP = 4  # llama.cpp's, of which a file says nothing


def _turns(sizes: Sizes, layer: int) -> bool:
    return (layer + 1) % _STEP != 0


def _turned(facts: Facts) -> Mapping[str, Any]:
    """The layers that have rotary positions are those that llama.cpp takes; raises a ModelError for others."""
    layers = facts["num_hidden_layers"]
    wanted = [int((layer + 1) % _STEP != 0) for layer in range(layers)]
    stated, step = facts.get("no_rope_layers"), facts.get("no_rope_layer_interval", _STEP)
    key = "no_rope_layer_interval" if stated is None else "no_rope_layers"
    if (stated is None and step != _STEP) or (stated is not None and stated != wanted):
        raise ModelError(
            f"config.json's `{key}` takes rotary positions from other layers than every {_STEP}th; "
            "smollm3 in a GGUF file has that pattern and no other"
        )
    return {}


SMOLLM3 = Architecture(
    "smollm3",
    TOP,
    (ATTN_NORM, *permuted(QKV), ATTN_OUTPUT, FFN_NORM, *FFN),
    (
        ModelClass(
            "SmolLM3ForCausalLM",
            {
                **COMMON,
                "tie_word_embeddings": True,
                "rope_theta": 2_000_000.0,
                "num_key_value_heads": 4,
                "max_position_embeddings": 32768,
            },
            only=SILU
            | {"attention_bias": (False, None), "mlp_bias": (False, None), "use_sliding_window": (False, None)},
            facts=_turned,
            vocabulary="llama",
        ),
    ),
    keys=("vocab_size", "rope.dimension_count"),
    since=6122,
    operations=(*attended(Attend("norm", turns=_turns)), *FED),
)
