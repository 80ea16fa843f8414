"""What several architectures have in common: lines of tensors, and facts of config.json."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from quantmill.architectures.architecture import Facts, MetadataKey, TensorLine
from quantmill.architectures.conditions import dense
from quantmill.architectures.errors import ModelError
from quantmill.architectures.operations import Add, Attend, Experts, Feed, Norm, Operation

# What transformers assumes in most classes.
COMMON = {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False}
# What other classes compute by these keys, few of ours do: who states them means another model.
ONLY: dict[str, tuple[Any, ...]] = {
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "attention_multiplier": (None,),
    "embedding_multiplier": (None, 1),
    "residual_multiplier": (None, 1),
    "logits_scaling": (None, 1),
    "logit_scale": (None, 1),
    "partial_rotary_factor": (None, 1),
    "is_causal": (None, True),
}
SILU = ONLY | {"hidden_act": ("silu", "swish")}

OUTPUT = TensorLine("output.weight", "embd vocab", "lm_head.weight", optional=True)
TOP = (
    TensorLine("token_embd.weight", "embd vocab", "model.embed_tokens.weight"),
    TensorLine("output_norm.weight", "embd", "model.norm.weight"),
    OUTPUT,
)

ATTN_NORM = TensorLine("attn_norm.weight", "embd", "input_layernorm.weight")
QKV = (
    TensorLine("attn_q.weight", "embd q", "self_attn.q_proj.weight"),
    TensorLine("attn_k.weight", "embd kv", "self_attn.k_proj.weight"),
    TensorLine("attn_v.weight", "embd kv", "self_attn.v_proj.weight"),
)
QKV_BIAS = (
    TensorLine("attn_q.bias", "q", "self_attn.q_proj.bias"),
    TensorLine("attn_k.bias", "kv", "self_attn.k_proj.bias"),
    TensorLine("attn_v.bias", "kv", "self_attn.v_proj.bias"),
)
QK_NORM = (
    TensorLine("attn_q_norm.weight", "head", "self_attn.q_norm.weight"),
    TensorLine("attn_k_norm.weight", "head", "self_attn.k_norm.weight"),
)
ATTN_OUTPUT = TensorLine("attn_output.weight", "q embd", "self_attn.o_proj.weight")
ATTN_OUTPUT_BIAS = TensorLine("attn_output.bias", "embd", "self_attn.o_proj.bias")

FFN_NORM = TensorLine("ffn_norm.weight", "embd", "post_attention_layernorm.weight")
POST_ATTENTION_NORM = TensorLine("post_attention_norm.weight", "embd", "post_attention_layernorm.weight")
POST_FFN_NORM = TensorLine("post_ffw_norm.weight", "embd", "post_feedforward_layernorm.weight")
FFN = (
    TensorLine("ffn_gate.weight", "embd ff", "mlp.gate_proj.weight"),
    TensorLine("ffn_up.weight", "embd ff", "mlp.up_proj.weight"),
    TensorLine("ffn_down.weight", "ff embd", "mlp.down_proj.weight"),
)
FFN_BIAS = (
    TensorLine("ffn_gate.bias", "ff", "mlp.gate_proj.bias"),
    TensorLine("ffn_up.bias", "ff", "mlp.up_proj.bias"),
    TensorLine("ffn_down.bias", "embd", "mlp.down_proj.bias"),
)
EXPERTS = (
    TensorLine("ffn_gate_inp.weight", "embd experts", "mlp.gate.weight"),
    TensorLine("ffn_gate_exps.weight", "embd eff experts", "mlp.experts.*.gate_proj.weight"),
    TensorLine("ffn_up_exps.weight", "embd eff experts", "mlp.experts.*.up_proj.weight"),
    TensorLine("ffn_down_exps.weight", "eff embd experts", "mlp.experts.*.down_proj.weight"),
)

# Experts that all tokens take, by the share of each token's own and as they are.
SHARED_GATE = TensorLine("ffn_gate_inp_shexp.weight", "embd one", "mlp.shared_expert_gate.weight", f32=True)
SHARED = (
    TensorLine("ffn_gate_shexp.weight", "embd sff", "mlp.shared_expert.gate_proj.weight"),
    TensorLine("ffn_up_shexp.weight", "embd sff", "mlp.shared_expert.up_proj.weight"),
    TensorLine("ffn_down_shexp.weight", "sff embd", "mlp.shared_expert.down_proj.weight"),
)
# Experts as Mixtral's classes name them: w1 is the gate, w3 goes up.
W_EXPERTS = (
    TensorLine("ffn_gate_inp.weight", "embd experts", "block_sparse_moe.gate.weight"),
    TensorLine("ffn_gate_exps.weight", "embd eff experts", "block_sparse_moe.experts.*.w1.weight"),
    TensorLine("ffn_up_exps.weight", "embd eff experts", "block_sparse_moe.experts.*.w3.weight"),
    TensorLine("ffn_down_exps.weight", "eff embd experts", "block_sparse_moe.experts.*.w2.weight"),
)
# An expert's width by the name that those classes have for it that know no other.
EXPERTS_ALONE = {"intermediate_size": "moe_intermediate_size"}

# The layer of most: each part's change of the normed states is added to them.
FED: tuple[Operation, ...] = (Norm("ffn_norm"), Feed(), Add())
MIXED: tuple[Operation, ...] = (Norm("ffn_norm"), Experts(), Add())


def attended(attend: Attend) -> tuple[Operation, ...]:
    """A layer's first half."""
    return Norm("attn_norm"), attend, Add()


