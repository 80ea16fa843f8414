"""HunYuanMoEV1ForCausalLM as released: the facts of each layer in lists, the vocabulary as ranks of tiktoken."""

from base64 import b64encode
from typing import Any

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.tokenizers import TEMPLATE

CONFIG = {
    "architectures": ["HunYuanMoEV1ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attention_head_dim": 128,
    "bos_token_id": 1,
    "eod_token_id": 267,
    "eos_token_id": 270,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 32768,
    "mlp_bias": False,
    "model_type": "hunyuan_v1_moe",
    "moe_intermediate_size": [96, 96],
    "moe_layer_num_skipped": 0,
    "moe_topk": [2, 2],
    "norm_type": "rms",
    "num_attention_heads": 1,
    "num_experts": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 1,
    "num_shared_expert": [1, 1],
    "pad_token_id": 271,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "alpha": 1000.0,
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "type": "dynamic",
    },
    "rope_theta": 10000.0,
    "sep_token_id": 272,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.41.2",
    "use_cache": True,
    "use_cla": False,
    "use_mixed_mlp_moe": True,
    "use_qk_norm": True,
    "vocab_size": 288,
}
TENSORS = """
model.layers.[0-1].mlp.gate.wg.weight 4x128 F32
model.embed_tokens.weight 288x128
model.layers.[0-1].input_layernorm.weight 128
model.layers.[0-1].mlp.experts.[0-3].down_proj.weight 128x96
model.layers.[0-1].mlp.experts.[0-3].gate_proj.weight 96x128
model.layers.[0-1].mlp.experts.[0-3].up_proj.weight 96x128
model.layers.[0-1].mlp.shared_mlp.down_proj.weight 128x96
model.layers.[0-1].mlp.shared_mlp.gate_proj.weight 96x128
model.layers.[0-1].mlp.shared_mlp.up_proj.weight 96x128
model.layers.[0-1].post_attention_layernorm.weight 128
model.layers.[0-1].self_attn.k_proj.weight 128x128
model.layers.[0-1].self_attn.key_layernorm.weight 128
model.layers.[0-1].self_attn.o_proj.weight 128x128
model.layers.[0-1].self_attn.q_proj.weight 128x128
model.layers.[0-1].self_attn.query_layernorm.weight 128
model.layers.[0-1].self_attn.v_proj.weight 128x128
model.norm.weight 128
"""
# As much of the released file as the converter asks for; the sentinel tokens follow the ranks.
_CODE = """
import base64
from transformers import PreTrainedTokenizer

SPECIAL = ["<|endoftext|>", "<|startoftext|>", "<|bos|>", "<|eos|>", "<|pad|>", "<|extra_0|>"]


class HYTokenizer(PreTrainedTokenizer):
    vocab_files_names = {"vocab_file": "hy.tiktoken"}

    def __init__(self, vocab_file, **more):
        lines = [line.split() for line in open(vocab_file, "rb").read().splitlines() if line]
        self.mergeable_ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
        self.special_tokens = {text: len(self.mergeable_ranks) + id_ for id_, text in enumerate(SPECIAL)}
        super().__init__(**more)

    @property
    def vocab_size(self):
        return 288

    def get_vocab(self):
        return self.special_tokens

    def _convert_token_to_id(self, token):
        return self.special_tokens.get(token)

    def _convert_id_to_token(self, index):
        return None
"""


def _files() -> dict[str, Any]:
    words = [b"ab", b"abc", b"cd", b"ef", b"abcdef", b" a", b" ab", b"gh", b"efgh", b"\xc3\xa9", b" \xc3\xa9"]
    ranks = [*(bytes([byte]) for byte in (*range(33, 256), *range(33))), *words]
    settings = {
        "add_bos_token": False,
        "auto_map": {"AutoTokenizer": ["tokenization_hy.HYTokenizer", None]},
        "chat_template": TEMPLATE,
        "eos_token": "<|eos|>",
        "pad_token": "<|pad|>",
        "tokenizer_class": "HYTokenizer",
    }
    return {
        "hy.tiktoken": b"".join(b64encode(token) + b" %d\n" % rank for rank, token in enumerate(ranks)),
        "tokenization_hy.py": _CODE,
        "tokenizer_config.json": settings,
    }


CHECKPOINT = Checkpoint(CONFIG, TENSORS, _files, "hunyuan", made_by="hand")
