"""Which tensors a model must have by its metadata, compared with those it has before a weight is read."""

from collections.abc import Iterator, Mapping

from quantmill.architectures.errors import ForwardError, missing_weights
from quantmill.architectures.graph_tensors import LAYER, TOP, Has, Line
from quantmill.architectures.hyperparameters import Hyper
from quantmill.gguf.types import Type

_NUMBERS = frozenset({"I8", "I16", "I32", "I64", "F64"})


def expected(hyper: Hyper) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """(name, shape, whether it may be absent) of every tensor; shapes in ggml's order."""
    mixture = hyper.n_expert > 0
    groups = {**hyper.row.groups, "mixture" if mixture else "dense": Has.ALWAYS}

    def lines(table: tuple[Line, ...], prefix: str) -> Iterator[tuple[str, tuple[int, ...], bool]]:
        for line in table:
            has = groups.get(line.group) if line.group else Has.ALWAYS
            if has is None or (mixture and line.group == "bias" and "ff" in line.name):
                continue
            yield prefix + line.name, tuple(hyper.sizes[dim] for dim in line.dims), has is Has.MAYBE

    yield from lines(TOP, "")
    for layer in range(hyper.n_layer):
        yield from lines(LAYER, f"blk.{layer}.")


def check(place: str, hyper: Hyper, found: Mapping[str, tuple[tuple[int, ...], Type]]) -> None:
    """Raises a ForwardError unless the tensors are the model's."""
    known = set()
    for name, shape, optional in expected(hyper):
        known.add(name)
        if name not in found:
            if optional:
                continue
            raise missing_weights(place, name, hyper.architecture)
        if found[name][0] != shape:
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
            raise ForwardError(f"{place}: holds a tensor {name!r}, for which this {hyper.architecture} has no place")
