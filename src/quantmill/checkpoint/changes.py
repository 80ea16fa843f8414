"""What becomes of a tensor's values on their way into a GGUF file, beside a cast: by the name in a table of tensors.

A change of a new kind is a function and a line of CHANGES.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]  # in the checkpoint's own type; bf16 values come as their 16 bits
Shape = tuple[int, ...]
Rows = tuple[Values, str]
Maker = Callable[[Shape, Sequence[Values], str, int, int], Rows]
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """`source`: the shape that each source has for a tensor of a shape in ggml's order; `rows`: of the sources' values
    and dtype, the tensor's rows from one to another, with their dtype; `by_facts`: the model's facts come first;
    `second`: the second source's shape, where that is another; `dtype`: the sources' own, where they are no numbers."""

    source: Callable[[Shape], Shape]
    rows: Callable[..., Rows]
    by_facts: bool = False
    second: Callable[[Shape], Shape] | None = None
    dtype: str = ""

    def shape_of(self, shape: Shape, index: int) -> Shape:
        """The shape of a source by its place among them."""
        return self.second(shape) if self.second is not None and index == 1 else self.source(shape)


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


def _matrices(shape: Shape, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(matrix, first row, last row) of a stack's rows."""
    for index in range(begin // shape[1], -(-end // shape[1])):
        yield index, max(begin - index * shape[1], 0), min(end - index * shape[1], shape[1])


def _stacked(columns: Callable[[Values, Shape, int, int], Values]) -> Maker:
    """Rows of a stack, whose matrices are made each of one of the source's."""

    def rows(shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> tuple[Values, str]:
        stack = sources[0]
        return np.concatenate([columns(stack[i], shape, a, b) for i, a, b in _matrices(shape, begin, end)]), dtype

    return rows


def _every_other(first: int) -> Maker:
    """Of vectors, the numbers at even places or at odd ones."""
    return lambda shape, sources, dtype, begin, end: (sources[0][begin:end, first::2], dtype)


def _blocks(first: int, step: int) -> Maker:
    """Blocks of MXFP4: a scale before 16 bytes, of which a byte's halves are 16 numbers apart and no neighbours."""

    def rows(shape: Shape, sources: Sequence[Values], dtype: str, begin: int, end: int) -> tuple[Values, str]:
        parts = []
        for index, a, b in _matrices(shape, begin, end):
            wanted = slice(first + step * a, step * b, step)
            codes, scales = sources[0][index, wanted], sources[1][index, wanted]
            halves = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:-1], 2, codes.shape[-1])
            packed = halves[..., 0, :] | halves[..., 1, :] << 4
            parts.append(np.concatenate([scales[..., None], packed], axis=-1).reshape(b - a, -1))
        return np.concatenate(parts), "MXFP4"

    return rows


def _packed(first: int, step: int) -> Change:
    def codes(shape: Shape) -> Shape:
        return shape[2], step * shape[1], shape[0] // 32, 16

    return Change(codes, _blocks(first, step), second=lambda shape: codes(shape)[:3], dtype="U8")


CHANGES = {
    # the weights of a convolution by channels
    "squeeze": Change(lambda shape: (shape[1], 1, shape[0]), _shaped),
    "shaped": Change(_flat, _shaped),
    "decay": Change(_flat, _decay),
    "keys_b": Change(lambda shape: (0, shape[1]), _keys_b),
    "values_b": Change(lambda shape: (0, shape[0]), _values_b),
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
    # Stacks of matrices, as they are, turned, or of those that hold gates and what goes up: by halves or in turn.
    "turned": Change(lambda s: (s[2], s[0], s[1]), _stacked(lambda m, shape, a, b: m[:, a:b].T)),
    "turned first half": Change(lambda s: (s[2], s[0], 2 * s[1]), _stacked(lambda m, shape, a, b: m[:, a:b].T)),
    "turned second half": Change(
        lambda s: (s[2], s[0], 2 * s[1]), _stacked(lambda m, shape, a, b: m[:, shape[1] + a : shape[1] + b].T)
    ),
    "turned even": Change(lambda s: (s[2], s[0], 2 * s[1]), _stacked(lambda m, shape, a, b: m[:, 2 * a : 2 * b : 2].T)),
    "turned odd": Change(
        lambda s: (s[2], s[0], 2 * s[1]), _stacked(lambda m, shape, a, b: m[:, 2 * a + 1 : 2 * b : 2].T)
    ),
    "first half": Change(lambda s: (s[2], 2 * s[1], s[0]), _stacked(lambda m, shape, a, b: m[a:b])),
    "second half": Change(
        lambda s: (s[2], 2 * s[1], s[0]), _stacked(lambda m, shape, a, b: m[shape[1] + a : shape[1] + b])
    ),
    "even": Change(lambda s: (s[1], 2 * s[0]), _every_other(0)),
    "odd": Change(lambda s: (s[1], 2 * s[0]), _every_other(1)),
    "blocks": _packed(0, 1),
    "even blocks": _packed(0, 2),
    "odd blocks": _packed(1, 2),
}
