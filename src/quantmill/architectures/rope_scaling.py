"""Rotary positions as config.json tells them, in transformers 4's spelling and in 5's."""

import math
from collections.abc import Mapping
from typing import Any

from quantmill.architectures.checkpoint_architectures import CheckpointArchitecture
from quantmill.architectures.errors import ModelError

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


def rope(
    row: CheckpointArchitecture, found: Mapping[str, Any], stated: Mapping[str, Any]
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
        _check_local(row, new.get("sliding_attention"))
        new = new.get("full_attention") or {}
        if not isinstance(new, Mapping):
            raise ModelError("config.json's `rope_parameters.full_attention` is neither null nor a table")
    new = new or {}
    base = _base(found, stated, new)
    if new.get("partial_rotary_factor") not in (None, 1):
        raise ModelError(
            f"config.json's `rope_parameters.partial_rotary_factor` is {new['partial_rotary_factor']!r}; "
            f"{row.gguf} in a GGUF file turns the whole of a head"
        )
    return base, _scaling(row, old or new, "rope_scaling" if old else "rope_parameters", stated)


def _base(found: Mapping[str, Any], stated: Mapping[str, Any], new: Mapping[str, Any]) -> Any:
    values = [table["rope_theta"] for table in (stated, new) if table.get("rope_theta") is not None]
    if len(set(map(str, values))) > 1 and values[0] != values[1]:
        raise ModelError(
            f"config.json's `rope_theta` is {values[0]!r} and {values[1]!r} in `rope_parameters`, two spellings of one "
            "fact; the same number in both would be right"
        )
    return values[0] if values else found["rope_theta"]


def _check_local(row: CheckpointArchitecture, local: Any) -> None:
    """Layers with a window turn by a base that llama.cpp knows, unscaled."""
    if local is None:
        return
    kind = local.get("rope_type", local.get("type", "default")) if isinstance(local, Mapping) else None
    if row.windows == "pattern" and (kind != "default" or local.get("rope_theta", _LOCAL) != _LOCAL):
        raise ModelError(
            f"config.json's `rope_parameters.sliding_attention` is {local!r}; {row.gguf} in a GGUF file has the base "
            f"{_LOCAL} there and no scaling"
        )


def _scaling(
    row: CheckpointArchitecture, table: Mapping[str, Any], key: str, stated: Mapping[str, Any]
) -> dict[str, Any] | None:
    kind = table.get("rope_type", table.get("type", "default"))
    kind = kind.lower() if isinstance(kind, str) else kind
    if not table or kind == "default":
        return None
    if kind not in row.scalings:
        shown = dict(table)
        if row.scalings == ("linear",):
            raise ModelError(f"config.json's `{key}` is {shown!r}; {row.gguf} has linear, with a `factor`")
        raise ModelError(
            f"config.json's `{key}` is of the kind {kind!r}; llama.cpp's {row.gguf} computes "
            f"{', '.join(row.scalings)}. Without that table the model is converted for the context that it was "
            "trained on"
        )
    scaling = {**table, "type": kind}
    original = stated.get(_ORIGINAL, table.get(_ORIGINAL))
    if original is not None:
        scaling[_ORIGINAL] = original
    if kind != "llama3":
        _check_factor(row, key, table)
    if kind == "yarn":
        _check_yarn(row, key, table)
    return scaling


def _check_factor(row: CheckpointArchitecture, key: str, table: Mapping[str, Any]) -> None:
    factor = table.get("factor")
    if factor is None and row.scalings == ("linear",):
        raise ModelError(f"config.json's `{key}` is {dict(table)!r}; {row.gguf} has linear, with a `factor`")
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor < math.inf:
        raise ModelError(f"config.json's `{key}.factor` is {factor!r}; a number above 0 would be right")


def _check_yarn(row: CheckpointArchitecture, key: str, table: Mapping[str, Any]) -> None:
    for name, right in _YARN.items():
        if table.get(name) not in right:
            raise ModelError(
                f"config.json's `{key}.{name}` is {table[name]!r}; llama.cpp's {row.gguf} computes by {right[0]!r} "
                "alone"
            )
    usual = 0.1 * math.log(max(table["factor"], 1)) + 1
    stated = table.get("attention_factor")
    if stated is not None and (not isinstance(stated, int | float) or abs(stated - usual) > 1e-4 * usual):
        raise ModelError(
            f"config.json's `{key}.attention_factor` is {stated!r}; llama.cpp's {row.gguf} computes by {usual:.6g} "
            "alone"
        )
