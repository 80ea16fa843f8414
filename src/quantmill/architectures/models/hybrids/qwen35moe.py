"""Qwen 3.5's mixtures."""

from dataclasses import replace

from quantmill.architectures.architecture import NEEDED, Architecture, ModelClass, TensorLine
from quantmill.architectures.models.hybrids.qwen3next import (
    GATED,
    LINEAR,
    NEXT,
    POST_NORM,
    SHARED_KEY,
    is_attending,
    is_delta,
    linear_sizes,
)
from quantmill.architectures.models.hybrids.qwen35 import (
    DELTA,
    ONLY_SECTIONED,
    SECTIONED_KEYS,
    TOP_SECTIONED,
    conditional,
    order,
    sectioned_facts,
)
from quantmill.architectures.models.pieces import ATTN_NORM, COMMON, EXPERTS, SHARED, SHARED_GATE
from quantmill.architectures.operations import Add, Attend, DeltaNet, Experts, Norm

# All experts of a layer in one tensor.
_FUSED = (
    TensorLine("ffn_gate_exps.weight", "embd eff experts", "mlp.experts.gate_up_proj", change="first half"),
    TensorLine("ffn_up_exps.weight", "embd eff experts", "mlp.experts.gate_up_proj", change="second half"),
    TensorLine("ffn_down_exps.weight", "eff embd experts", "mlp.experts.down_proj"),
)
_MIXTURE = ModelClass(
    "Qwen3_5MoeForCausalLM",
    {
        **COMMON,
        **LINEAR,
        "intermediate_size": None,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "decoder_sparse_step": 1,
        "mlp_only_layers": (),
    },
    mixture=True,
    only=ONLY_SECTIONED | {"norm_topk_prob": (True, None)},
    facts=sectioned_facts,
    behind="mtp.layers.",
    fused=_FUSED,
)

QWEN35MOE = Architecture(
    "qwen35moe",
    TOP_SECTIONED,
    (replace(ATTN_NORM, added=1), *GATED, *DELTA, POST_NORM, *EXPERTS, SHARED_GATE, *SHARED, *NEXT),
    (_MIXTURE, conditional(_MIXTURE, "Qwen3_5MoeForConditionalGeneration")),
    keys=("expert_feed_forward_length", SHARED_KEY, *SECTIONED_KEYS),
    order=order("expert_feed_forward_length", "expert_shared_feed_forward_length"),
    sizes=linear_sizes,
    needed=(*(key for key in NEEDED if key != "feed_forward_length"), "expert_count", "expert_used_count"),
    since=11312,
    experts="always",
    most_experts=1024,
    scaled=("ffn_", "attn_gate", "attn_qkv", "ssm_"),
    operations=(
        Norm("attn_norm"),
        Attend(qk_norm=True, gated=True, where=is_attending),
        DeltaNet(where=is_delta),
        Add(),
        Norm("post_attention_norm"),
        Experts(),
        Add(),
    ),
)
