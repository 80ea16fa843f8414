"""Architectures of the forward pass by GGUF's general.architecture, and the tensors that each has.

Source of the facts: llama.cpp at b5490 (llama-model.cpp: hyperparameters, tensors, graphs). A new architecture is a
row of ARCHITECTURES; a new tensor is a line of the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal


class Has(Enum):
    """Whether a model has the tensors of a group."""

    ALWAYS = "always"
    MAYBE = "maybe"


@dataclass(frozen=True)
class GraphArchitecture:
    """The row of one architecture.

    `groups`: which optional tensors of the table there are
    `rope`: how a head's columns are paired: "neox" pairs column i with i + half, "norm" pairs neighbours
    `experts`: whether the feed-forward part is a mixture
    `window_pattern`: n: every n-th layer attends to everything, the others to a sliding window; 0: no windows
    `window_base`: the rope base of the layers with a window, whose rope is not scaled
    `embedding_scale`: multiply embeddings by sqrt(n_embd)
    `whole_heads`: all heads together are as wide as an embedding
    `keys`: metadata keys that llama.cpp refuses a file without, beside `KEYS`
    """

    groups: Mapping[str, Has]
    rope: Literal["neox", "norm"] = "neox"
    activation: Literal["silu", "gelu"] = "silu"
    experts: Has | None = None
    window_pattern: int = 0
    window_base: float = 10000.0
    embedding_scale: bool = False
    wide_scale_layers: int = 0  # a model of so many layers scales attention by its width, not by key_length
    whole_heads: bool = False
    keys: tuple[str, ...] = ()


_TIED = {"output": Has.MAYBE}
_NORMED = {"qk_norm": Has.ALWAYS}

ARCHITECTURES: dict[str, GraphArchitecture] = {
    "qwen2": GraphArchitecture({**_TIED, "qkv_bias": Has.ALWAYS}, whole_heads=True),
    "qwen3": GraphArchitecture({**_TIED, **_NORMED}),
    "qwen3moe": GraphArchitecture(
        {"output": Has.ALWAYS, **_NORMED}, experts=Has.ALWAYS, keys=("expert_count", "expert_used_count")
    ),
    "llama": GraphArchitecture(
        {**_TIED, "qkv_bias": Has.MAYBE, "bias": Has.MAYBE, "rope_factors": Has.MAYBE},
        rope="norm",
        experts=Has.MAYBE,
    ),
    "gemma3": GraphArchitecture(
        {**_TIED, **_NORMED, "post_norms": Has.ALWAYS},
        activation="gelu",
        window_pattern=6,
        embedding_scale=True,
        wide_scale_layers=62,
        keys=("attention.sliding_window",),
    ),
}

# Metadata keys that llama.cpp refuses a file of any of them without, after the architecture's name.
KEYS = (
    *("context_length", "embedding_length", "block_count", "feed_forward_length"),
    *("attention.head_count", "attention.layer_norm_rms_epsilon"),
)
MAX_EXPERTS = 256  # of a layer: llama.cpp, LLAMA_MAX_EXPERTS

# Name (a layer's without its `blk.N.`), dimensions in ggml's order, and the group, if any.
_TOP = """
token_embd.weight           embd vocab
output_norm.weight          embd
output.weight               embd vocab      output
rope_freqs.weight           pairs           rope_factors
"""
_LAYER = """
attn_norm.weight            embd
attn_q.weight               embd q
attn_k.weight               embd kv
attn_v.weight               embd kv
attn_q.bias                 q               qkv_bias
attn_k.bias                 kv              qkv_bias
attn_v.bias                 kv              qkv_bias
attn_q_norm.weight          head            qk_norm
attn_k_norm.weight          head            qk_norm
attn_output.weight          q embd
attn_output.bias            embd            bias
post_attention_norm.weight  embd            post_norms
ffn_norm.weight             embd
ffn_gate.weight             embd ff         dense
ffn_up.weight               embd ff         dense
ffn_down.weight             ff embd         dense
ffn_gate.bias               ff              bias
ffn_up.bias                 ff              bias
ffn_down.bias               embd            bias
ffn_gate_inp.weight         embd experts    mixture
ffn_gate_exps.weight        embd ff experts mixture
ffn_up_exps.weight          embd ff experts mixture
ffn_down_exps.weight        ff embd experts mixture
post_ffw_norm.weight        embd            post_norms
"""


@dataclass(frozen=True)
class Line:
    """A line of the table: `dims` name sizes of a model, `group` is empty for what every model has."""

    name: str
    dims: tuple[str, ...]
    group: str = field(default="")


def _lines(table: str, sizes: frozenset[str]) -> tuple[Line, ...]:
    found = []
    for name, *rest in (line.split() for line in table.split("\n") if line):
        group = "" if rest[-1] in sizes else rest.pop()
        found.append(Line(name, tuple(rest), group))
    return tuple(found)


SIZES = frozenset({"embd", "vocab", "pairs", "q", "kv", "head", "ff", "experts"})
TOP, LAYER = _lines(_TOP, SIZES), _lines(_LAYER, SIZES)
