"""Metadata: a key, a typed value, and the exact bytes that store it.

A value is decoded when it is asked for and never before: a vocabulary of 152k tokens that passes through is copied.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from quantmill.gguf.errors import GGUFError, shown
from quantmill.gguf.types import ValueType

# The struct letter of every type of fixed size. A bool is one byte, and any byte but 0 is true.
LETTERS = {
    ValueType.UINT8: "B",
    ValueType.INT8: "b",
    ValueType.UINT16: "H",
    ValueType.INT16: "h",
    ValueType.UINT32: "I",
    ValueType.INT32: "i",
    ValueType.FLOAT32: "f",
    ValueType.BOOL: "?",
    ValueType.UINT64: "Q",
    ValueType.INT64: "q",
    ValueType.FLOAT64: "d",
}
SIZES = {type_: struct.calcsize("<" + letter) for type_, letter in LETTERS.items()}


def _string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def _strings(raw: bytes, count: int, position: int) -> list[bytes]:
    """`count` strings from `position` of bytes that were validated when they were read."""
    found = []
    for _ in range(count):
        end = position + 8 + int.from_bytes(raw[position : position + 8], "little")
        found.append(raw[position + 8 : end])
        position = end
    return found


@dataclass(frozen=True)
class KV:
    """One metadata entry. `raw` is the value as a file stores it, after the type ids: an array begins with its count.

    `type` is a ValueType; `subtype` is the type of an array's elements and None for anything else.
    """

    key: str
    type: int
    raw: bytes
    subtype: int | None = None

    @cached_property
    def value(self) -> Any:
        """The value in Python: int, float, bool, str, or a list of one of them."""
        if self.subtype is not None:
            (count,) = struct.unpack_from("<Q", self.raw)
            if self.subtype == ValueType.STRING:
                return [text.decode() for text in _strings(self.raw, count, 8)]
            return list(struct.unpack_from(f"<{count}{LETTERS[ValueType(self.subtype)]}", self.raw, 8))
        if self.type == ValueType.STRING:
            return self.raw[8:].decode()
        return struct.unpack("<" + LETTERS[ValueType(self.type)], self.raw)[0]

    def __len__(self) -> int:
        """The number of an array's elements, without decoding them; 1 for any other value."""
        return 1 if self.subtype is None else int.from_bytes(self.raw[:8], "little")

    def encode(self) -> bytes:
        """The entry as a file stores it."""
        types = struct.pack("<i", self.type) + (b"" if self.subtype is None else struct.pack("<i", self.subtype))
        return _string(self.key) + types + self.raw

    def canonical(self) -> "KV":
        """The entry as llama.cpp's tools store it when they copy it: true is the byte 1, a string ends at a NUL."""
        if ValueType.BOOL in (self.type, self.subtype):
            head = 0 if self.subtype is None else 8
            raw = self.raw[:head] + bytes(map(bool, self.raw[head:]))
        elif self.type == ValueType.STRING:
            raw = _string(self.raw[8:].partition(b"\0")[0])
        elif self.subtype == ValueType.STRING:
            texts = _strings(self.raw, len(self), 8)
            if not any(b"\0" in text for text in texts):
                return self
            raw = self.raw[:8] + b"".join(_string(text.partition(b"\0")[0]) for text in texts)
        else:
            return self
        return KV(self.key, self.type, raw, self.subtype)


def model_facts(kvs: Iterable[KV]) -> dict[str, Any]:
    """The values of all entries but the tokenizer's, which are long and say nothing of the tensors."""
    return {entry.key: entry.value for entry in kvs if not entry.key.startswith("tokenizer.")}


def _guess(value: object) -> ValueType:
    """The type for a value that comes without one; a whole number is UINT32 where it fits."""
    if isinstance(value, bool):
        return ValueType.BOOL
    if isinstance(value, int):
        fits = [ValueType.UINT32] if value >= 0 else [ValueType.INT32]
        fits += [ValueType.UINT64] if value >= 0 else [ValueType.INT64]
        return fits[0] if -(2**31) <= value < 2**32 else fits[1]
    if isinstance(value, float):
        return ValueType.FLOAT32
    return ValueType.STRING if isinstance(value, str | bytes) else ValueType.ARRAY


def kv(key: str, value: Any, type: int | None = None, subtype: int | None = None) -> KV:
    """An entry from a Python value; raises GGUFError when the value does not fit the type.

    Without `type`: bool → BOOL, int → UINT32 (INT32 when negative, 64 bits when needed), float → FLOAT32, str or
    bytes → STRING, anything else is a sequence → ARRAY. Without `subtype` the first element decides, and whole numbers
    are INT32, as in the converter. An empty array needs a `subtype`.
    """
    kind = _guess(value) if type is None else ValueType(type)
    try:
        if kind is not ValueType.ARRAY:
            return KV(key, kind, _packed(kind, [value]))
        items: Sequence[Any] = list(value)
        if subtype is None:
            guess = _guess(items[0])
            subtype = ValueType.INT32 if guess is ValueType.UINT32 else guess
        element = ValueType(subtype)
        return KV(key, kind, struct.pack("<Q", len(items)) + _packed(element, items), element)
    except (struct.error, TypeError, IndexError, KeyError, OverflowError):
        name = kind.name if kind is not ValueType.ARRAY or subtype is None else f"ARRAY of {ValueType(subtype).name}"
        raise GGUFError(
            f"the key {shown(key)} cannot hold {shown(str(value))} as {name}; give a value of that type"
        ) from None


def _packed(type_: ValueType, items: Sequence[Any]) -> bytes:
    if type_ is ValueType.STRING:
        return b"".join(map(_string, items))
    if type_ is not ValueType.BOOL and any(isinstance(item, bool) for item in items):
        raise TypeError  # struct would store True as 1 and hide the mistake
    if type_ is ValueType.BOOL and not all(isinstance(item, bool) for item in items):
        raise TypeError
    return struct.pack(f"<{len(items)}{LETTERS[type_]}", *items)
