"""What becomes of a tensor's values on their way into a GGUF file, beside a cast: by the name in a table of tensors.

A change of a new kind is a function and a line of CHANGES.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]  # in the checkpoint's own type; bf16 values come as their 16 bits
Shape = tuple[int, ...]
Rows = tuple[Values, str]
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """`source`: the shape that each source has for a tensor of a shape in ggml's order; `rows`: of the sources' values
    and dtype, the tensor's rows from one to another, with their dtype; `by_facts`: the model's facts come first."""

    source: Callable[[Shape], Shape]
    rows: Callable[..., Rows]
    by_facts: bool = False


def floats(values: Values, dtype: str) -> Values:
    """The values as float32."""
    if dtype == "BF16":
        return (values.astype("<u4") << 16).view("<f4")
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype("<f4", copy=False)


def _flat(shape: Shape) -> Shape:
    return (prod(shape),)


def _shaped(shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> Rows:
    return sources[0].reshape(-1, shape[0] if len(shape) > 1 else 1)[begin:end], dtype


def _decay(shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> Rows:
    """-exp, correctly rounded: PyTorch's last bit differs between machines."""
    rows, _ = _shaped(shape, sources, dtype, begin, end)
    with np.errstate(over="ignore"):
        made = -np.exp(floats(rows, dtype).astype("<f8"))
        return (made.astype("<f2"), dtype) if dtype == "F16" else (made.astype("<f4"), "F32")


