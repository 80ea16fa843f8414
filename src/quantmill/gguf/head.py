"""The first metadata of a GGUF file whose beginning alone is at hand, such as one on the Hub."""

import struct
from typing import Any

from quantmill.gguf.layout import MAGIC
from quantmill.gguf.types import ValueType
from quantmill.gguf.values import KV, SIZES

VOCABULARY = "tokenizer.ggml.tokens"


def leading_metadata(data: bytes) -> dict[str, Any]:
    """The values of the entries that lie whole in `data`, by key, up to the vocabulary, whose length comes as
    `vocabulary`. Nothing is raised: what is no GGUF file, or damaged, has fewer entries or none."""
    found: dict[str, Any] = {}
    if data[:4] != MAGIC:
        return found
    at = 24  # magic, version, counts of tensors and entries
    try:
        for _ in range(min(struct.unpack_from("<Q", data, 16)[0], len(data))):
            (length,) = struct.unpack_from("<Q", data, at)
            key = data[at + 8 : at + 8 + length]
            at += 8 + length
            (type_,) = struct.unpack_from("<i", data, at)
            at += 4
            subtype = None
            size = SIZES.get(ValueType(type_), 0)
            if type_ == ValueType.STRING:
                size = 8 + struct.unpack_from("<Q", data, at)[0]
            elif type_ == ValueType.ARRAY:
                subtype, count = struct.unpack_from("<iQ", data, at)
                at += 4
                if key.decode() == VOCABULARY:
                    found["vocabulary"] = count
                    break
                size = _texts(data, at + 8, count) if subtype == ValueType.STRING else SIZES[ValueType(subtype)] * count
                size += 8
            if size > len(data) - at:
                break
            entry = KV(key.decode(), type_, data[at : at + size], subtype)
            found[entry.key] = entry.value
            at += size
    except (struct.error, KeyError, ValueError, OverflowError):  # a length may be 2^64 - 1
        pass
    return found


def _texts(data: bytes, at: int, count: int) -> int:
    """Bytes of a list of texts without its count, of which `data` may hold the first only."""
    begin = at
    for _ in range(count):
        at += 8 + int(struct.unpack_from("<Q", data, at)[0])
    return at - begin