LEADING = MetadataKey("leading_dense_block_count", "first_k_dense_replace", size="leading")


def changed(lines: Iterable[TensorLine], **change: Any) -> tuple[TensorLine, ...]:
    """The lines with fields of other values."""
    return tuple(replace(line, **change) for line in lines)


def asked(lines: Iterable[TensorLine], by: str | Callable[[Facts], bool], **change: Any) -> tuple[TensorLine, ...]:
    """The lines, which a checkpoint has where config.json asks for them."""
    return changed(lines, asked=by, **change)


def permuted(lines: Iterable[TensorLine]) -> tuple[TensorLine, ...]:
    """The lines, of which the rows of queries and keys leave Hugging Face's rotary layout."""
    heads = {"attn_q": "heads", "attn_k": "kv_heads"}
    return tuple(replace(line, heads=heads.get(line.name.partition(".")[0], line.heads)) for line in lines)


def renamed(lines: Iterable[TensorLine], old: str, new: str) -> tuple[TensorLine, ...]:
    """The lines, whose sources have a part of their names otherwise."""
    return tuple(replace(line, source=line.source.replace(old, new)) for line in lines)


def in_dense(lines: Iterable[TensorLine]) -> tuple[TensorLine, ...]:
    """The lines, where a model is no mixture."""
    return changed(lines, where=dense)


def one_added(lines: Iterable[TensorLine]) -> tuple[TensorLine, ...]:
    """The lines, whose norms a checkpoint holds as what is to be added to 1."""
    return tuple(replace(line, added=1) if line.source.endswith("norm.weight") else line for line in lines)


def in_files(lines: Iterable[TensorLine], **more: Any) -> tuple[TensorLine, ...]:
    """The lines, of what GGUF files may have and no checkpoint that is converted."""
    return changed(lines, source="", **more)


def without(only: Mapping[str, tuple[Any, ...]], *keys: str) -> dict[str, tuple[Any, ...]]:
    """What a file holds some values of alone, but for those keys."""
    return {key: values for key, values in only.items() if key not in keys}


def check_whole_heads(facts: Facts) -> None:
    """Raises a ModelError where all heads together are not as wide as an embedding."""
    usual = facts["hidden_size"] // facts["num_attention_heads"]
    if facts.get("head_dim") not in (None, usual):
        raise ModelError(
            f"config.json's `head_dim` is {facts['head_dim']!r}; llama.cpp has heads that are together as wide as an "
            f"embedding, of {usual} each"
        )


def positive(facts: Facts, *keys: str, above: str = "") -> None:
    """Raises a ModelError unless the keys, of the table `above`, are numbers above 0."""
    for key in keys:
        value = facts.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
            raise ModelError(f"config.json's `{above}{key}` is {value!r}; a number above 0 would be right")
