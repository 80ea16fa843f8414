"""Qwen 3.5, dense: delta nets and gated attention, as Qwen 3 Next's, whose heads are in another order."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quantmill.architectures.architecture import Architecture, Facts, MetadataKey, ModelClass, TensorLine
from quantmill.architectures.errors import ModelError
from quantmill.architectures.models.hybrids.qwen3next import (
    GATED,
    LINEAR,
    LINEAR_KEYS,
    NEXT,
    POST_NORM,
    delta,
    is_attending,
    is_delta,
    linear_facts,
    linear_sizes,
)
from quantmill.architectures.models.pieces import ATTN_NORM, COMMON, FFN, OUTPUT, SILU, TOP, one_added, without
from quantmill.architectures.operations import Add, Attend, DeltaNet, Feed, Norm
from quantmill.gguf import ValueType


def sectioned_facts(facts: Facts) -> Mapping[str, Any]:
    """Qwen 3 Next's, and the parts of a head that turn by a text's and an image's positions."""
    found = linear_facts(facts)
    table: Mapping[str, Any] = facts.get("rope_parameters") or facts.get("rope_scaling") or {}
    sections = table.get("mrope_section")
    whole = isinstance(sections, list) and all(type(item) is int and item >= 0 for item in sections)
    if (
        not isinstance(sections, list)
        or not whole
        or len(sections) not in (3, 4)
        or 2 * sum(sections) != found["rotary"]
    ):
        raise ModelError(
            f"config.json's `rope_parameters.mrope_section` is {sections!r}; three numbers of pairs of the "
            f"{found['rotary']} columns that turn would be right"
        )
    return {**found, "sections": [*sections, 0][:4]}


DELTA = delta(
    (
        TensorLine("attn_qkv.weight", "embd qkv", "linear_attn.in_proj_qkv.weight", change="values tiled"),
        TensorLine("attn_gate.weight", "embd inner", "linear_attn.in_proj_z.weight", change="heads tiled"),
        TensorLine(
            "ssm_conv1d.weight", "conv qkv", "linear_attn.conv1d.weight", change="squeeze, values tiled", f32=True
        ),
        TensorLine("ssm_dt.bias", "ssm_heads", "linear_attn.dt_bias", change="heads tiled"),
        TensorLine("ssm_a", "ssm_heads", "linear_attn.A_log", change="decay tiled"),
        TensorLine("ssm_beta.weight", "embd ssm_heads", "linear_attn.in_proj_b.weight", change="heads tiled"),
        TensorLine("ssm_alpha.weight", "embd ssm_heads", "linear_attn.in_proj_a.weight", change="heads tiled"),
        TensorLine("ssm_norm.weight", "value_head", "linear_attn.norm.weight"),
        TensorLine("ssm_out.weight", "inner embd", "linear_attn.out_proj.weight", change="columns tiled"),
    )
)
SECTIONED_KEYS = (*LINEAR_KEYS, MetadataKey("rope.dimension_sections", "sections", ValueType.INT32))
_SHAPE = (
    *("block_count", "context_length", "embedding_length", "feed_forward_length"),
    *("attention.head_count", "attention.head_count_kv"),
    *("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length"),
    *("rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"),
    *("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"),
    *("rope.dimension_sections", "rope.freq_base", "attention.layer_norm_rms_epsilon"),
    *("expert_count", "expert_used_count", "attention.key_length", "attention.value_length", "general.file_type"),
)


def order(*more: str) -> tuple[str, ...]:
    """All keys in their order, with those that a mixture has besides."""
    return (*_SHAPE, *more, *(key.key for key in LINEAR_KEYS))


ONLY_SECTIONED = without(SILU, "partial_rotary_factor") | {
    "attention_bias": (False, None),
    "attn_output_gate": (True, None),
    "mtp_num_hidden_layers": (1, 0, None),
}
TOP_SECTIONED = (*one_added(TOP[:-1]), OUTPUT)
_DENSE = ModelClass(
    "Qwen3_5ForCausalLM",
    {**COMMON, **LINEAR, "num_key_value_heads": 4},
    only=ONLY_SECTIONED,
    facts=sectioned_facts,
    behind="mtp.layers.",
)


def conditional(class_: ModelClass, name: str) -> ModelClass:
    """The class of text and images."""
    inner = tuple(
        replace(line, source=line.source.replace("model.", "model.language_model.")) for line in TOP_SECTIONED[:-1]
    )
    return replace(
        class_,
        name=name,
        layers="model.language_model.layers.",
        others=("model.visual.", "visual."),
        tensors=inner,
    )


QWEN35 = Architecture(
    "qwen35",
    TOP_SECTIONED,
    (replace(ATTN_NORM, added=1), *GATED, *DELTA, POST_NORM, *FFN, *NEXT),
    (_DENSE, conditional(_DENSE, "Qwen3_5ForConditionalGeneration")),
    keys=SECTIONED_KEYS,
    order=order(),
    sizes=linear_sizes,
    since=11312,
    scaled=("ffn_", "attn_gate", "attn_qkv", "ssm_"),
    operations=(
        Norm("attn_norm"),
        Attend(qk_norm=True, gated=True, where=is_attending),
        DeltaNet(where=is_delta),
        Add(),
        Norm("post_attention_norm"),
        Feed(),
        Add(),
    ),
)
