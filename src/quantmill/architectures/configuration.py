"""config.json as a model's facts: either spelling read, defaults filled in, and what GGUF cannot hold refused."""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.architecture import Architecture, ModelClass
from quantmill.architectures.errors import ModelError, UnsuitableModel
from quantmill.architectures.known import class_of
from quantmill.architectures.packing import packing
from quantmill.architectures.rope_scaling import partial, rope
from quantmill.architectures.windows import check_windows, window
from quantmill.errors import way

MAX_LAYERS = 512  # as in llama.cpp, LLAMA_MAX_LAYERS
MAX_VOCABULARY = 1 << 20  # tokens; the largest known have 262,144, and those that a file lacks are made up
MAX_EXPERTS = 1 << 18  # of all layers together; Kimi K2 has 61 times 384

_MOST = {"num_hidden_layers": MAX_LAYERS, "vocab_size": MAX_VOCABULARY, "num_experts": MAX_EXPERTS, "head_dim": 1 << 16}
_SWITCHES = ("tie_word_embeddings", "attention_bias", "mlp_bias", "norm_topk_prob", "use_sliding_window")
_EXPERTS = ("num_experts", "num_local_experts")  # the older spelling, the newer one


def hparams(config: Mapping[str, Any]) -> dict[str, Any]:
    """config.json with the architecture's defaults filled in; every size in it is a positive whole number.

    Of a model of text and images it is the text model's. Both spellings of a fact, transformers 4's and 5's, are read;
    `rope_scaling` is as rope_scaling.rope makes it. Raises ModelError for what a GGUF file cannot hold.
    """
    row, class_ = class_of(config)
    _unquantized(class_, config)
    stated = _stated(class_, config)
    found = {**class_.defaults, **stated}
    found["rope_theta"], found["rope_scaling"] = rope(row.name, class_, found, stated)
    if (part := partial(stated)) is not None:
        found["partial_rotary_factor"] = part
    _experts(class_, found, stated)
    for key in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"):
        if class_.defaults.get(key, 0) is not None or found[key] is not None:
            _positive(found, key)
    if found.get("num_key_value_heads") is None:
        found["num_key_value_heads"] = found["num_attention_heads"]
    if "head_dim" in class_.defaults and found["head_dim"] is None:
        found["head_dim"] = found["hidden_size"] // found["num_attention_heads"]
    stated_width = ("head_dim",) if found.get("head_dim") is not None else ()
    windowed = class_.defaults.get("sliding_window") is not None
    present = (*stated_width, *(("sliding_window",) if windowed else ()))
    for key in ("num_key_value_heads", "max_position_embeddings", *present):
        _positive(found, key)
    if found["num_attention_heads"] % found["num_key_value_heads"]:
        raise ModelError(
            f"config.json has {found['num_attention_heads']} attention heads, "
            f"which {found['num_key_value_heads']} key-value heads do not divide"
        )
    if class_.mixture:
        _mixture(found)
    for key in ("rms_norm_eps", "rope_theta"):
        if found.get(key, 0) is None and class_.defaults.get(key, 0) is not None:
            raise ModelError(f"config.json's `{key}` is None; a number would be right")
    _only(row, class_, found, stated)
    check_windows(row, class_, found, stated)
    return {**found, **class_.facts(found)} if class_.facts else found