def _keys_b(shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> Rows:
    """Of a compressed key-value cache's second matrix, the rows of keys by the head, as columns."""
    width, rank, heads = shape
    keys = sources[0].reshape(heads, -1, rank)[:, :width]
    return keys.transpose(0, 2, 1).reshape(-1, width)[begin:end], dtype


def _values_b(shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> Rows:
    """The rows of values by the head."""
    rank, width, heads = shape
    return sources[0].reshape(heads, -1, rank)[:, -width:].reshape(-1, rank)[begin:end], dtype


def _half(index: int) -> Callable[..., Rows]:
    """Of a stack of matrices, each matrix's first or second half of rows."""

    def rows(shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> Rows:
        columns, count, number = shape
        halves = sources[0].reshape(number, 2, count, columns)
        return halves[:, index].reshape(-1, columns)[begin:end], dtype

    return rows


def _padded(shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> Rows:
    """Rows of zeros behind those that there are."""
    there = sources[0].reshape(-1, shape[0])[begin:end]
    more = np.zeros((end - begin - len(there), shape[0]), there.dtype)
    return np.concatenate([there, more]), dtype


def _tiled(facts: Facts, values: Values, width: int) -> Values:
    """Value heads of `width` rows each, from the order by their key head to the order by their place under it."""
    heads = facts["linear_num_key_heads"]
    return values.reshape(heads, -1, width, values.shape[-1]).swapaxes(0, 1).reshape(-1, values.shape[-1])


def _heads_tiled(facts: Facts, shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> Rows:
    """All rows are value heads."""
    columns = shape[0] if len(shape) > 1 else 1
    rows = sources[0].reshape(-1, columns)
    return _tiled(facts, rows, len(rows) // facts["linear_num_value_heads"])[begin:end], dtype


def _decay_tiled(facts: Facts, shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> Rows:
    rows, dtype = _heads_tiled(facts, shape, sources, dtype, begin, end)
    return _decay(shape, [rows], dtype, 0, len(rows))


def _values_tiled(facts: Facts, shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> Rows:
    """Queries and keys, then value heads."""
    first = 2 * facts["linear_num_key_heads"] * facts["linear_key_head_dim"]
    rows = sources[0].reshape(-1, shape[0])
    tiled = _tiled(facts, rows[first:], facts["linear_value_head_dim"])
    return np.concatenate([rows[:first], tiled])[begin:end], dtype


def _columns_tiled(facts: Facts, shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> Rows:
    """All columns are value heads."""
    columns = np.ascontiguousarray(sources[0].reshape(-1, shape[0])[begin:end].T)
    return np.ascontiguousarray(_tiled(facts, columns, facts["linear_value_head_dim"]).T), dtype


def _of_groups(gate: bool) -> Callable[..., Rows]:
    """Of rows by key heads, each with its query, key, values and gates: the gates, or all else without groups."""

    def rows(facts: Facts, shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> Rows:
        width = facts["linear_key_head_dim"]
        groups = sources[0].reshape(facts["linear_num_key_heads"], -1, shape[0])
        middle = 2 * width + (groups.shape[1] - 2 * width) // 2
        cuts = [(middle, None)] if gate else [(0, width), (width, 2 * width), (2 * width, middle)]
        return np.concatenate([groups[:, a:b].reshape(-1, shape[0]) for a, b in cuts])[begin:end], dtype

    return rows


def _multiplied(rows: Values, dtype: str, factors: Sequence[Any]) -> Rows:
    """One factor after the other, each product rounded: F16 stays F16, all else is F32."""
    made = floats(rows, dtype)
    for factor in factors:
        with np.errstate(over="ignore", invalid="ignore"):
            made = made * np.asarray(factor, "<f4")
            made = made.astype("<f2").astype("<f4") if dtype == "F16" else made
    return (made.astype("<f2"), dtype) if dtype == "F16" else (made, "F32")


def _times(*keys: str) -> Change:
    """By those of the model's multipliers; `key N` is one of a list."""

    def rows(facts: Facts, shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> Rows:
        named = [key.partition(" ") for key in keys]
        factors = [facts[key][int(index)] if index else facts[key] for key, _, index in named]
        return _multiplied(sources[0].reshape(-1, shape[0])[begin:end], dtype, factors)

    return Change(lambda shape: shape[::-1], rows, by_facts=True)


def _times_parts(facts: Facts, shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> Rows:
    """By a multiplier of all rows, and by one for gates, inputs, B, C and time steps each."""
    inner, states = facts["mamba_d_ssm"], facts["mamba_n_groups"] * facts["mamba_d_state"]
    counts = [inner, inner, states, states, shape[1] - 2 * inner - 2 * states]
    parts = np.repeat(np.asarray(facts["ssm_multipliers"], "<f4"), counts)[begin:end, None]
    return _multiplied(sources[0].reshape(-1, shape[0])[begin:end], dtype, (facts["ssm_in_multiplier"], parts))


CHANGES = {
    # the weights of a convolution by channels
    "squeeze": Change(lambda shape: (shape[1], 1, shape[0]), _shaped),
    "shaped": Change(_flat, _shaped),
    "decay": Change(_flat, _decay),
    "keys_b": Change(lambda shape: (0, shape[1]), _keys_b),
    "values_b": Change(lambda shape: (0, shape[0]), _values_b),
    "first halves": Change(lambda shape: (shape[2], 2 * shape[1], shape[0]), _half(0)),
    "second halves": Change(lambda shape: (shape[2], 2 * shape[1], shape[0]), _half(1)),
    "padded": Change(lambda shape: (0, shape[0]), _padded),
    "heads tiled": Change(lambda shape: shape[::-1], _heads_tiled, by_facts=True),
    "decay tiled": Change(_flat, _decay_tiled, by_facts=True),
    "values tiled": Change(lambda shape: shape[::-1], _values_tiled, by_facts=True),
    "squeeze, values tiled": Change(lambda shape: (shape[1], 1, shape[0]), _values_tiled, by_facts=True),
    "columns tiled": Change(lambda shape: shape[::-1], _columns_tiled, by_facts=True),
    "without gates": Change(lambda shape: (0, shape[0]), _of_groups(gate=False), by_facts=True),
    "gates": Change(lambda shape: (0, shape[0]), _of_groups(gate=True), by_facts=True),
    "embedding multiplier": _times("embedding_multiplier"),
    "output multiplier": _times("lm_head_multiplier"),
    "attention multiplier": _times("attention_in_multiplier"),
    "key multipliers": _times("key_multiplier", "attention_in_multiplier"),
    "attention output multiplier": _times("attention_out_multiplier"),
    "gate multiplier": _times("mlp_multipliers 0"),
    "down multiplier": _times("mlp_multipliers 1"),
    "ssm output multiplier": _times("ssm_out_multiplier"),
    "ssm multipliers": Change(lambda shape: shape[::-1], _times_parts, by_facts=True),
}
