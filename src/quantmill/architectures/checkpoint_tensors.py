"""The tensors of a model of Hugging Face layout and their names in a GGUF file, from config.json alone.

So a plan knows a release's bytes before any weight exists. Names and order are those of llama.cpp's
convert_hf_to_gguf.py at b5490. A new tensor is a line of the table.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from quantmill.architectures.checkpoint_architectures import (
    ARCHITECTURES,
    MAX_EXPERTS,
    MAX_LAYERS,
    MAX_VOCABULARY,
    CheckpointArchitecture,
    architecture,
)
from quantmill.architectures.configuration import assumed, head_dim, hparams
from quantmill.architectures.errors import DamagedModel, ModelError
from quantmill.gguf.types import TYPES, Type

if TYPE_CHECKING:
    from quantmill.gguf.layout import TensorEntry

__all__ = [
    "ARCHITECTURES",
    "MAX_EXPERTS",
    "MAX_LAYERS",
    "MAX_VOCABULARY",
    "CheckpointArchitecture",
    "TensorSpec",
    "architecture",
    "assumed",
    "head_dim",
    "hparams",
    "tensors",
]

# Checkpoint's name, GGUF's name, dimensions (ggml's order: a row's length first), and the condition, if any.
_TOP = """
lm_head.weight             output.weight       embd vocab  untied
model.embed_tokens.weight  token_embd.weight   embd vocab
model.norm.weight          output_norm.weight  embd
"""
_LAYER = """
input_layernorm.weight           attn_norm.weight    embd
mlp.down_proj.bias               ffn_down.bias       embd     mlp_bias
mlp.down_proj.weight             ffn_down.weight     ff embd  dense
mlp.experts.*.down_proj.weight   ffn_down_exps.weight  eff embd experts  mixed
mlp.experts.*.gate_proj.weight   ffn_gate_exps.weight  embd eff experts  mixed
mlp.experts.*.up_proj.weight     ffn_up_exps.weight    embd eff experts  mixed
mlp.gate.weight                  ffn_gate_inp.weight   embd experts      mixed
mlp.gate_proj.bias               ffn_gate.bias       ff       mlp_bias
mlp.gate_proj.weight             ffn_gate.weight     embd ff  dense
mlp.up_proj.bias                 ffn_up.bias         ff       mlp_bias
mlp.up_proj.weight               ffn_up.weight       embd ff  dense
post_attention_layernorm.weight  ffn_norm.weight     embd  two_norms
post_attention_layernorm.weight  post_attention_norm.weight  embd  post_norms
post_feedforward_layernorm.weight  post_ffw_norm.weight  embd  post_norms
pre_feedforward_layernorm.weight   ffn_norm.weight       embd  post_norms
self_attn.k_norm.weight          attn_k_norm.weight  head     qk_norm
self_attn.k_proj.bias            attn_k.bias         kv       qkv_bias
self_attn.k_proj.weight          attn_k.weight       embd kv
self_attn.o_proj.bias            attn_output.bias    embd     o_bias
self_attn.o_proj.weight          attn_output.weight  q embd
self_attn.q_norm.weight          attn_q_norm.weight  head     qk_norm
self_attn.q_proj.bias            attn_q.bias         q        qkv_bias
self_attn.q_proj.weight          attn_q.weight       embd q
self_attn.v_proj.bias            attn_v.bias         kv       qkv_bias
self_attn.v_proj.weight          attn_v.weight       embd kv
"""
_SIZES = frozenset({"embd", "vocab", "ff", "head", "q", "kv", "eff", "experts"})
_F32 = ("_norm.weight", "ffn_gate_inp.weight")  # matrices that the converter keeps as they count for much

# What old checkpoints carry and the converter drops: buffers that a model computes for itself.
_BUFFERS = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of the GGUF file.

    `shape`: in ggml's order (the row's length first)
    `sources`: the checkpoint's names that it is made of (each one matrix of a stack); empty: computed from config.json
    `keep_f32`: stays F32 whatever the file's type (norms, biases, everything of one dimension)
    `heads`: the number of heads whose rows are to be permuted, 0 for none
    `added`: what is added to every value, in the checkpoint's own precision
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    keep_f32: bool
    heads: int = 0
    added: int = 0

    def type(self, file_type: str) -> Type:
        """The tensor's type in a file of type F32, F16 or BF16."""
        return TYPES["F32" if self.keep_f32 else file_type]

    def entry(self, file_type: str) -> "TensorEntry":
        """The tensor in the header of such a file."""
        from quantmill.gguf.layout import TensorEntry

        return TensorEntry(self.name, self.shape, self.type(file_type))

    @property
    def n_elements(self) -> int:
        return prod(self.shape)


def _left_out(row: CheckpointArchitecture, source: str) -> bool:
    """Whether a checkpoint's tensor is one that the converter drops without a word."""
    return source.endswith(_BUFFERS) or source.startswith(row.others)


