"""config.json as a model's facts: either spelling read, defaults filled in, and what GGUF cannot hold refused."""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.checkpoint_architectures import (
    MAX_EXPERTS,
    MAX_LAYERS,
    MAX_VOCABULARY,
    CheckpointArchitecture,
    architecture,
)
from quantmill.architectures.errors import ModelError, UnsuitableModel
from quantmill.architectures.rope_scaling import rope

_MOST = {"num_hidden_layers": MAX_LAYERS, "vocab_size": MAX_VOCABULARY, "num_experts": MAX_EXPERTS, "head_dim": 1 << 16}
_SWITCHES = ("tie_word_embeddings", "attention_bias", "mlp_bias", "norm_topk_prob", "use_sliding_window")
_EXPERTS = ("num_experts", "num_local_experts")  # the older spelling, the newer one
_PATTERN = 6  # of Gemma 3: every so many layers, one attends to everything
_SLIDING, _FULL = "sliding_attention", "full_attention"


def hparams(config: Mapping[str, Any]) -> dict[str, Any]:
    """config.json with the architecture's defaults filled in; every size in it is a positive whole number.

    Of a model of text and images it is the text model's. Both spellings of a fact, transformers 4's and 5's, are read;
    `rope_scaling` is as rope_scaling.rope makes it. Raises ModelError for what a GGUF file cannot hold.
    """
    row = architecture(config)
    _unquantized(config)
    stated = _stated(row, config)
    found = {**row.defaults, **stated}
    found["rope_theta"], found["rope_scaling"] = rope(row, found, stated)
    _experts(row, found, stated)
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        if key not in found:
            raise ModelError(f"config.json lacks `{key}`, without which the tensors' shapes are not known")
        _positive(found, key)
    if found["num_key_value_heads"] is None:
        found["num_key_value_heads"] = found["num_attention_heads"]
    if "head_dim" in row.defaults and found["head_dim"] is None:
        found["head_dim"] = found["hidden_size"] // found["num_attention_heads"]
    stated_width = ("head_dim",) if found.get("head_dim") is not None else ()
    present = (*stated_width, *(("sliding_window",) if "sliding_window" in row.defaults else ()))
    for key in ("num_key_value_heads", "max_position_embeddings", *present):
        _positive(found, key)
    if found["num_attention_heads"] % found["num_key_value_heads"]:
        raise ModelError(
            f"config.json has {found['num_attention_heads']} attention heads, "
            f"which {found['num_key_value_heads']} key-value heads do not divide"
        )
    if row.experts:
        _mixture(found)
    for key in ("rms_norm_eps", "rope_theta"):
        if found[key] is None:
            raise ModelError(f"config.json's `{key}` is None; a number would be right")
    _only(row, found, stated)
    _windows(row, found, stated)
    return found


def notes(config: Mapping[str, Any]) -> list[str]:
    """What a person should know of a model that can be converted and that its file will not say."""
    row, found = architecture(config), hparams(config)
    stated, said = _stated(row, config), []
    if row.others:
        said.append(
            f"the file holds the text model of {config['architectures'][0]} alone; its images need an mmproj file, "
            "which llama.cpp's own converter makes (--mmproj)"
        )
    if row.windows == "always" and (window := _window(found, stated)):
        said.append(
            f"config.json's `sliding_window` is {window}; llama.cpp's {row.gguf} has no windows, so that a text beyond "
            f"{window} tokens is read otherwise than by transformers"
        )
    for key, taken in row.absent.items():
        if key not in stated and not _fits(row, found, key, taken):
            said.append(
                f"config.json does not say `{key}`; transformers takes {taken!r}, llama.cpp {_right(row, found, key)!r}"
            )
    return said


