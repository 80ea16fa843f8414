"""Gemma 3, of text and of text and images."""

from dataclasses import replace

from quantmill.architectures.architecture import NEEDED, Architecture, ModelClass, TensorLine
from quantmill.architectures.models.pieces import ATTN_NORM, ATTN_OUTPUT, FFN, ONLY, QK_NORM, QKV, TOP, one_added
from quantmill.architectures.operations import Add, Attend, Feed, Norm

_TEXT = ModelClass(
    "Gemma3ForCausalLM",
    {
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": True,
        "vocab_size": 262208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
        "rope_local_base_freq": 10000.0,
    },
    scalings=("linear",),
    only=ONLY
    | {
        "hidden_activation": ("gelu_pytorch_tanh", None),
        "attention_bias": (False, None),
        "use_bidirectional_attention": (False, None),
        "rope_local_base_freq": (10000, None),
    },
    absent={"query_pre_attn_scalar": 256},
    windows="pattern",
    vocabulary="sentencepiece",
)

GEMMA3 = Architecture(
    "gemma3",
    one_added(TOP),
    one_added(
        (
            ATTN_NORM,
            *QKV,
            *QK_NORM,
            ATTN_OUTPUT,
            TensorLine("post_attention_norm.weight", "embd", "post_attention_layernorm.weight"),
            TensorLine("ffn_norm.weight", "embd", "pre_feedforward_layernorm.weight"),
            *FFN,
            TensorLine("post_ffw_norm.weight", "embd", "post_feedforward_layernorm.weight"),
        )
    ),
    (
        _TEXT,
        replace(
            _TEXT,
            name="Gemma3ForConditionalGeneration",
            part="language_model.",
            others=("vision_tower.", "vision_model.", "multi_modal_projector.", "multimodal_projector."),
        ),
    ),
    keys=("attention.sliding_window",),
    needed=(*NEEDED, "attention.sliding_window"),
    operations=(
        Norm("attn_norm"),
        Attend(qk_norm=True),
        Norm("post_attention_norm", of="change"),
        Add(),
        Norm("ffn_norm"),
        Feed("gelu"),
        Norm("post_ffw_norm", of="change"),
        Add(),
    ),
    window_pattern=6,
    may_lack_windows=True,
    numbers={"final_logit_softcapping": 0.0},
    embedding_scale=True,
    wide_scale_layers=62,
)
