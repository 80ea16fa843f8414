"""A checkpoint's tensors as the bytes of a GGUF file's: cast, permuted, in chunks of rows.

Only a chunk is ever in anonymous memory. Rounding is that of llama.cpp's converter: to bf16 to nearest even with quiet
NaNs, to f16 to nearest even with infinities past its range, and bf16 → f16 by way of f32.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantmill.architectures.checkpoint_tensors import TensorSpec
from quantmill.architectures.configuration import hparams
from quantmill.architectures.errors import DamagedModel, UnsuitableModel
from quantmill.architectures.rope_factors import GENERATED
from quantmill.checkpoint import fp8
from quantmill.checkpoint.changes import CHANGES, floats
from quantmill.checkpoint.safetensors import Weight

CHUNK = 16 << 20  # bytes of a chunk as float32
_NUMPY = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}
_NUMBERS = "BF16, F16, F32 and F64"
_PACKED = {**_NUMPY, "U8": "u1"}

Bytes = NDArray[np.uint8]


def check(spec: TensorSpec, config: Mapping[str, Any], weights: Mapping[str, Weight]) -> None:
    """Raises a ModelError unless the sources of `spec` are what config.json says."""
    for index, source in enumerate(spec.sources):
        weight, packed = weights[source], ""
        if spec.change:
            expected, packed = CHANGES[spec.change].shape_of(spec.shape, index), CHANGES[spec.change].dtype
        else:  # a stack's third dimension counts the sources
            expected = tuple(reversed(spec.shape[:2] if spec.is_stack else spec.shape))
        if spec.cut[1]:
            expected = (spec.cut[1], *expected[1:])
        if weight.shape != expected:
            raise DamagedModel(
                f"{weight.file}: the tensor {source!r} has shape {list(weight.shape)}; by config.json it should "
                f"be {list(expected)}"
            )
        if weight.dtype == fp8.DTYPE:
            fp8.check(config, weights, source)
        elif weight.dtype != packed if packed else weight.dtype not in _NUMPY:
            raise UnsuitableModel(
                f"{weight.file}: the tensor {source!r} is {weight.dtype}; {packed or _NUMBERS} can be converted"
            )


def chunks(spec: TensorSpec, config: Mapping[str, Any], weights: Mapping[str, Weight], type_: str) -> Iterator[Bytes]:
    """The tensor's bytes in a file where its type is `type_` (F32, F16 or BF16), a chunk of rows at a time."""
    columns = spec.shape[0] if len(spec.shape) > 1 else 1
    count = spec.n_elements // columns
    step = max(1, CHUNK // (4 * columns)) if spec.sources else count
    for begin in range(0, count, step):
        yield rows(spec, config, weights, type_, begin, min(begin + step, count))


def rows(
    spec: TensorSpec, config: Mapping[str, Any], weights: Mapping[str, Weight], type_: str, begin: int, end: int
) -> Bytes:
    """The bytes of the rows `begin` to `end`; a vector has rows of one value."""
    if not spec.sources:
        return np.array(GENERATED[spec.name](hparams(config))[begin:end], "<f4").view(np.uint8)
    if spec.is_stack:
        return np.concatenate(list(_stacked(spec, config, weights, type_, begin, end)))
    if spec.change:
        change, kinds = CHANGES[spec.change], {weights[name].dtype for name in spec.sources}
        sources = [_source(config, weights, name) for name in spec.sources]
        dtype = "F32" if fp8.DTYPE in kinds else weights[spec.sources[0]].dtype
        facts = (hparams(config),) if change.by_facts else ()
        return cast(*change.rows(*facts, spec.shape, sources, dtype, begin, end), type_)
    first, count = spec.cut[0], spec.shape[-1] if spec.cut[1] else 0
    wanted: Any = list(spec.picked[begin:end]) if spec.picked else slice(first + begin, first + end)
    if spec.heads:
        count = count or math.prod(weights[spec.sources[0]].shape[:1])
        wanted = first + _permuted(begin, end, count // spec.heads)
    values, dtype = _rows(spec, config, weights, wanted)
    return cast(*(_sum(values, dtype, spec.added) if spec.added else (values, dtype)), type_)


def _rows(
    spec: TensorSpec, config: Mapping[str, Any], weights: Mapping[str, Weight], wanted: Any
) -> tuple[NDArray[Any], str]:
    """Rows of the only source by their slice or their numbers, and their dtype."""
    weight = weights[spec.sources[0]]
    if weight.dtype == fp8.DTYPE:
        return fp8.floats(config, weights, spec.sources[0], wanted), "F32"
    columns = spec.shape[0] if len(spec.shape) > 1 else 1
    return weight.data.view(_NUMPY[weight.dtype]).reshape(-1, columns)[wanted], weight.dtype


def _source(config: Mapping[str, Any], weights: Mapping[str, Weight], name: str) -> NDArray[Any]:
    """All values of a source, in its own shape."""
    weight = weights[name]
    if weight.dtype == fp8.DTYPE:
        return fp8.floats(config, weights, name, slice(None))
    return weight.data.view(_PACKED[weight.dtype]).reshape(weight.shape)


def _sum(values: NDArray[Any], dtype: str, added: int) -> tuple[NDArray[Any], str]:
    """The values with a number added, and their dtype: F16 stays F16, all else is F32 before, as in the converter."""
    if dtype == "F16":
        return values + np.float16(added), dtype
    return floats(values, dtype) + np.float32(added), "F32"


def _stacked(
    spec: TensorSpec, config: Mapping[str, Any], weights: Mapping[str, Weight], type_: str, begin: int, end: int
) -> Iterator[Bytes]:
    """`rows` of a stack, matrix by matrix."""
    count = spec.shape[1]
    for index in range(begin // count, -(-end // count)):
        matrix = replace(spec, shape=spec.shape[:2], sources=(spec.sources[index],))
        yield rows(matrix, config, weights, type_, max(begin - index * count, 0), min(end - index * count, count))


def _permuted(begin: int, end: int, head: int) -> NDArray[np.intp]:
    """The checkpoint's rows for the rows `begin` to `end` of q or k, whose heads have `head` rows each.

    A head's two halves, which rotate together, are interleaved: rows 0, head/2, 1, head/2 + 1, …
    """
    row = np.arange(begin, end)
    within = row % head
    return row - within + within % 2 * (head // 2) + within // 2


def cast(values: NDArray[Any], dtype: str, type_: str) -> Bytes:
    """Rows of a safetensors `dtype` as the bytes of a GGUF `type_`; bf16 values come as their 16 bits."""
    if dtype == type_:
        return np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    numbers = floats(values, dtype)
    if type_ == "F32":
        return np.ascontiguousarray(numbers).reshape(-1).view(np.uint8)
    if type_ == "F16":
        return np.ascontiguousarray(_as(numbers, "<f2")).reshape(-1).view(np.uint8)
    bits = np.ascontiguousarray(numbers).view("<u4")
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    return np.where(nan, bits >> 16 | 64, rounded).astype("<u2").reshape(-1).view(np.uint8)


def _as(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """A cast in which an overflow is an infinity and no warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype, copy=False)
