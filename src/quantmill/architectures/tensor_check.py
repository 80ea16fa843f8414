"""Which tensors a model must have by its metadata, compared with those it has before a weight is read."""

from collections.abc import Iterator, Mapping

from quantmill.architectures.errors import CannotEvaluate, ForwardError, missing_weights
from quantmill.architectures.graph_tensors import LAYER, TOP, GraphArchitecture, Has, Line
from quantmill.architectures.hyperparameters import Hyper
from quantmill.gguf.types import Type

_NUMBERS = frozenset({"I8", "I16", "I32", "I64", "F64"})


def lines(row: GraphArchitecture, mixture: bool, layers: int) -> Iterator[tuple[str, Line, bool]]:
    """(name, line of the table, whether it may be absent) of every tensor of a model of so many layers."""
    groups = {**row.groups, "mixture" if mixture else "dense": Has.ALWAYS}
    for table, prefixes in ((TOP, ("",)), (LAYER, tuple(f"blk.{layer}." for layer in range(layers)))):
        for prefix in prefixes:
            for line in table:
                has = groups.get(line.group) if line.group else Has.ALWAYS
                if has is None or (mixture and line.group == "bias" and "ff" in line.name):
                    continue
                yield prefix + line.name, line, has is Has.MAYBE


def expected(hyper: Hyper) -> Iterator[tuple[str, tuple[int, ...], bool]]:
    """(name, shape, whether it may be absent) of every tensor; shapes in ggml's order."""
    for name, line, optional in lines(hyper.row, hyper.n_expert > 0, hyper.n_layer):
        yield name, tuple(hyper.sizes[dim] for dim in line.dims), optional


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
            raise CannotEvaluate(f"{place}: holds a tensor {name!r}, for which this {hyper.architecture} has no place")
