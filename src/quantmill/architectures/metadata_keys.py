"""The `<arch>.*` keys: what llama.cpp needs to know of a model's shape."""

from collections.abc import Iterator, Mapping
from typing import Any

from quantmill.architectures.checkpoint_tensors import CheckpointArchitecture, architecture, head_dim, hparams
from quantmill.architectures.errors import ModelError
from quantmill.gguf import KV, ValueType, kv

# The number that general.file_type has for a file whose matrices are of a type (llama.h, llama_ftype).
FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32}
_FILE_TYPE = "general.file_type"
_LARGEST = (2 - 2**-23) * 2.0**127  # of float32

# GGUF's key, config.json's keys (the first that is there), and the value's type: in the order of the file.
_COMMON = (
    ("block_count", "num_hidden_layers", ValueType.UINT32),
    ("context_length", "max_position_embeddings", ValueType.UINT32),
    ("embedding_length", "hidden_size", ValueType.UINT32),
    ("feed_forward_length", "intermediate_size", ValueType.UINT32),
    ("attention.head_count", "num_attention_heads", ValueType.UINT32),
    ("attention.head_count_kv", "num_key_value_heads", ValueType.UINT32),
    ("rope.freq_base", "rope_theta", ValueType.FLOAT32),
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps", ValueType.FLOAT32),
    ("attention.layer_norm_epsilon", "layer_norm_eps layer_norm_epsilon norm_epsilon", ValueType.FLOAT32),
    ("expert_count", "num_local_experts", ValueType.UINT32),
    ("expert_used_count", "num_experts_per_tok", ValueType.UINT32),
    ("attention.key_length", "head_dim", ValueType.UINT32),
    ("attention.value_length", "head_dim", ValueType.UINT32),
    (_FILE_TYPE, "", ValueType.UINT32),
)
_GEMMA3 = (
    ("context_length", "max_position_embeddings", ValueType.UINT32),
    ("embedding_length", "hidden_size", ValueType.UINT32),
    ("block_count", "num_hidden_layers", ValueType.UINT32),
    ("feed_forward_length", "intermediate_size", ValueType.UINT32),
    ("attention.head_count", "num_attention_heads", ValueType.UINT32),
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps", ValueType.FLOAT32),
    ("attention.key_length", "head_dim", ValueType.UINT32),
    ("attention.value_length", "head_dim", ValueType.UINT32),
    (_FILE_TYPE, "", ValueType.UINT32),
    ("rope.freq_base", "rope_theta", ValueType.FLOAT32),
    ("attention.sliding_window", "sliding_window", ValueType.UINT32),
    ("attention.head_count_kv", "num_key_value_heads", ValueType.UINT32),
)
_ORDERS = {"gemma3": _GEMMA3}  # architectures whose facts the converter writes in an order of their own


def facts(config: Mapping[str, Any], file_type: str) -> Iterator[KV]:
    """From block_count to general.quantization_version, in the converter's order; `file_type` is F32, F16 or BF16."""
    row, found = architecture(config), hparams(config)
    for key, names, type_ in _ORDERS.get(row.gguf, _COMMON):
        if key == _FILE_TYPE:
            yield kv(key, FILE_TYPES[file_type])
        name = next((name for name in names.split() if name in found), None)
        if name is not None and found[name] is not None:
            yield _entry(f"{row.gguf}.{key}", name, found[name], type_)
    extra = {
        "vocab_size": found["vocab_size"],
        "rope.dimension_count": head_dim(found),
        "expert_count": found.get("num_experts"),
        "expert_feed_forward_length": found.get("moe_intermediate_size"),
    }
    for key in row.keys:
        yield kv(f"{row.gguf}.{key}", extra[key])
    yield from _scaling(row, found.get("rope_scaling"))
    yield kv("general.quantization_version", 2)


def _scaling(row: CheckpointArchitecture, scaling: Mapping[str, Any] | None) -> Iterator[KV]:
    """Linear or YaRN scaling; llama3's is a tensor. llama.cpp takes the context for an original that is not said."""
    if not scaling or scaling["type"] == "llama3":
        return
    prefix, kind = f"{row.gguf}.rope.scaling", scaling["type"]
    yield kv(f"{prefix}.type", kind)
    yield _entry(f"{prefix}.factor", "rope_scaling.factor", scaling["factor"], ValueType.FLOAT32)
    name = "original_max_position_embeddings"
    if kind == "yarn" and scaling.get(name) is not None:
        yield _entry(f"{prefix}.original_context_length", f"rope_scaling.{name}", scaling[name], ValueType.UINT32)


def _entry(key: str, name: str, value: Any, type_: ValueType) -> KV:
    return kv(key, number(name, value, type_), type_)


def number(name: str, value: Any, type_: ValueType) -> Any:
    """What config.json has as `name`, where it is a number of that type, UINT32 or FLOAT32. Raises ModelError."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if type_ == ValueType.UINT32 and not (whole and 0 <= value < 2**32):
        raise ModelError(f"config.json's `{name}` is {value!r}; a whole number would be right")
    if type_ == ValueType.FLOAT32 and not ((whole or isinstance(value, float)) and abs(value) <= _LARGEST):
        raise ModelError(f"config.json's `{name}` is {value!r}; a number would be right")
    return value
