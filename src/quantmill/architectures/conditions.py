"""Conditions that a tensor or an operation of a layer may have: functions of a model's sizes and the layer."""

from collections.abc import Callable, Mapping

# Whole numbers of a model by name; of those that differ between layers, one a layer.
Sizes = Mapping[str, int | tuple[int, ...]]
# Of a model's sizes and a layer: whether the layer has something.
Where = Callable[[Sizes, int], bool]


def always(sizes: Sizes, layer: int) -> bool:
    return True


def never(sizes: Sizes, layer: int) -> bool:
    return False


def dense(sizes: Sizes, layer: int) -> bool:
    return not sizes["experts"]


def mixture(sizes: Sizes, layer: int) -> bool:
    return bool(sizes["experts"])


def shared(sizes: Sizes, layer: int) -> bool:
    """Of a mixture in which all tokens take some experts."""
    return mixture(sizes, layer) and of("sff", sizes, layer) > 0


def leading(sizes: Sizes, layer: int) -> bool:
    """One of the dense layers that go before a mixture's (pieces.LEADING)."""
    return layer < whole(sizes["leading"])


def behind(sizes: Sizes, layer: int) -> bool:
    """One of a mixture's layers behind the dense ones."""
    return not leading(sizes, layer)


def of(name: str, sizes: Sizes, layer: int) -> int:
    """A size in a layer."""
    size = sizes[name]
    return size if isinstance(size, int) else size[layer]


def attending(sizes: Sizes, layer: int) -> bool:
    """One with attention, where the others have no key-value heads."""
    return of("kv_heads", sizes, layer) > 0


def recurrent(sizes: Sizes, layer: int) -> bool:
    """One without attention."""
    return not attending(sizes, layer)


def whole(size: int | tuple[int, ...]) -> int:
    """A size that is the same in all layers."""
    assert isinstance(size, int)
    return size


def most(size: int | tuple[int, ...]) -> int:
    """A size in the layer where it is largest."""
    return size if isinstance(size, int) else max(size)
