"""DeepseekV3ForCausalLM as Kimi K2 is released: a vocabulary as ranks of tiktoken, with code of its own to read it."""

from base64 import b64encode
from typing import Any

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.mixtures import deepseek3
from convert_golden.classes.tokenizers import TEMPLATE

_YARN = {"beta_fast": 1.0, "beta_slow": 1.0, "factor": 32.0, "mscale": 1.0, "mscale_all_dim": 1.0, "type": "yarn"}
CONFIG = {
    **deepseek3.CONFIG,
    "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
    "bos_token_id": 267,
    "eos_token_id": 268,
    "model_type": "kimi_k2",
    "n_group": 1,
    "rope_scaling": {**_YARN, "original_max_position_embeddings": 4096},
    "rope_theta": 50000.0,
    "routed_scaling_factor": 2.827,
    "topk_group": 1,
}
# As much of the released file as the converter asks for.
_CODE = """
import base64
from types import SimpleNamespace
from transformers import PreTrainedTokenizer


class TikTokenTokenizer(PreTrainedTokenizer):
    vocab_files_names = {"vocab_file": "tiktoken.model"}

    def __init__(self, vocab_file, added_tokens_decoder=None, **more):
        lines = [line.split() for line in open(vocab_file, "rb").read().splitlines() if line]
        ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
        self.model = SimpleNamespace(_mergeable_ranks=ranks)
        named = {id_: token.content for id_, token in added_tokens_decoder.items()}
        self.special_tokens = {
            named.get(id_, f"<|reserved_token_{id_}|>"): id_ for id_ in range(len(ranks), len(ranks) + 256 + 2)
        }
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
    named = {267: "[BOS]", 268: "[EOS]", 270: "<|im_end|>", 271: "<|im_user|>", 272: "<|im_user|>"}
    settings = {
        "added_tokens_decoder": {str(id_): {"content": text, "special": True} for id_, text in named.items()},
        "auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]},
        "bos_token": "[BOS]",
        "chat_template": TEMPLATE,
        "eos_token": "[EOS]",
        "tokenizer_class": "TikTokenTokenizer",
    }
    return {
        "tiktoken.model": b"".join(b64encode(token) + b" %d\n" % rank for rank, token in enumerate(ranks)),
        "tokenization_kimi.py": _CODE,
        "tokenizer_config.json": settings,
    }


CHECKPOINT = Checkpoint(CONFIG, deepseek3.TENSORS, _files, "kimi-k2", made_by="hand", variant="Kimi")