def notes(config: Mapping[str, Any]) -> list[str]:
    """What a person should know of a model that can be converted and that its file will not say."""
    row, class_ = class_of(config)
    found, stated, said = hparams(config), _stated(class_, config), []
    if class_.others:
        said.append(
            f"the file holds the text model of {config['architectures'][0]} alone; its images need an mmproj file, "
            f"which llama.cpp's own converter makes ({way('`[mmproj] types`', '', 'its --mmproj')})"
        )
    if class_.windows == "always" and (width := window(found)):
        said.append(
            f"config.json's `sliding_window` is {width}; llama.cpp's {row.name} has no windows, so that a text beyond "
            f"{width} tokens is read otherwise than by transformers"
        )
    said += class_.notes(found) if class_.notes else ()
    for key, taken in class_.absent.items():
        if key not in stated and not _fits(row, class_, found, key, taken):
            said.append(
                f"config.json does not say `{key}`; transformers takes {taken!r}, llama.cpp "
                f"{_right(row, class_, found, key)!r}"
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


def _stated(class_: ModelClass, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What config.json says of the text model, by our names of keys."""
    text = config.get("text_config")
    if (class_.part or class_.others) and not isinstance(text, Mapping | None):
        raise ModelError("config.json's `text_config` is neither null nor a table")
    inner = (class_.part or class_.others) and isinstance(text, Mapping)
    stated = {**config, **text} if inner and isinstance(text, Mapping) else dict(config)
    stated |= {ours: stated[key] for key, ours in class_.spellings.items() if key in stated and ours not in stated}
    for key in _SWITCHES:
        if not isinstance(stated.get(key), bool | None):
            raise ModelError(f"config.json's `{key}` is {stated[key]!r}; true or false would be right")
    stated = {key: value for key, value in stated.items() if key not in class_.ignored}
    return {**stated, **class_.reading(stated)} if class_.reading else stated


def _unquantized(class_: ModelClass, config: Mapping[str, Any]) -> None:
    """A checkpoint that is quantized says so: by `quantization_config`, or in MLX's way."""
    if packing(config) in class_.packings and not (config.get("quantization") or config.get("compression_config")):
        return
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
    if key not in found:
        raise ModelError(f"config.json lacks `{key}`, without which the tensors' shapes are not known")
    value = found[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise ModelError(f"config.json's `{key}` is {value!r}; a positive whole number would be right")
    if value > _MOST.get(key, value):
        raise ModelError(f"config.json's `{key}` is {value}; at most {_MOST[key]} can be converted")


def _experts(class_: ModelClass, found: dict[str, Any], stated: Mapping[str, Any]) -> None:
    """Both spellings as one; a model without experts has none, whatever is stated: transformers does not look."""
    named = {key: stated[key] for key in _EXPERTS if stated.get(key) is not None}
    if not class_.mixture:
        for key in (*_EXPERTS, "num_experts_per_tok"):
            found.pop(key, None)
        return
    if len(set(map(str, named.values()))) > 1:
        said = " and ".join(f"`{key}` {value!r}" for key, value in named.items())
        raise ModelError(f"config.json has {said}, two spellings of one fact; the same number in both would be right")
    found["num_experts"] = next(iter(named.values()), class_.defaults.get("num_experts"))
    found.pop("num_local_experts", None)


def _mixture(found: Mapping[str, Any]) -> None:
    for key in ("num_experts", "num_experts_per_tok", "moe_intermediate_size"):
        _positive(found, key)
    if found["num_hidden_layers"] * found["num_experts"] > MAX_EXPERTS:
        raise ModelError(
            f"config.json has {found['num_hidden_layers']} layers of {found['num_experts']} experts; "
            f"at most {MAX_EXPERTS} experts can be converted"
        )
    if found.get("decoder_sparse_step", 1) != 1 or found.get("mlp_only_layers"):
        raise ModelError("config.json has layers without experts among those with; all need to have them")
    _groups(found)


def _groups(found: Mapping[str, Any]) -> None:
    """Of experts: llama.cpp does not load others."""
    groups, chosen, experts = found.get("n_group"), found.get("topk_group"), found["num_experts"]
    if groups is None or (isinstance(groups, int) and groups < 2):
        return
    if not (type(groups) is int and type(chosen) is int and not experts % groups and 0 < chosen < groups < experts):
        raise ModelError(
            f"config.json has {experts} experts in groups, `n_group` {groups!r} of which `topk_group` {chosen!r} are "
            "chosen; groups of equal size, of which fewer are chosen than there are, would be right"
        )


def _only(row: Architecture, class_: ModelClass, found: Mapping[str, Any], stated: Mapping[str, Any]) -> None:
    for key in (*class_.only, *class_.absent):
        if key in stated and not _fits(row, class_, found, key, stated[key]):
            right = _right(row, class_, found, key)
            can = "has none in a GGUF file" if right is None else f"in a GGUF file has {right!r} and nothing else"
            raise ModelError(f"config.json's `{key}` is {stated[key]!r}; {row.name} {can}")


def _fits(row: Architecture, class_: ModelClass, found: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether llama.cpp computes by that value; numbers are compared as such, and true is none."""
    right = class_.only.get(key, (_right(row, class_, found, key),))
    return any(value == fit and isinstance(value, bool) == isinstance(fit, bool) for fit in right)


def _right(row: Architecture, class_: ModelClass, found: Mapping[str, Any], key: str) -> Any:
    if key in class_.only:
        return class_.only[key][0]
    # query_pre_attn_scalar: llama.cpp knows the released models, of which one may differ.
    wide = found["num_hidden_layers"] == row.wide_scale_layers
    return found["hidden_size"] // found["num_attention_heads"] if wide else head_dim(found)
