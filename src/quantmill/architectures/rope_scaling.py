"""Rotary positions: as config.json tells them in either spelling, the keys made of that, and as a file tells them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantmill.architectures.architecture import MetadataKey, ModelClass
from quantmill.architectures.errors import ForwardError, ModelError
from quantmill.architectures.key_reader import KeyReader
from quantmill.gguf import ValueType

_ORIGINAL = "original_max_position_embeddings"
_LAYERS = ("full_attention", "sliding_attention")
_LOCAL = 10000  # llama.cpp's base of the layers that have a window
# What YaRN may be told beside its factor, and the values that llama.cpp computes by.
_YARN: dict[str, tuple[Any, ...]] = {
    "beta_fast": (32, None),
    "beta_slow": (1, None),
    "truncate": (True, None),
    "mscale": (None,),
    "mscale_all_dim": (None,),
}
# The metadata keys of a scaling's table; llama3's is a tensor. llama.cpp takes the context for an original that is not
# said.
SCALING_KEYS = (
    MetadataKey("rope.scaling.factor", "factor", ValueType.FLOAT32),
    MetadataKey("rope.scaling.original_context_length", _ORIGINAL),
    MetadataKey("rope.scaling.yarn_ext_factor", "extrapolation_factor", ValueType.FLOAT32),
    MetadataKey("rope.scaling.yarn_attn_factor", "attention_factor attn_factor", ValueType.FLOAT32),
    MetadataKey("rope.scaling.yarn_beta_fast", "beta_fast", ValueType.FLOAT32),
    MetadataKey("rope.scaling.yarn_beta_slow", "beta_slow", ValueType.FLOAT32),
)
LINEAR_KEYS = SCALING_KEYS[:1]  # all that linear scaling has


@dataclass(frozen=True)
class Rope:
    """Rotary positions of a layer.

    `scaling`: "none", "linear" or "yarn"
    `scale`: one over the factor
    `context`: the training context of the model that YaRN stretched
    `attention`: what cosine and sine are multiplied by
    `factored`: the factors of a file divide its angles, where there are such
    """

    base: float
    scaling: str = "none"
    scale: float = 1.0
    context: int = 0
    attention: float = 1.0
    factored: bool = True


def rope_of_file(keys: KeyReader, context: int) -> Rope:
    """A model's rotary positions by its metadata; where nothing is said, scaling is linear by no factor at all."""
    scaling = keys.text("rope.scaling.type", "linear")
    if scaling not in ("none", "linear", "yarn"):
        raise keys.wrong("rope.scaling.type", f"is {scaling!r}", "none, linear or yarn")
    factor = keys.number("rope.scaling.factor", -1.0, least=-1.0)
    if factor == -1.0:
        factor = keys.number("rope.scale_linear", 0.0)
    return Rope(
        base=keys.number("rope.freq_base", 10000.0, least=1.0),
        scaling=scaling,
        scale=1.0 if scaling == "none" or factor <= 0.0 else 1.0 / factor,
        context=keys.size("rope.scaling.original_context_length", context),
        attention=keys.number("rope.scaling.attn_factor", 1.0),
    )


def check_factors(place: str, name: str, least: float) -> None:
    """Raises ForwardError unless the least of a file's factors is above 0; angles are divided by them."""
    if not least > 0:
        raise ForwardError(f"{place}: {name} has a factor of {least:g}; numbers above 0 would be right")


def rope(
    name: str, class_: ModelClass, found: Mapping[str, Any], stated: Mapping[str, Any]
) -> tuple[Any, dict[str, Any] | None]:
    """The base, and the scaling with its kind as `type`, None for no scaling; where layers differ, what counts is full
    attention's. `found` has the defaults in it. Raises ModelError for what llama.cpp does not compute."""
    new = stated.get("rope_parameters")
    if not isinstance(new, Mapping | None):
        raise ModelError("config.json's `rope_parameters` is neither null nor a table")
    old = stated.get("rope_scaling")
    if not isinstance(old, Mapping | None):
        raise ModelError("config.json's `rope_scaling` is neither null nor a table")
    if new is not None and any(layers in new for layers in _LAYERS):
        _check_local(name, class_, new.get("sliding_attention"))
        new = new.get("full_attention") or {}
        if not isinstance(new, Mapping):
            raise ModelError("config.json's `rope_parameters.full_attention` is neither null nor a table")
    new = new or {}
    base = _base(found, stated, new)
    if "partial_rotary_factor" in class_.only and new.get("partial_rotary_factor") not in (None, 1):
        raise ModelError(
            f"config.json's `rope_parameters.partial_rotary_factor` is {new['partial_rotary_factor']!r}; "
            f"{name} in a GGUF file turns the whole of a head"
        )
    return base, _scaling(name, class_, old or new, "rope_scaling" if old else "rope_parameters", stated)


