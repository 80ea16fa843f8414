"""Phi3ForCausalLM, small."""

from typing import Any

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import PHI3

CONFIG = {
    "architectures": ["Phi3ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "dtype": "bfloat16",
    "embd_pdrop": 0.0,
    "eos_token_id": 272,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 4096,
    "model_type": "phi3",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "original_max_position_embeddings": 4096,
    "pad_token_id": 272,
    "partial_rotary_factor": 1.0,
    "resid_pdrop": 0.0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "sliding_window": 2047,
    "tie_word_embeddings": False,
    "transformers_version": "4.57.6",
    "use_cache": True,
    "vocab_size": 288,
}
TENSORS = """
lm_head.weight 288x64
model.embed_tokens.weight 288x64
model.layers.[0-1].input_layernorm.weight 64
model.layers.[0-1].mlp.down_proj.weight 64x96
model.layers.[0-1].mlp.gate_up_proj.weight 192x64
model.layers.[0-1].post_attention_layernorm.weight 64
model.layers.[0-1].self_attn.o_proj.weight 64x64
model.layers.[0-1].self_attn.qkv_proj.weight 128x64
model.norm.weight 64
"""
CHECKPOINT = Checkpoint(CONFIG, TENSORS, PHI3, "-")
LONG = Checkpoint(
    {
        **CONFIG,
        "max_position_embeddings": 131072,
        "rope_scaling": {
            "long_factor": [1.0800000429153442, 1.1100000143051147, 2.5, 4.25, 9.125, 20.0, 41.75, 64.0],
            "short_factor": [1.0, 1.0199999809265137, 1.0299999713897705, 1.05, 1.25, 1.5, 2.0, 2.75],
            "type": "longrope",
        },
    },
    TENSORS,
    PHI3,
    variant="longrope",
)


def _added() -> dict[str, Any]:
    """Beside tokenizer.model a tokenizer.json, whose added tokens win, as Phi 3's releases have it."""
    tokens = [(0, "<unk>", True), (2, "</s>", False), (272, "<|endoftext|>", True), (273, "▁plain word", False)]
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    entries = [{"id": id_, "content": text, "special": special, **flags} for id_, text, special in tokens]
    return {**PHI3(), "tokenizer.json": {"added_tokens": entries, "model": {"type": "BPE", "vocab": {}, "merges": []}}}


ADDED = Checkpoint(CONFIG, TENSORS, _added, variant="added")