def assumed(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`hparams`, or config.json as it is where it cannot be converted."""
    try:
        return hparams(config)
    except ModelError:
        return config


def head_dim(found: Mapping[str, Any]) -> int:
    """Columns of one head, from `hparams`; raises ModelError when the width is not made of whole heads."""
    if found.get("head_dim") is not None:
        return int(found["head_dim"])
    width, heads = found["hidden_size"], found["num_attention_heads"]
    if width % heads:
        raise ModelError(f"config.json's `hidden_size` {width} is not made of {heads} whole heads")
    return int(width // heads)


def _stated(row: CheckpointArchitecture, config: Mapping[str, Any]) -> Mapping[str, Any]:
    text = config.get("text_config")
    stated = {**config, **text} if row.part and isinstance(text, Mapping) else config
    for key in _SWITCHES:
        if not isinstance(stated.get(key), bool | None):
            raise ModelError(f"config.json's `{key}` is {stated[key]!r}; true or false would be right")
    return stated


def _unquantized(config: Mapping[str, Any]) -> None:
    """A checkpoint that is quantized says so: by `quantization_config`, or in MLX's way."""
    key = next((key for key in ("quantization_config", "quantization", "compression_config") if config.get(key)), "")
    if not key:
        return
    table = config[key] if isinstance(config[key], Mapping) else {}
    method = table.get("quant_method", "MLX" if key == "quantization" else "by a method without a name")
    raise UnsuitableModel(
        f"config.json: the weights are quantized already ({method}, `{key}`), which cannot be converted; give the "
        "model's own checkpoint, whose weights are BF16, F16 or F32"
    )


def _positive(found: Mapping[str, Any], key: str) -> None:
    value = found[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise ModelError(f"config.json's `{key}` is {value!r}; a positive whole number would be right")
    if value > _MOST.get(key, value):
        raise ModelError(f"config.json's `{key}` is {value}; at most {_MOST[key]} can be converted")


def _experts(row: CheckpointArchitecture, found: dict[str, Any], stated: Mapping[str, Any]) -> None:
    """Both spellings as one; a model without experts has none, whatever is stated: transformers does not look."""
    named = {key: stated[key] for key in _EXPERTS if stated.get(key) is not None}
    if not row.experts:
        for key in (*_EXPERTS, "num_experts_per_tok"):
            found.pop(key, None)
        return
    if len(set(map(str, named.values()))) > 1:
        said = " and ".join(f"`{key}` {value!r}" for key, value in named.items())
        raise ModelError(f"config.json has {said}, two spellings of one fact; the same number in both would be right")
    found["num_experts"] = next(iter(named.values()), row.defaults["num_experts"])
    found.pop("num_local_experts", None)


def _mixture(found: Mapping[str, Any]) -> None:
    for key in ("num_experts", "num_experts_per_tok", "moe_intermediate_size"):
        _positive(found, key)
    if found["num_hidden_layers"] * found["num_experts"] > MAX_EXPERTS:
        raise ModelError(
            f"config.json has {found['num_hidden_layers']} layers of {found['num_experts']} experts; "
            f"at most {MAX_EXPERTS} experts can be converted"
        )
    if found["decoder_sparse_step"] != 1 or found["mlp_only_layers"]:
        raise ModelError("config.json has layers without experts among those with; all need to have them")


def _only(row: CheckpointArchitecture, found: Mapping[str, Any], stated: Mapping[str, Any]) -> None:
    for key in (*row.only, *row.absent):
        if key in stated and not _fits(row, found, key, stated[key]):
            right = _right(row, found, key)
            can = "has none in a GGUF file" if right is None else f"in a GGUF file has {right!r} and nothing else"
            raise ModelError(f"config.json's `{key}` is {stated[key]!r}; {row.gguf} {can}")


def _fits(row: CheckpointArchitecture, found: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether llama.cpp computes by that value; numbers are compared as such, and true is none."""
    right = row.only.get(key, (_right(row, found, key),))
    return any(value == fit and isinstance(value, bool) == isinstance(fit, bool) for fit in right)


def _right(row: CheckpointArchitecture, found: Mapping[str, Any], key: str) -> Any:
    if key in row.only:
        return row.only[key][0]
    # query_pre_attn_scalar: llama.cpp knows the released models, of which the one of 62 layers differs.
    return found["hidden_size"] // found["num_attention_heads"] if found["num_hidden_layers"] == 62 else head_dim(found)


def _window(found: Mapping[str, Any], stated: Mapping[str, Any]) -> int:
    """The window that is shorter than the context; 0 where none is."""
    window = stated.get("sliding_window", 4096)
    return window if isinstance(window, int) and 0 < window < found["max_position_embeddings"] else 0


def _windows(row: CheckpointArchitecture, found: Mapping[str, Any], stated: Mapping[str, Any]) -> None:
    layers, kinds = found["num_hidden_layers"], stated.get("layer_types")
    if row.windows not in ("asked", "pattern"):
        return
    if kinds is not None and (not isinstance(kinds, list) or not {_SLIDING, _FULL}.issuperset(map(str, kinds))):
        raise ModelError(
            f"config.json's `layer_types` is no list of {_FULL!r} and {_SLIDING!r}, which can be converted"
        )
    if row.windows == "pattern":
        name = next((key for key in ("sliding_window_pattern", "_sliding_window_pattern") if key in stated), "")
        step = stated.get(name, _PATTERN)
        wanted = [_FULL if (layer + 1) % _PATTERN == 0 else _SLIDING for layer in range(layers)]
        if (kinds is None and step not in (_PATTERN, None)) or (kinds is not None and kinds != wanted):
            key = name if kinds is None else "layer_types"
            raise ModelError(
                f"config.json's `{key}` lets other layers see the whole text than every {_PATTERN}th; "
                f"{row.gguf} in a GGUF file has that pattern and no other"
            )
        return
    if row.windows != "asked" or not _window(found, stated) or not stated.get("use_sliding_window"):
        return
    first = stated.get("max_window_layers", 28 if row.gguf != "qwen3moe" else 0)
    asked = _SLIDING in kinds if kinds is not None else not isinstance(first, int) or first < layers
    if asked:
        raise ModelError(
            f"config.json asks for a window of {_window(found, stated)} tokens (`use_sliding_window`); llama.cpp's "
            f"{row.gguf} has none. A `max_position_embeddings` within the window would be right"
        )
