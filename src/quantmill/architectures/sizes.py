"""A model's sizes by the names that the tables of tensors give them, and a tensor's shape by them."""

from collections.abc import Collection, Iterator, Mapping

from quantmill.architectures.architecture import Architecture, TensorLine
from quantmill.architectures.conditions import Sizes
from quantmill.architectures.tensor_forms import as_found

Size = int | tuple[int, ...]


def with_products(architecture: Architecture, sizes: Mapping[str, Size]) -> Sizes:
    """The sizes that follow from others beside them: all heads' columns, pairs of them, and the architecture's own."""
    head = sizes["head"]
    found = {
        **sizes,
        "q": _times(sizes["heads"], head),
        "kv": _times(sizes["kv_heads"], head),
        "one": 1,
        "pairs": head // 2 if isinstance(head, int) else tuple(width // 2 for width in head),
    }
    return {**found, **architecture.sizes(found)} if architecture.sizes else found


def _times(one: Size, other: Size) -> Size:
    if isinstance(one, int) and isinstance(other, int):
        return one * other
    if isinstance(one, int):
        return _times(other, one)
    return tuple(a * b for a, b in zip(one, (other,) * len(one) if isinstance(other, int) else other, strict=True))


def shape_of(line: TensorLine, sizes: Sizes, layer: int) -> tuple[int, ...]:
    """The shape of a line's tensor in a layer, in ggml's order."""
    return tuple(size_of(name, sizes, layer) for name in line.dims.split())


def size_of(name: str, sizes: Sizes, layer: int) -> int:
    """A size in a layer, or the sum of several with `+` between them."""
    found = [sizes[each] for each in name.split("+")]
    return sum(size if isinstance(size, int) else size[layer] for size in found)


def lines(
    architecture: Architecture, sizes: Sizes, layers: int, there: Collection[str] = ()
) -> Iterator[tuple[str, TensorLine, int]]:
    """(name, line, layer) of every tensor that a GGUF file has a place for; the layer is 0 outside the layers. Where a
    file may have them in several forms, the forms are those of the tensors that are `there`."""
    for line in architecture.top:
        if line.placed and line.where(sizes, 0):
            yield line.name, line, 0
    for layer in range(layers):
        prefix = f"blk.{layer}."
        own = [line for line in architecture.layer if line.placed and line.where(sizes, layer)]
        for line in as_found(own, architecture.scaled, prefix, there) if there else own:
            yield prefix + line.name, line, layer
