"""IBM's Granite 4: Mamba 2, and attention without positions in some layers; dense or a mixture."""

from dataclasses import replace

from quantmill.architectures.architecture import NEEDED, Architecture, TensorLine
from quantmill.architectures.conditions import attending, dense, mixture, recurrent
from quantmill.architectures.models.hybrids.granite4 import (
    BASE_KEYS,
    CLASS,
    DENSE_FFN,
    HYBRID_KEYS,
    SCALE_KEYS,
    halves,
    hybrid,
    turned,
)
from quantmill.architectures.models.hybrids.mamba2 import mamba_lines, mamba_sizes
from quantmill.architectures.models.pieces import (
    ATTN_NORM,
    ATTN_OUTPUT,
    ATTN_OUTPUT_BIAS,
    EXPERTS,
    FFN_BIAS,
    FFN_NORM,
    QKV,
    TOP,
    changed,
    in_files,
    permuted,
)
from quantmill.architectures.operations import Add, Attend, Experts, Feed, Norm, Scan

_MIXED = (
    TensorLine(EXPERTS[0].name, EXPERTS[0].dims, "block_sparse_moe.router.layer.weight"),
    TensorLine(EXPERTS[1].name, EXPERTS[1].dims, "block_sparse_moe.input_linear.weight", change="first half"),
    TensorLine(EXPERTS[2].name, EXPERTS[2].dims, "block_sparse_moe.input_linear.weight", change="second half"),
    TensorLine(EXPERTS[3].name, EXPERTS[3].dims, "block_sparse_moe.output_linear.weight"),
    *halves(("ffn_gate_shexp.weight", "ffn_up_shexp.weight"), "sff"),
    TensorLine("ffn_down_shexp.weight", "sff embd", "shared_mlp.output_linear.weight"),
)
GRANITEHYBRID = Architecture(
    "granitehybrid",
    (*TOP, TensorLine("rope_freqs.weight", "pairs", optional=True)),
    (
        ATTN_NORM,
        *changed((*permuted(QKV), ATTN_OUTPUT), where=attending),
        *in_files([ATTN_OUTPUT_BIAS], where=attending, optional=True),
        *mamba_lines("mamba", recurrent),
        FFN_NORM,
        *changed(DENSE_FFN, where=dense),
        *in_files(FFN_BIAS, where=dense, optional=True),
        *changed(_MIXED, where=mixture),
    ),
    (CLASS, replace(CLASS, when=hybrid(mixture=True), mixture=True)),
    keys=(*BASE_KEYS, "vocab_size", "rope.dimension_count", *SCALE_KEYS, *HYBRID_KEYS),
    sizes=mamba_sizes,
    needed=(*NEEDED, "logit_scale"),
    since=8643,
    experts="maybe",
    scaled=("ssm_",),
    operations=(
        Norm("attn_norm"),
        Attend("norm", turns=turned, where=attending),
        Scan(where=recurrent),
        Add(scaled=True),
        Norm("ffn_norm"),
        Feed(where=dense),
        Experts(where=mixture),
        Add(scaled=True),
    ),
    numbers={"attention.scale": 0.0, "embedding_scale": 0.0, "residual_scale": 0.0, "logit_scale": 0.0},
    logits="over",
)
