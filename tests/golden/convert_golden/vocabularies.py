"""Small vocabularies made by rule: byte-level BPE with any pattern, and SentencePiece as a model or as JSON."""

import struct
from collections.abc import Sequence
from typing import Any

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = _WORDS + r"\p{N}" + _TAIL
LLAMA3 = _WORDS + r"\p{N}{1,3}" + _TAIL


def alphabet() -> list[str]:
    """GPT-2's characters for the 256 bytes, in the order of the bytes."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = iter(range(256, 512))
    return [chr(byte) if byte in own else chr(next(rest)) for byte in range(256)]


def split(regex: str) -> dict[str, Any]:
    return {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        ],
    }


DIGITS = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
}


def added(id_: int, content: str, special: bool = True, normalized: bool = False) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    return {"id": id_, "content": content, **flags, "normalized": normalized, "special": special}


def byte_level(
    pre_tokenizer: Any, tokens: list[tuple[str, bool, bool]], normalizer: Any = None, **model: Any
) -> dict[str, Any]:
    """tokenizer.json: 256 bytes, 12 merges in the new form (one has a space in it), then added tokens."""
    letters = alphabet()
    merges = [[letters[97 + index], letters[98 + index]] for index in range(11)] + [["a ", "b"]]
    vocab = {text: id_ for id_, text in enumerate([*letters, *("".join(pair) for pair in merges), "a "])}
    entries = [added(len(vocab) + index, *token) for index, token in enumerate(tokens)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": entries,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "byte_fallback": False, "vocab": vocab, "merges": merges, **model},
    }


def spm_json() -> dict[str, Any]:
    """tokenizer.json of SentencePiece's kind: bytes as tokens to fall back to."""
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefgh", "▁a", "ab"]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>"), added(len(texts), "<new>", False)],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": True,
            "vocab": {text: id_ for id_, text in enumerate(texts)},
            "merges": [["▁", "a"], ["a", "b"]],
        },
    }


def field(number: int, wire: int, payload: bytes) -> bytes:
    size = bytes([len(payload)]) if wire == 2 and len(payload) < 128 else b""
    if wire == 2 and not size:
        size = bytes([len(payload) & 0x7F | 0x80, len(payload) >> 7])
    return bytes([number << 3 | wire]) + size + payload


_SPM_PIECES = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("<user>", 0.0, 4), ("<gone>", 0.0, 5)]


def spm_model(first: Sequence[tuple[str, float, int]] = _SPM_PIECES) -> bytes:
    """tokenizer.model: a trained SentencePiece model's parts, as many as its readers ask for; `first` are its first
    pieces: text, score and type."""
    pieces = [*first]
    pieces += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    pieces += [(text, -float(index) / 3, 1) for index, text in enumerate(["▁", *"etaoin", "▁t", "▁the", "é", "日本"])]
    data = b""
    for text, score, type_ in pieces:
        piece = field(1, 2, text.encode()) + field(2, 5, struct.pack("<f", score))
        data += field(1, 2, piece + (field(3, 0, bytes([type_])) if type_ != 1 else b""))
    trainer = field(3, 0, b"\x02") + bytes([35 << 3 & 0x7F | 0x80, 35 << 3 >> 7, 1])  # BPE, byte fallback
    return data + field(2, 2, trainer) + field(3, 2, field(1, 2, b"identity"))
