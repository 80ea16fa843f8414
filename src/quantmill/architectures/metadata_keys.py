"""The `<arch>.*` keys: what llama.cpp needs to know of a model's shape."""

from collections.abc import Iterator, Mapping
from typing import Any

from quantmill.architectures.checkpoint_tensors import architecture, head_dim, hparams
from quantmill.architectures.errors import ModelError
from quantmill.gguf import KV, ValueType, kv
from quantmill.reference.reference import Reference
from quantmill.reference.spans import newest

# The number that general.file_type has for a file whose matrices are of a type (llama.h, llama_ftype).
FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32}
_FILE_TYPE = "general.file_type"
_LARGEST = (2 - 2**-23) * 2.0**127  # of float32

# GGUF's key behind the architecture, config.json's keys (the first that is there), and the value's type.
_FACTS: dict[str, tuple[str, ValueType]] = {
    "block_count": ("num_hidden_layers", ValueType.UINT32),
    "context_length": ("max_position_embeddings", ValueType.UINT32),
    "embedding_length": ("hidden_size", ValueType.UINT32),
    "feed_forward_length": ("intermediate_size", ValueType.UINT32),
    "attention.head_count": ("num_attention_heads", ValueType.UINT32),
    "attention.head_count_kv": ("num_key_value_heads", ValueType.UINT32),
    "rope.freq_base": ("rope_theta", ValueType.FLOAT32),
    "rope.freq_base_swa": ("rope_local_base_freq", ValueType.FLOAT32),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", ValueType.FLOAT32),
    "attention.layer_norm_epsilon": ("layer_norm_eps layer_norm_epsilon norm_epsilon", ValueType.FLOAT32),
    "expert_count": ("num_experts", ValueType.UINT32),
    "expert_used_count": ("num_experts_per_tok", ValueType.UINT32),
    "expert_feed_forward_length": ("moe_intermediate_size", ValueType.UINT32),
    "attention.key_length": ("head_dim", ValueType.UINT32),
    "attention.value_length": ("head_dim", ValueType.UINT32),
    "attention.sliding_window": ("sliding_window", ValueType.UINT32),
    "vocab_size": ("vocab_size", ValueType.UINT32),
}
# The same of the table of its rope scaling; llama3's is a tensor. llama.cpp takes the context for an original that is
# not said.
_SCALING: dict[str, tuple[str, ValueType]] = {
    "rope.scaling.factor": ("factor", ValueType.FLOAT32),
    "rope.scaling.original_context_length": ("original_max_position_embeddings", ValueType.UINT32),
    "rope.scaling.yarn_ext_factor": ("extrapolation_factor", ValueType.FLOAT32),
    "rope.scaling.yarn_attn_factor": ("attention_factor attn_factor", ValueType.FLOAT32),
    "rope.scaling.yarn_beta_fast": ("beta_fast", ValueType.FLOAT32),
    "rope.scaling.yarn_beta_slow": ("beta_slow", ValueType.FLOAT32),
}
_LINEAR = ("rope.scaling.factor",)  # all that linear scaling has


def facts(config: Mapping[str, Any], file_type: str, reference: Reference | None = None) -> Iterator[KV]:
    """The keys of the model's shape and general.quantization_version, in the order of the reference's converter;
    `file_type` is F32, F16 or BF16."""
    row, found = architecture(config), hparams(config)
    scaling = found.get("rope_scaling") or {}
    kind = scaling.get("type")
    for key in (reference or newest()).converter.model[row.gguf]:
        if key == _FILE_TYPE:
            yield kv(key, FILE_TYPES[file_type])
        elif key == "rope.dimension_count":
            yield kv(f"{row.gguf}.{key}", head_dim(found))
        elif key == "rope.scaling.type":
            if kind in ("linear", "yarn"):
                yield kv(f"{row.gguf}.{key}", kind)
        elif key not in _SCALING:
            yield from _entry(f"{row.gguf}.{key}", found, "", *_FACTS[key])
        elif kind == "yarn" or (kind == "linear" and key in _LINEAR):
            yield from _entry(f"{row.gguf}.{key}", scaling, "rope_scaling.", *_SCALING[key])
    yield kv("general.quantization_version", 2)


def _entry(key: str, found: Mapping[str, Any], above: str, names: str, type_: ValueType) -> Iterator[KV]:
    name = next((name for name in names.split() if name in found), None)
    if name is not None and found[name] is not None:
        yield kv(key, number(above + name, found[name], type_), type_)


def number(name: str, value: Any, type_: ValueType) -> Any:
    """What config.json has as `name`, where it is a number of that type, UINT32 or FLOAT32. Raises ModelError."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if type_ == ValueType.UINT32 and not (whole and 0 <= value < 2**32):
        raise ModelError(f"config.json's `{name}` is {value!r}; a whole number would be right")
    if type_ == ValueType.FLOAT32 and not ((whole or isinstance(value, float)) and abs(value) <= _LARGEST):
        raise ModelError(f"config.json's `{name}` is {value!r}; a number would be right")
    return value