def tensors(
    config: Mapping[str, Any], sources: Iterable[str] | None = None, *, output: bool = False
) -> list[TensorSpec]:
    """Every tensor of the GGUF file in the converter's output order; reads no weights.

    The converter goes through the checkpoint's files in order of name, in each by tensor name. Without `sources` that
    is one file. With `sources`, the checkpoint's own names in the order of its files, it is theirs. An output matrix
    that exists beside tied embeddings is written, as the converter does: one among `sources`, or `output`. Raises
    ModelError when `sources` are not the architecture's.
    """
    row, found = architecture(config), hparams(config)
    specs = list(_checkpoint(row, found, tied_output=output or sources is not None))
    expected = {source: spec for spec in specs for source in spec.sources}
    tied = bool(found["tie_word_embeddings"])
    if sources is None:
        order = sorted(expected)
    else:
        order = [name for name in sources if not _left_out(row, name)]
        for name in order:
            if name not in expected:
                raise ModelError(
                    f"the safetensors files hold a tensor {name!r}, for which {config['architectures'][0]} has no place"
                )
        missing = sorted(expected.keys() - set(order) - ({row.part + "lm_head.weight"} if tied else set()))
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DamagedModel(
                f"the safetensors files lack the tensor {missing[0]!r}{more}, which {config['architectures'][0]} needs"
            )
    return [*_generated(row, found), *_in_order(order, expected, specs)]


def _in_order(order: list[str], expected: Mapping[str, TensorSpec], specs: list[TensorSpec]) -> Iterator[TensorSpec]:
    """The tensors as the converter comes to them: stacks of a layer when it has met the last of the layer's experts."""
    stacks: dict[str, list[TensorSpec]] = {}
    for spec in specs:
        if len(spec.shape) == 3:
            stacks.setdefault(_layer(spec), []).append(spec)
    waiting = {layer: sum(len(spec.sources) for spec in found) for layer, found in stacks.items()}
    for name in order:
        spec = expected[name]
        if len(spec.shape) < 3:
            yield spec
            continue
        waiting[_layer(spec)] -= 1
        if not waiting[_layer(spec)]:
            yield from stacks[_layer(spec)]


def _layer(spec: TensorSpec) -> str:
    return spec.name.rpartition(".ffn_")[0]


def _generated(row: CheckpointArchitecture, found: Mapping[str, Any]) -> Iterator[TensorSpec]:
    """llama3's rope scaling is a tensor of one factor for each pair of columns of a head."""
    scaling = found.get("rope_scaling")
    if scaling and scaling["type"] == "llama3":
        yield TensorSpec("rope_freqs.weight", ((head_dim(found) + 1) // 2,), (), keep_f32=True)


def _checkpoint(row: CheckpointArchitecture, found: Mapping[str, Any], tied_output: bool) -> Iterator[TensorSpec]:
    head = head_dim(found)
    heads, heads_kv = found["num_attention_heads"], found["num_key_value_heads"]
    sizes = {
        "embd": found["hidden_size"],
        "vocab": found["vocab_size"],
        "ff": found["intermediate_size"],
        "head": head,
        "q": heads * head,
        "kv": heads_kv * head,
        "eff": found.get("moe_intermediate_size", 0),
        "experts": found.get("num_experts", 0),
    }
    if row.permute and head % 2:
        raise ModelError(f"config.json's `head_dim` is {head}; rotary positions need an even one")
    present = {name: bool(found.get(rule)) if isinstance(rule, str) else rule for name, rule in row.when.items()}
    present |= {"dense": not row.experts, "mixed": row.experts, "two_norms": not present.get("post_norms")}
    present["untied"] = tied_output or not found["tie_word_embeddings"]

    def specs(table: str, source_prefix: str, prefix: str) -> Iterator[TensorSpec]:
        for source, name, *rest in (line.split() for line in table.split("\n") if line):
            if rest[-1] not in _SIZES and not present.get(rest.pop(), False):
                continue
            shape = tuple(sizes[size] for size in rest)
            permuted = row.permute and re.match(r"self_attn\.([qk])_proj\.", source)
            count = (heads if permuted.group(1) == "q" else heads_kv) if permuted else 0
            keep = len(shape) == 1 or not name.endswith(".weight") or name.endswith(_F32)
            parts = [str(expert) for expert in range(sizes["experts"])] if "*" in source else [""]
            names = tuple(source_prefix + source.replace("*", part) for part in parts)
            added = int(row.norms_from_one and source.endswith("norm.weight"))
            yield TensorSpec(prefix + name, shape, names, keep, count, added)

    yield from specs(_TOP, row.part, "")
    for layer in range(found["num_hidden_layers"]):
        yield from specs(_LAYER, f"{row.part}model.layers.{layer}.", f"blk.{layer}.")