def partial(stated: Mapping[str, Any]) -> Any:
    """The part of a head that turns, as config.json tells it; None where it does not."""
    table = stated.get("rope_parameters")
    table = table if isinstance(table, Mapping) else {}
    table = table.get("full_attention", table)
    new = table.get("partial_rotary_factor") if isinstance(table, Mapping) else None
    return stated.get("partial_rotary_factor") if new is None else new


def _base(found: Mapping[str, Any], stated: Mapping[str, Any], new: Mapping[str, Any]) -> Any:
    values = [table["rope_theta"] for table in (stated, new) if table.get("rope_theta") is not None]
    if len(set(map(str, values))) > 1 and values[0] != values[1]:
        raise ModelError(
            f"config.json's `rope_theta` is {values[0]!r} and {values[1]!r} in `rope_parameters`, two spellings of one "
            "fact; the same number in both would be right"
        )
    return values[0] if values else found["rope_theta"]


def _check_local(name: str, class_: ModelClass, local: Any) -> None:
    """Layers with a window turn by a base that llama.cpp knows, unscaled."""
    if local is None:
        return
    kind = local.get("rope_type", local.get("type", "default")) if isinstance(local, Mapping) else None
    if class_.windows == "pattern" and (kind != "default" or local.get("rope_theta", _LOCAL) != _LOCAL):
        raise ModelError(
            f"config.json's `rope_parameters.sliding_attention` is {local!r}; {name} in a GGUF file has the base "
            f"{_LOCAL} there and no scaling"
        )


def _scaling(
    name: str, class_: ModelClass, table: Mapping[str, Any], key: str, stated: Mapping[str, Any]
) -> dict[str, Any] | None:
    kind = table.get("rope_type", table.get("type", "default"))
    kind = kind.lower() if isinstance(kind, str) else kind
    if not table or kind == "default":
        return None
    if kind not in class_.scalings:
        shown = dict(table)
        if class_.scalings == ("linear",):
            raise ModelError(f"config.json's `{key}` is {shown!r}; {name} has linear, with a `factor`")
        if not class_.scalings:
            raise ModelError(f"config.json's `{key}` is {shown!r}; {name} in a GGUF file has no scaling")
        raise ModelError(
            f"config.json's `{key}` is of the kind {kind!r}; llama.cpp's {name} computes "
            f"{', '.join(class_.scalings)}. Without that table the model is converted for the context that it was "
            "trained on"
        )
    scaling = {**table, "type": kind}
    original = stated.get(_ORIGINAL, table.get(_ORIGINAL))
    if original is not None:
        scaling[_ORIGINAL] = original
    if kind in ("linear", "yarn"):
        _check_factor(name, class_, key, table)
    if kind == "yarn":
        _check_yarn(name, class_, key, table)
    return scaling


def _check_factor(name: str, class_: ModelClass, key: str, table: Mapping[str, Any]) -> None:
    factor = table.get("factor")
    if factor is None and class_.scalings == ("linear",):
        raise ModelError(f"config.json's `{key}` is {dict(table)!r}; {name} has linear, with a `factor`")
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor < math.inf:
        raise ModelError(f"config.json's `{key}.factor` is {factor!r}; a number above 0 would be right")


def _check_yarn(name: str, class_: ModelClass, key: str, table: Mapping[str, Any]) -> None:
    for part, right in {**_YARN, **class_.yarn}.items():
        if right and table.get(part) not in right:
            raise ModelError(
                f"config.json's `{key}.{part}` is {table[part]!r}; llama.cpp's {name} computes by {right[0]!r} alone"
            )
    usual = 1.0 if table.get("mscale") else 0.1 * math.log(max(table["factor"], 1)) + 1
    stated = table.get("attention_factor")
    if stated is not None and (not isinstance(stated, int | float) or abs(stated - usual) > 1e-4 * usual):
        raise ModelError(
            f"config.json's `{key}.attention_factor` is {stated!r}; llama.cpp's {name} computes by {usual:.6g} alone"
        )
