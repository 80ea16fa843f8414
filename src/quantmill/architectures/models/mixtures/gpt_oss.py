"""OpenAI's gpt-oss: sinks beside the scores of attention, and experts with biases, released in MXFP4."""

from collections.abc import Iterable

from quantmill.architectures.architecture import NEEDED, Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    ATTN_OUTPUT_BIAS,
    EXPERTS_ALONE,
    OUTPUT,
    POST_ATTENTION_NORM,
    QKV,
    QKV_BIAS,
    SILU,
    TOP,
    attended,
    changed,
)
from quantmill.architectures.operations import Add, Attend, Experts, Norm
from quantmill.architectures.packing import packing


def _packed(facts: Facts) -> bool:
    return packing(facts) == "mxfp4"


def _plain(facts: Facts) -> bool:
    return not _packed(facts)


def _either(name: str, dims: str, source: str, plain: str, packed: str) -> Iterable[TensorLine]:
    """A stack of experts as floats, and as the blocks that stay what they are."""
    yield TensorLine(name, dims, source, asked=_plain, change=plain)
    blocks = f"{source}_blocks {source}_scales"
    yield TensorLine(name, dims, blocks, asked=_packed, change=packed, type="MXFP4")


_BOTH = "mlp.experts.gate_up_proj"

GPT_OSS = Architecture(
    "gpt-oss",
    (*TOP[:-1], *changed([OUTPUT], optional=False)),
    (
        ATTN_NORM,
        *QKV,
        *QKV_BIAS,
        ATTN_OUTPUT,
        ATTN_OUTPUT_BIAS,
        TensorLine("attn_sinks.weight", "heads", "self_attn.sinks"),
        POST_ATTENTION_NORM,
        TensorLine("ffn_gate_inp.weight", "embd experts", "mlp.router.weight"),
        TensorLine("ffn_gate_inp.bias", "experts", "mlp.router.bias"),
        *_either("ffn_gate_exps.weight", "embd eff experts", _BOTH, "turned even", "even blocks"),
        *_either("ffn_up_exps.weight", "embd eff experts", _BOTH, "turned odd", "odd blocks"),
        *_either("ffn_down_exps.weight", "eff embd experts", "mlp.experts.down_proj", "turned", "blocks"),
        TensorLine("ffn_gate_exps.bias", "eff experts", f"{_BOTH}_bias", change="even"),
        TensorLine("ffn_up_exps.bias", "eff experts", f"{_BOTH}_bias", change="odd"),
        TensorLine("ffn_down_exps.bias", "embd experts", "mlp.experts.down_proj_bias"),
    ),
    (
        ModelClass(
            "GptOssForCausalLM",
            {
                "rms_norm_eps": 1e-5,
                "rope_theta": 150_000.0,
                "tie_word_embeddings": False,
                "num_key_value_heads": 8,
                "max_position_embeddings": 131072,
                "head_dim": 64,
                "sliding_window": 128,
                "num_experts": 128,
                "num_experts_per_tok": 4,
                "attention_bias": True,
            },
            spellings=EXPERTS_ALONE,
            mixture=True,
            packings=("mxfp4",),
            yarn={"truncate": (False, True, None)},
            only=SILU | {"attention_bias": (True, None), "swiglu_limit": (7, None)},
            windows="pattern",
        ),
    ),
    keys=("attention.sliding_window", MetadataKey("expert_feed_forward_length", "intermediate_size")),
    needed=(*NEEDED, "expert_count", "expert_used_count", "expert_feed_forward_length", "attention.sliding_window"),
    since=11312,
    operations=(
        *attended(Attend(sinks=True)),
        Norm("post_attention_norm"),
        Experts(scoring="softmax_chosen", normalized=False, clamped=True),
        Add(),
    ),
    experts="always",
    window_pattern=2,
    window_base=0,
)
