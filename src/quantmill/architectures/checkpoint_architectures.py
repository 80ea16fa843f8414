"""Architectures of models in Hugging Face layout: a row says which facts and tensors a class has.

Facts are those of transformers 4.51, current at b5490, with the newer spellings of transformers 5. A new architecture
is a row of ARCHITECTURES.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from quantmill.architectures.errors import UnsuitableModel

MAX_LAYERS = 512  # as in llama.cpp, LLAMA_MAX_LAYERS
MAX_VOCABULARY = 1 << 20  # tokens; the largest known have 262,144, and those that a file lacks are made up
MAX_EXPERTS = 1 << 18  # of all layers together; Kimi K2 has 61 times 384

# A condition is True (always), or a key of config.json that must be true.
Condition = bool | str


@dataclass(frozen=True)
class CheckpointArchitecture:
    """The row of one architecture.

    `defaults`: what transformers assumes for keys that config.json leaves out
    `when`: which optional tensors there are
    `scalings`: the kinds of rope scaling that llama.cpp computes for it
    `permute`: undo the rotary layout of Hugging Face's llama (a head's two halves interleaved) in the rows of q and k
    `only`: key of config.json → the values that a GGUF file can hold, beside that key's absence
    `absent`: key → what transformers takes where it is absent, of those that a GGUF file cannot hold
    `windows`: how a window of attention is told of, whose layers a GGUF file cannot name
    """

    gguf: str
    defaults: Mapping[str, Any]
    when: Mapping[str, Condition]
    scalings: tuple[str, ...] = ("linear", "yarn")
    permute: bool = False
    experts: bool = False  # each layer's feed-forward part is a mixture, its experts stacked in one tensor
    llama_vocabulary: bool = False  # the extra vocabulary rules of the converter's llama class
    sentencepiece: bool = False  # the vocabulary comes from tokenizer.model alone, and no space goes before a text
    norms_from_one: bool = False  # the checkpoint's norms hold what is to be added to 1
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    absent: Mapping[str, Any] = field(default_factory=dict)
    windows: str = ""  # "asked": where use_sliding_window or layer_types ask for them; "always"; "pattern": Gemma 3's
    part: str = ""  # what the text model's tensors begin with, in a checkpoint that holds other models too
    others: tuple[str, ...] = ()  # what those of the other models begin with; they are left out


_COMMON = {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False}
# What other classes compute by these keys, none of ours does: who states them means another model.
_ONLY: dict[str, tuple[Any, ...]] = {
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
_SILU = _ONLY | {"hidden_act": ("silu", "swish")}

_GEMMA3 = CheckpointArchitecture(
    "gemma3",
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
    {"qk_norm": True, "post_norms": True},
    scalings=("linear",),
    sentencepiece=True,
    norms_from_one=True,
    only=_ONLY
    | {
        "hidden_activation": ("gelu_pytorch_tanh", None),
        "attention_bias": (False, None),
        "use_bidirectional_attention": (False, None),
        "rope_local_base_freq": (10000, None),
    },
    absent={"query_pre_attn_scalar": 256},
    windows="pattern",
)
_QWEN3_BIASES: dict[str, Condition] = {"qk_norm": True, "qkv_bias": "attention_bias", "o_bias": "attention_bias"}

ARCHITECTURES: dict[str, CheckpointArchitecture] = {
    "Qwen2ForCausalLM": CheckpointArchitecture(
        "qwen2",
        {**_COMMON, "num_key_value_heads": 32, "max_position_embeddings": 32768},
        {"qkv_bias": True},
        only=_SILU,
        windows="asked",
    ),
    "Qwen3ForCausalLM": CheckpointArchitecture(
        "qwen3",
        {**_COMMON, "num_key_value_heads": 32, "max_position_embeddings": 32768, "head_dim": 128},
        _QWEN3_BIASES,
        only=_SILU,
        windows="asked",
    ),
    "Qwen3MoeForCausalLM": CheckpointArchitecture(
        "qwen3moe",
        {
            **_COMMON,
            "num_key_value_heads": 4,
            "max_position_embeddings": 32768,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
            "decoder_sparse_step": 1,
            "mlp_only_layers": (),
        },
        _QWEN3_BIASES,
        experts=True,
        only=_SILU | {"norm_topk_prob": (True,)},
        absent={"norm_topk_prob": False},
        windows="asked",
    ),
    "LlamaForCausalLM": CheckpointArchitecture(
        "llama",
        {**_COMMON, "num_key_value_heads": None, "max_position_embeddings": 2048, "head_dim": None},
        {"qkv_bias": "attention_bias", "o_bias": "attention_bias", "mlp_bias": "mlp_bias"},
        scalings=("linear", "yarn", "llama3"),
        permute=True,
        llama_vocabulary=True,
        only=_SILU,
    ),
    "MistralForCausalLM": CheckpointArchitecture(
        "llama",
        {**_COMMON, "num_key_value_heads": 8, "max_position_embeddings": 131072, "head_dim": None},
        {},
        scalings=("linear", "yarn", "llama3"),
        permute=True,
        llama_vocabulary=True,
        only=_SILU,
        windows="always",
    ),
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": replace(
        _GEMMA3,
        part="language_model.",
        others=("vision_tower.", "vision_model.", "multi_modal_projector.", "multimodal_projector."),
    ),
}


def architecture(config: Mapping[str, Any]) -> CheckpointArchitecture:
    """The row for `config["architectures"][0]`; raises UnsuitableModel."""
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise UnsuitableModel("config.json has no list `architectures` that begins with the model's class")
    if names[0] not in ARCHITECTURES:
        raise UnsuitableModel(
            f"config.json: the architecture {names[0]!r} cannot be converted; {', '.join(ARCHITECTURES)} can"
        )
    return ARCHITECTURES[names[0]]
