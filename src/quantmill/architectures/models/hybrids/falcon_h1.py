"""Falcon H1: Mamba 2 and attention side by side in each layer, with multipliers in the weights."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quantmill.architectures.architecture import Architecture, Facts, ModelClass, TensorLine
from quantmill.architectures.conditions import always
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.hybrids.mamba2 import (
    check_heads,
    check_mamba,
    mamba_keys,
    mamba_lines,
    mamba_sizes,
)
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    COMMON,
    FED,
    FFN_BIAS,
    QKV,
    SILU,
    TOP,
    in_files,
    without,
)
from quantmill.architectures.operations import Add, Attend, Norm, Scan

_FACTORS = (
    *("embedding_multiplier", "lm_head_multiplier", "attention_in_multiplier", "attention_out_multiplier"),
    *("key_multiplier", "ssm_in_multiplier", "ssm_out_multiplier"),
)
_LISTS = {"mlp_multipliers": 2, "ssm_multipliers": 5}
_SIZES = ("mamba_d_conv", "mamba_d_head", "mamba_d_ssm", "mamba_d_state", "mamba_n_groups", "mamba_n_heads")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _multiplied(facts: Facts) -> Mapping[str, Any]:
    """Multipliers, which the converter needs each of, and sizes."""
    for key in _FACTORS:
        if not _number(facts.get(key)):
            raise ModelError(f"config.json's `{key}` is {facts.get(key)!r}; a number would be right")
    for key, count in _LISTS.items():
        value = facts.get(key)
        if not isinstance(value, list) or len(value) != count or not all(map(_number, value)):
            raise ModelError(f"config.json's `{key}` is {value!r}; a list of {count} numbers would be right")
    check_mamba(facts, *_SIZES)
    check_heads(facts, facts["mamba_d_ssm"], "mamba_n_heads", "mamba_d_head", "mamba_n_groups")
    if facts["mamba_rms_norm"] and facts["mamba_norm_before_gate"] is not False:
        raise ModelError(
            "config.json's `mamba_norm_before_gate` is not false beside a true `mamba_rms_norm`; falcon-h1 in a GGUF "
            "file has the norm behind the gate"
        )
    return {}


def _times(line: TensorLine, change: str) -> TensorLine:
    return replace(line, change=change)


_MAMBA = {line.name: line for line in mamba_lines("mamba", always)}
FALCON_H1 = Architecture(
    "falcon-h1",
    (
        _times(TOP[0], "embedding multiplier"),
        TensorLine("output_norm.weight", "embd", "model.final_layernorm.weight"),
        _times(TOP[2], "output multiplier"),
    ),
    (
        ATTN_NORM,
        _times(QKV[0], "attention multiplier"),
        _times(QKV[1], "key multipliers"),
        _times(QKV[2], "attention multiplier"),
        _times(ATTN_OUTPUT, "attention output multiplier"),
        *(
            {
                **_MAMBA,
                "ssm_in.weight": _times(_MAMBA["ssm_in.weight"], "ssm multipliers"),
                "ssm_norm.weight": replace(_MAMBA["ssm_norm.weight"], asked="mamba_rms_norm", optional=True),
                "ssm_out.weight": _times(_MAMBA["ssm_out.weight"], "ssm output multiplier"),
            }.values()
        ),
        TensorLine("ffn_norm", "embd", "pre_ff_layernorm.weight"),
        TensorLine("ffn_gate.weight", "embd ff", "feed_forward.gate_proj.weight", change="gate multiplier"),
        TensorLine("ffn_up.weight", "embd ff", "feed_forward.up_proj.weight"),
        TensorLine("ffn_down.weight", "ff embd", "feed_forward.down_proj.weight", change="down multiplier"),
        *in_files(FFN_BIAS, optional=True),
    ),
    (
        ModelClass(
            "FalconH1ForCausalLM",
            {
                **COMMON,
                "rms_norm_eps": 1e-5,
                "rope_theta": 100_000.0,
                "max_position_embeddings": 8192,
                "num_key_value_heads": 8,
                "head_dim": None,
                "mamba_rms_norm": False,
                "mamba_norm_before_gate": True,
            },
            scalings=(),
            only=without(SILU, "embedding_multiplier")
            | {
                "attention_bias": (False, None),
                "mlp_bias": (False, None),
                "projectors_bias": (False, None),
                "mamba_proj_bias": (False, None),
                "mamba_conv_bias": (True, None),
                "tie_word_embeddings": (False,),
                "mamba_rms_norm": (True, False),
                "time_step_limit": (None,),
            },
            facts=_multiplied,
        ),
    ),
    keys=(
        *mamba_keys("mamba_d_conv", "mamba_d_ssm", "mamba_d_state", "mamba_n_heads", "mamba_n_groups"),
        "vocab_size",
    ),
    order=(
        *("context_length", "embedding_length", "feed_forward_length", "attention.head_count", "block_count"),
        *("ssm.conv_kernel", "ssm.inner_size", "ssm.state_size", "ssm.time_step_rank", "ssm.group_count"),
        *("attention.layer_norm_rms_epsilon", "general.file_type", "vocab_size", "attention.head_count_kv"),
        *("attention.key_length", "attention.value_length", "rope.freq_base"),
    ),
    sizes=mamba_sizes,
    since=6133,
    scaled=("ssm_",),
    operations=(Norm("attn_norm"), Attend(), Add(), Scan(), Add(), *FED),
)
