"""A strict reader of what a vocabulary needs from SentencePiece's tokenizer.model: its pieces.

The file is a protocol buffer, ModelProto of sentencepiece_model.proto: field 1, repeated, holds pieces of text
(field 1), score (field 2, float32) and type (field 3).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from quantmill.architectures.configuration import MAX_VOCABULARY
from quantmill.architectures.errors import TokenizerError
from quantmill.gguf.errors import shown

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # SentencePiece.Type, and llama.cpp's token types
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Piece:
    """`text` is UTF-8."""

    text: bytes
    score: float
    type: int


class _Damaged(Exception):
    pass


def pieces(data: bytes, most: int = MAX_VOCABULARY) -> list[Piece]:
    """The vocabulary in the order of its ids; raises TokenizerError when `data` is not such a file, or has more than
    `most` pieces, which is config.json's `vocab_size` or the most that can be."""
    found: list[Piece] = []
    try:
        for field, value in _fields(data):
            if field == 1 and isinstance(value, bytes):
                if len(found) == most:
                    those = "can be" if most == MAX_VOCABULARY else "config.json's `vocab_size`"
                    raise TokenizerError(f"tokenizer.model has more tokens than {those}, {most}")
                found.append(_piece(value))
    except _Damaged as problem:
        raise TokenizerError(f"tokenizer.model is not a SentencePiece model: {problem}") from None
    if not any(piece.type == UNKNOWN for piece in found):
        raise TokenizerError("tokenizer.model is not a SentencePiece model: it has no unknown token")
    return found


def _piece(data: bytes) -> Piece:
    text, score, type_ = b"", 0.0, NORMAL
    for field, value in _fields(data):
        if field == 1 and isinstance(value, bytes):
            text = value
        elif field == 2 and isinstance(value, float):
            score = value
        elif field == 3 and isinstance(value, int):
            type_ = value
    try:
        text.decode()
    except UnicodeDecodeError:
        raise _Damaged("a token is not UTF-8") from None
    if not NORMAL <= type_ <= BYTE:
        raise _Damaged(f"a token is of the unknown type {type_}")
    if score != score:
        raise _Damaged(f"the token {shown(text.decode())} has a score that is no number")
    return Piece(text, score, type_)


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """(number, value) of a message's fields; a fixed 64-bit value is passed over, nothing here uses one."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        field, wire = tag >> 3, tag & 7
        if field == 0:
            raise _Damaged(f"no field has number 0 (byte {position})")
        if wire == _VARINT:
            number, position = _varint(data, position)
            yield field, number
            continue
        if wire == _BYTES:
            size, position = _varint(data, position)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise _Damaged(f"wire type {wire} does not exist (byte {position})")
        value, position = data[position : position + size], position + size
        if position > len(data):
            raise _Damaged("it ends within a field; the file was cut short")
        if wire == _BYTES:
            yield field, value
        elif wire == _FIXED32:
            yield field, float(struct.unpack("<f", value)[0])


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _Damaged("it ends within a number" if shift < 64 else f"a number is too long (byte {position})")
