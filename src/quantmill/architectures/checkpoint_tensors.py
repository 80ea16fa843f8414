"""Architectures: which tensors and which facts a model of Hugging Face layout has, and their names in a GGUF file.

Everything follows from config.json alone, so that a plan knows a release's bytes before any weight exists. Names, order
and metadata are those of llama.cpp's convert_hf_to_gguf.py at b5490. A new architecture is a row of ARCHITECTURES.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from quantmill.architectures.errors import ModelError, UnsuitableModel
from quantmill.gguf.types import TYPES, Type

if TYPE_CHECKING:
    from quantmill.gguf.layout import TensorEntry

MAX_LAYERS = 512  # as in llama.cpp, LLAMA_MAX_LAYERS
MAX_VOCABULARY = 1 << 20  # tokens; the largest known have 262,144, and those that a file lacks are made up
MAX_EXPERTS = 1 << 18  # of all layers together; Kimi K2 has 61 times 384
_MOST = {"num_hidden_layers": MAX_LAYERS, "vocab_size": MAX_VOCABULARY, "num_experts": MAX_EXPERTS, "head_dim": 1 << 16}

# A condition is True (always), or a key of config.json that must be true.
Condition = bool | str


@dataclass(frozen=True)
class CheckpointArchitecture:
    """The row of one architecture.

    `defaults`: what transformers 4.51, current at b5490, assumes for keys that config.json leaves out
    `when`: which optional tensors there are
    `keys`: metadata keys beyond the common ones
    `scaling`: the kind of rope scaling that the converter writes as metadata
    `permute`: undo the rotary layout of Hugging Face's llama (a head's two halves interleaved) in the rows of q and k
    """

    gguf: str
    defaults: Mapping[str, Any]
    when: Mapping[str, Condition]
    keys: tuple[str, ...] = ()
    scaling: str = ""
    permute: bool = False
    experts: bool = False  # each layer's feed-forward part is a mixture, its experts stacked in one tensor
    llama_vocabulary: bool = False  # the extra vocabulary rules of the converter's llama class
    sentencepiece: bool = False  # the vocabulary comes from tokenizer.model alone, and no space goes before a text
    norms_from_one: bool = False  # the checkpoint's norms hold what is to be added to 1
    without: tuple[str, ...] = ()  # keys of config.json that no converted model may have a value for
    part: str = ""  # what the text model's tensors begin with, in a checkpoint that holds other models too
    others: tuple[str, ...] = ()  # what those of the other models begin with; they are left out


_COMMON = {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": False}
_LLAMA_KEYS = ("vocab_size", "rope.dimension_count")

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
    },
    {"qk_norm": True, "post_norms": True},
    scaling="linear",
    sentencepiece=True,
    norms_from_one=True,
    without=("attn_logit_softcapping", "final_logit_softcapping"),
)

ARCHITECTURES: dict[str, CheckpointArchitecture] = {
    "Qwen2ForCausalLM": CheckpointArchitecture(
        "qwen2",
        {**_COMMON, "num_key_value_heads": 32, "max_position_embeddings": 32768},
        {"qkv_bias": True},
        scaling="yarn",
    ),
    "Qwen3ForCausalLM": CheckpointArchitecture(
        "qwen3",
        {**_COMMON, "num_key_value_heads": 32, "max_position_embeddings": 32768, "head_dim": 128},
        {"qk_norm": True, "qkv_bias": "attention_bias", "o_bias": "attention_bias"},
        scaling="yarn",
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
        {"qk_norm": True, "qkv_bias": "attention_bias", "o_bias": "attention_bias"},
        keys=("expert_count", "expert_feed_forward_length"),
        scaling="yarn",
        experts=True,
    ),
    "LlamaForCausalLM": CheckpointArchitecture(
        "llama",
        {**_COMMON, "num_key_value_heads": None, "max_position_embeddings": 2048, "head_dim": None},
        {"qkv_bias": "attention_bias", "o_bias": "attention_bias", "mlp_bias": "mlp_bias"},
        keys=_LLAMA_KEYS,
        scaling="linear",
        permute=True,
        llama_vocabulary=True,
    ),
    "MistralForCausalLM": CheckpointArchitecture(
        "llama",
        {**_COMMON, "num_key_value_heads": 8, "max_position_embeddings": 131072, "head_dim": None},
        {},
        keys=_LLAMA_KEYS,
        scaling="linear",
        permute=True,
        llama_vocabulary=True,
    ),
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": replace(
        _GEMMA3,
        part="language_model.",
        others=("vision_tower.", "vision_model.", "multi_modal_projector.", "multimodal_projector."),
    ),
}

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


def hparams(config: Mapping[str, Any]) -> dict[str, Any]:
    """config.json with the architecture's defaults filled in; every size in it is a positive whole number.

    Of a model of text and images it is the text model's. Reads the newer spelling too: `rope_parameters` (transformers
    5) holds what `rope_theta` and `rope_scaling` held; where layers differ in it, what counts is full attention's.
    """
    row = architecture(config)
    text = config.get("text_config")
    stated = {**config, **text} if row.part and isinstance(text, Mapping) else config
    found = {**row.defaults, **stated}
    rope = stated.get("rope_parameters")
    if isinstance(rope, Mapping):
        rope = rope["full_attention"] if isinstance(rope.get("full_attention"), Mapping) else rope
        found["rope_theta"] = stated.get("rope_theta", rope.get("rope_theta", row.defaults["rope_theta"]))
        if stated.get("rope_scaling") is None and rope.get("rope_type", "default") != "default":
            kind = rope["rope_type"]
            found["rope_scaling"] = {"type": kind, **rope}
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        if key not in found:
            raise ModelError(f"config.json lacks `{key}`, without which the tensors' shapes are not known")
        _positive(found, key)
    if found["num_key_value_heads"] is None:
        found["num_key_value_heads"] = found["num_attention_heads"]
    if "head_dim" in row.defaults and found["head_dim"] is None:
        found["head_dim"] = found["hidden_size"] // found["num_attention_heads"]
    present = [key for key, where in (("head_dim", found), ("sliding_window", row.defaults)) if key in where]
    for key in ("num_key_value_heads", "max_position_embeddings", *present):
        _positive(found, key)
    if found["num_attention_heads"] % found["num_key_value_heads"]:
        raise ModelError(
            f"config.json has {found['num_attention_heads']} attention heads, "
            f"which {found['num_key_value_heads']} key-value heads do not divide"
        )
    if row.experts:
        for key in ("num_experts", "num_experts_per_tok", "moe_intermediate_size"):
            _positive(found, key)
        if found["num_hidden_layers"] * found["num_experts"] > MAX_EXPERTS:
            raise ModelError(
                f"config.json has {found['num_hidden_layers']} layers of {found['num_experts']} experts; "
                f"at most {MAX_EXPERTS} experts can be converted"
            )
        if found["decoder_sparse_step"] != 1 or found["mlp_only_layers"]:
            raise ModelError("config.json has layers without experts among those with; all need to have them")
    for key in row.without:
        if found.get(key) is not None:
            raise ModelError(f"config.json's `{key}` is {found[key]!r}; {row.gguf} has none in a GGUF file")
    if "rope_scaling" in found and not isinstance(found["rope_scaling"], Mapping | None):
        raise ModelError("config.json's `rope_scaling` is neither null nor a table")
    return found


def assumed(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`hparams`, or config.json as it is where it cannot be converted."""
    try:
        return hparams(config)
    except ModelError:
        return config


