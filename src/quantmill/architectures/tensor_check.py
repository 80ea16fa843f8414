"""Which tensors a model must have by its metadata, compared with those it has before a weight is read."""

from collections.abc import Collection, Iterator, Mapping

from quantmill.architectures.errors import CannotEvaluate, ForwardError, missing_weights
from quantmill.architectures.hyperparameters import Hyper
from quantmill.architectures.sizes import lines, shape_of
from quantmill.gguf.layout import ggml_shape
from quantmill.gguf.types import Type

_NUMBERS = frozenset({"I8", "I16", "I32", "I64", "F64"})


def expected(hyper: Hyper, there: Collection[str] = ()) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """(name, shape, whether it may be absent) of every tensor, in the form of those that are `there`; shapes in ggml's
    order."""
    sizes = hyper.sizes
    for name, line, layer in lines(hyper.row, sizes, hyper.n_layer + hyper.n_next, there):
        yield name, shape_of(line, sizes, layer), line.optional


def shapes(hyper: Hyper, there: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape by name. A file may have it without its ones at the end, as llama.cpp's tools write it."""
    return {name: shape for name, shape, _ in expected(hyper, there)}


def check(place: str, hyper: Hyper, found: Mapping[str, tuple[tuple[int, ...], Type]]) -> None:
    """Raises a ForwardError unless the tensors are the model's."""
    known = set()
    for name, shape, optional in expected(hyper, found):
        known.add(name)
        if name not in found:
            if optional:
                continue
            raise missing_weights(place, name, hyper.architecture)
        if ggml_shape(found[name][0]) != ggml_shape(shape):
            raise ForwardError(
                f"{place}: the tensor {name!r} has shape {list(found[name][0])}; by the metadata it should be "
                f"{list(shape)}"
            )
        if found[name][1].name in _NUMBERS:
            raise ForwardError(
                f"{place}: the tensor {name!r} is {found[name][1].name}, which holds no weights; convert it anew"
            )
    for name in found:
        if name not in known:
            raise CannotEvaluate(f"{place}: holds a tensor {name!r}, for which this {hyper.architecture} has no place")


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as ggml writes it, whose last sizes of 1 are none."""
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
