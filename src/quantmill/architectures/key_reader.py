"""The metadata of one architecture, read key by key."""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.errors import CannotEvaluate
from quantmill.gguf import KV
from quantmill.released import is_number

_MOST = 1 << 24  # no size of a model is larger; a claimed one must not overflow a product of two


class KeyReader:
    """The metadata of one architecture, and what is wrong with a value in it."""

    def __init__(self, place: str, architecture: str, metadata: Mapping[str, KV]) -> None:
        self.place, self.architecture, self.metadata = place, architecture, metadata

    def value(self, key: str) -> Any:
        """A list of one value for every layer, all the same, is that value; None when the key is not there."""
        found = self.metadata.get(f"{self.architecture}.{key}")
        if found is None:
            return None
        value = found.value
        if isinstance(value, list):
            if not value or any(item != value[0] for item in value):
                raise self.wrong(key, "differs between layers", "one number for all of them")
            value = value[0]
        return value

    def size(self, key: str, default: int | None = None, least: int = 1) -> int:
        value = self.value(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST:
            raise self.wrong(key, "is missing" if value is None else f"is {value!r}", f"a whole number from {least}")
        return value

    def per_layer(self, key: str, layers: int, absent: int = 0) -> int | tuple[int, ...]:
        """A whole number or a truth that is `absent` where it is not said, or one for each layer where they differ."""
        found = self.metadata.get(f"{self.architecture}.{key}")
        value = found.value if found is not None else None
        if not isinstance(value, list) or not value or all(item == value[0] for item in value):
            same = self.value(key)
            return int(same) if isinstance(same, bool) else self.size(key, absent, least=0)
        whole = all(isinstance(item, int) and 0 <= item <= _MOST for item in value)
        if len(value) != layers or not whole:
            raise self.wrong(key, f"has {len(value)} values for {layers} layers", "a whole number for each")
        return tuple(value)

    def attending(self, key: str) -> int:
        """A number that is the same in all layers where it is not 0."""
        found = self.metadata.get(f"{self.architecture}.{key}")
        value = found.value if found is not None else None
        some = [item for item in value if item != 0] if isinstance(value, list) else []
        if some and all(item == some[0] for item in some) and isinstance(some[0], int) and 0 < some[0] <= _MOST:
            return int(some[0])
        return self.size(key)

    def number(self, key: str, default: float | None = None, least: float = 0.0) -> float:
        value = self.value(key)
        if value is None and default is not None:
            return default
        if not is_number(value) or value < least:
            raise self.wrong(key, "is missing" if value is None else f"is {value!r}", f"a number from {least:g}")
        return float(value)

    def text(self, key: str, default: str) -> str:
        value = self.value(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, f"is {value!r}", "a word")
        return default if value is None else value

    def wrong(self, key: str, what: str, right: str) -> CannotEvaluate:
        return CannotEvaluate(f"{self.place}: {self.architecture}.{key} {what}; {right} would be right")
