"""The `<arch>.*` keys: what llama.cpp needs to know of a model's shape."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from quantmill.architectures.architecture import Architecture, Facts, MetadataKey
from quantmill.architectures.conditions import Sizes
from quantmill.architectures.configuration import head_dim, hparams
from quantmill.architectures.errors import ModelError, UnsuitableModel
from quantmill.architectures.known import class_of
from quantmill.architectures.packing import check_since, packing
from quantmill.architectures.rope_scaling import LINEAR_KEYS, SCALING_KEYS
from quantmill.architectures.sizes import Size
from quantmill.gguf import KV, ValueType, kv
from quantmill.reference.converter import Converter
from quantmill.reference.reference import Reference
from quantmill.reference.spans import newest

# The number that general.file_type has for a file whose matrices are of a type (llama.h, llama_ftype).
FILE_TYPES = {"F32": 0, "F16": 1, "BF16": 32}
_FILE_TYPE, _MXFP4 = "general.file_type", 38
_LARGEST = (2 - 2**-23) * 2.0**127  # of float32
_FLOAT = ValueType.FLOAT32
_NUMBERS = (ValueType.UINT32, _FLOAT)
_BY_LAYER = ("feed_forward_length", "attention.head_count", "attention.head_count_kv")  # may be a number each

_SCORES = (
    *("score_function", "scoring_func", "score_func"),
    *("moe_router_activation", "moe_router_activation_func", "expert_selection_fn"),
)
_GATING = {"softmax": 1, "sigmoid": 2, "sqrtsoftplus": 4}  # gguf.ExpertGatingFuncType


def _of_mixture(name: str) -> Callable[[Facts], Any]:
    return lambda found: found.get(name) if "num_experts" in found else None


def _gating(found: Facts) -> int | None:
    """How a mixture scores its experts, where config.json says it."""
    name = next((name for name in _SCORES if found.get(name) is not None), "")
    if not name or "num_experts" not in found:
        return None
    if not isinstance(found[name], str) or found[name] not in _GATING:
        raise ModelError(f"config.json's `{name}` is {found[name]!r}; one of {', '.join(_GATING)} would be right")
    return _GATING[found[name]]


# The keys that the converter's base class writes, and those that several of its classes do.
KEYS = (
    MetadataKey("block_count", "num_hidden_layers", size="layers"),
    MetadataKey("context_length", "max_position_embeddings"),
    MetadataKey("embedding_length", "hidden_size", size="embd"),
    MetadataKey("feed_forward_length", "intermediate_size", size="ff"),
    MetadataKey("attention.head_count", "num_attention_heads", size="heads"),
    MetadataKey("attention.head_count_kv", "num_key_value_heads", size="kv_heads"),
    MetadataKey("rope.freq_base", "rope_theta", _FLOAT),
    MetadataKey("rope.freq_base_swa", "rope_local_base_freq", _FLOAT),
    MetadataKey("rope.dimension_count", head_dim),
    MetadataKey("attention.layer_norm_rms_epsilon", "rms_norm_eps", _FLOAT),
    MetadataKey("attention.layer_norm_epsilon", "layer_norm_eps layer_norm_epsilon norm_epsilon", _FLOAT),
    MetadataKey("expert_count", "num_experts", size="experts"),
    MetadataKey("expert_used_count", "num_experts_per_tok", size="experts_used"),
    MetadataKey("expert_group_count", _of_mixture("n_group")),
    MetadataKey("expert_group_used_count", _of_mixture("topk_group")),
    MetadataKey("expert_gating_func", _gating),
    MetadataKey("expert_feed_forward_length", "moe_intermediate_size", size="eff"),
    MetadataKey("attention.key_length", "head_dim", size="head"),
    MetadataKey("attention.value_length", "head_dim"),
    MetadataKey("attention.sliding_window", "sliding_window"),
    MetadataKey("vocab_size", "vocab_size", size="vocab"),
)


def facts(config: Mapping[str, Any], file_type: str, reference: Reference | None = None) -> Iterator[KV]:
    """The keys of the model's shape and general.quantization_version, in the order of the reference's converter;
    `file_type` is F32, F16 or BF16."""
    (row, class_), found = class_of(config), hparams(config)
    reference = reference or newest()
    if reference.last < (since := max(row.since, class_.since)):
        raise UnsuitableModel(
            f"config.json: a {row.name} is converted as llama.cpp b{since} and later do it, not as {reference}"
        )
    check_since(config, reference.last, reference)
    scaling = found.get("rope_scaling") or {}
    kind = scaling.get("type")
    keys = {key.key: key for key in KEYS}
    own = {key.key: key for key in _own(row)}
    scaled = {key.key: key for key in SCALING_KEYS}
    for name in _order(row, reference.converter):
        if name == _FILE_TYPE:
            yield kv(name, _MXFP4 if packing(config) == "mxfp4" else FILE_TYPES[file_type])
        elif name in own:
            yield from _entry(row.name, own[name], found, "")
        elif name == "rope.scaling.type":
            if kind in ("linear", "yarn"):
                yield kv(f"{row.name}.{name}", kind)
        elif name not in scaled:
            yield from _entry(row.name, keys[name], found, "")
        elif kind == "yarn" or (kind == "linear" and scaled[name] in LINEAR_KEYS):
            yield from _entry(row.name, scaled[name], scaling, "rope_scaling.")
    yield kv("general.quantization_version", 2)


def _own(row: Architecture) -> list[MetadataKey]:
    return [key for key in row.keys if isinstance(key, MetadataKey)]


def _order(row: Architecture, converter: Converter) -> Sequence[str]:
    """The architecture's own order or the span's for it, or else the base class's keys, then the architecture's."""
    if row.order:
        return row.order
    if row.name in converter.model:
        return converter.model[row.name]
    behind = {key.key for key in _own(row) if key.behind}
    shape = [key for key in converter.shape if key not in behind]
    own = [key.key if isinstance(key, MetadataKey) else key for key in row.keys]
    own = [key for key in own if key not in shape]
    return (*shape, *own, *(key for key in converter.last if key not in own))


def _entry(architecture: str, key: MetadataKey, found: Mapping[str, Any], above: str) -> Iterator[KV]:
    name, value = _stated(key, found)
    if value is None:
        return
    if key.type in _NUMBERS and not (callable(key.config) and isinstance(value, list)):  # such a list is made here
        several = isinstance(value, list) and key.key in _BY_LAYER
        for item in value if several else [value]:
            number(above + name, item, key.type)
    items = ValueType.INT32 if key.type == ValueType.UINT32 else key.type  # whole numbers of a list
    kind = (ValueType.ARRAY, items) if isinstance(value, list) else (key.type,)
    yield kv(f"{architecture}.{key.key}", value, *kind)


def _stated(key: MetadataKey, found: Mapping[str, Any]) -> tuple[str, Any]:
    """(the name in config.json, the value) of a key; None for one that is not to be."""
    if callable(key.config):
        return key.key, key.config(found)
    name = next((name for name in key.config.split() if name in found), "")
    return name, found.get(name)


def number(name: str, value: Any, type_: ValueType) -> Any:
    """What config.json has as `name`, where it is a number of that type, UINT32 or FLOAT32. Raises ModelError."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if type_ == ValueType.UINT32 and not (whole and 0 <= value < 2**32):
        raise ModelError(f"config.json's `{name}` is {value!r}; a whole number would be right")
    if type_ == ValueType.FLOAT32 and not ((whole or isinstance(value, float)) and abs(value) <= _LARGEST):
        raise ModelError(f"config.json's `{name}` is {value!r}; a number would be right")
    return value


def own_sizes(row: Architecture) -> list[MetadataKey]:
    """The keys of the architecture's own that are sizes."""
    return [key for key in _own(row) if key.size]


def config_sizes(row: Architecture, found: Mapping[str, Any]) -> dict[str, Size]:
    """The sizes that the architecture has keys of its own for, of `hparams`."""
    sizes = {}
    for key in own_sizes(row):
        name, value = _stated(key, found)
        if value is not None and not callable(key.config) and key.key not in _BY_LAYER:
            number(name, value, key.type)
        sizes[key.size] = _size(value)
    return sizes


def stated_sizes(row: Architecture, metadata: Mapping[str, KV]) -> Sizes:
    """The sizes that a file's metadata state; 0 for what they do not, or not as whole numbers."""
    keys = {key.size: f"{row.name}.{key.key}" for key in (*KEYS, *_own(row)) if key.size}
    return {size: _size(metadata[key].value if key in metadata else None) for size, key in keys.items()}


def _size(value: Any) -> Size:
    if isinstance(value, int):
        return int(value)
    return tuple(value) if isinstance(value, list | tuple) and all(isinstance(item, int) for item in value) else 0
