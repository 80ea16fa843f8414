"""Small JSON files that prove themselves: their last field, "digest", is the sha256 of the file's name and of all the
text before it. So one that was damaged, or exchanged with another, is none."""

import hashlib

_MARK = b',\n "digest": "'
_END = b'"\n}'


def prove(name: str, text: bytes) -> bytes:
    """The JSON object `text`, which is not empty, with its proof for a file of that name."""
    body = text.removesuffix(b"}").rstrip(b"\n")
    return body + _MARK + _digest(name, body) + _END


def proven(name: str, data: bytes) -> bytes | None:
    """The text before the proof, without the brace that ends it; None where the proof is missing or wrong."""
    body, mark, end = data.rpartition(_MARK)
    return body if mark and end == _digest(name, body) + _END else None


def _digest(name: str, body: bytes) -> bytes:
    return hashlib.sha256(name.encode() + body).hexdigest().encode()