def _positive(found: Mapping[str, Any], key: str) -> None:
    value = found[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise ModelError(f"config.json's `{key}` is {value!r}; a positive whole number would be right")
    if value > _MOST.get(key, value):
        raise ModelError(f"config.json's `{key}` is {value}; at most {_MOST[key]} can be converted")


def head_dim(found: Mapping[str, Any]) -> int:
    """Columns of one head, from `hparams`; raises ModelError when the width is not made of whole heads."""
    if found.get("head_dim") is not None:
        return int(found["head_dim"])
    width, heads = found["hidden_size"], found["num_attention_heads"]
    if width % heads:
        raise ModelError(f"config.json's `hidden_size` {width} is not made of {heads} whole heads")
    return int(width // heads)


def _left_out(row: CheckpointArchitecture, source: str) -> bool:
    """Whether a checkpoint's tensor is one that the converter drops without a word."""
    return source.endswith(_BUFFERS) or source.startswith(row.others)


def tensors(config: Mapping[str, Any], sources: Iterable[str] | None = None) -> list[TensorSpec]:
    """Every tensor of the GGUF file in the converter's output order; reads no weights.

    The converter goes through the checkpoint's files in order of name, in each by tensor name. Without `sources` that
    is one file. With `sources`, the checkpoint's own names in the order of its files, it is theirs. An output matrix
    that exists beside tied embeddings is then written, as the converter does. Raises ModelError when `sources` are not
    the architecture's.
    """
    row, found = architecture(config), hparams(config)
    specs = list(_checkpoint(row, found, tied_output=sources is not None))
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
            raise ModelError(
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
    if row.gguf == "llama" and scaling and str(scaling.get("rope_type", "")).lower() == "llama3":
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
