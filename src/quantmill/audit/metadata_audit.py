"""The metadata of a file held against its base's: what changes a model's answers, and what is only said of it."""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import PureWindowsPath

from quantmill.audit.header_facts import plain
from quantmill.audit.verdict import KeyVerdict
from quantmill.errors import printable
from quantmill.gguf.errors import shown
from quantmill.gguf.shards import COUNT, NO, TENSORS
from quantmill.gguf.types import ValueType
from quantmill.gguf.values import KV
from quantmill.listing import IMATRIX_ENDING
from quantmill.quant.file_plan import MIX_KEY
from quantmill.quant.guide import Guide

# What a quantizer or a splitter sets, and what is compared elsewhere.
_SET = {NO, COUNT, TENSORS, "general.file_type", "general.quantization_version", MIX_KEY}
_RENAMED = {"imatrix.gguf": IMATRIX_ENDING, "imatrix.dat": ".imatrix"}  # what a build makes, as its release calls it
_IMATRIX = "quantize.imatrix."
# Of the general keys those that a program acts on.
_ACTED_ON = {"general.architecture", "general.alignment", "general.type"}
LONGEST = 200  # characters of a key that are told
LINES = 40  # of a difference of texts
MOST_LINES = 2000  # of a text that is compared by lines, which takes time by their square


def audit_metadata(base: Mapping[str, KV], release: Mapping[str, KV]) -> tuple[list[KeyVerdict], list[str]]:
    """The entries that are changed, and notes of those that say something else and decide nothing."""
    changed, notes = [], []
    for key in [*base, *(key for key in release if key not in base)]:
        if key in _SET or key.startswith(_IMATRIX) or (why := _difference(base.get(key), release.get(key))) is None:
            continue
        if key.startswith(("general.", "quantize.")) and key not in _ACTED_ON:
            notes.append(f"{key[:LONGEST]}: {why}")
        else:
            changed.append(KeyVerdict(key[:LONGEST], "changed", why, tuple(_lines(base.get(key), release.get(key)))))
    return changed, notes


def imatrix_notes(release: Mapping[str, KV], guide: Guide) -> list[str]:
    """In what the file's entries of its imatrix differ from the one that is given."""
    said = {key.removeprefix(_IMATRIX): entry.value for key, entry in release.items() if key.startswith(_IMATRIX)}
    imatrix = guide.imatrix
    if imatrix is None:
        return []
    if not said:
        return ["the file names no imatrix, and one is given"]
    notes = []
    dataset = imatrix.dataset.split(b"\0")[0][:127].decode(errors="ignore")
    for name, value in (
        ("entries_count", len(imatrix.vectors)),
        ("chunks_count", imatrix.chunks),
        ("dataset", dataset),
    ):
        if value and name in said and said[name] != value:
            told = shown(str(said[name]))
            notes.append(f"{_IMATRIX}{name} is {told}, the imatrix that is given has {shown(str(value))}")
    called, own = PureWindowsPath(str(said.get("file", ""))).name, PureWindowsPath(guide.place).name
    if called and called != own and not own.endswith(_RENAMED.get(called, "/")):
        notes.append(f"{_IMATRIX}file is called {shown(called)}, the imatrix that is given {shown(own)}")
    return notes


def _difference(base: KV | None, release: KV | None) -> str | None:
    if release is None:
        return "only in the base"
    if base is None:
        return f"only in the file: {_shown(release)}"
    one, other = base.canonical(), release.canonical()
    if (one.type, one.subtype) != (other.type, other.subtype):
        return f"{_shown(base)} in the base, {_shown(release)} here"
    if one.raw == other.raw:
        return None
    if one.subtype is None:
        if one.type == ValueType.STRING and len(one.raw) + len(other.raw) > 200:
            return "another text"
        return f"{_shown(base)} in the base, {_shown(release)} here"
    if len(one) != len(other):
        return f"{len(one)} elements in the base, {len(other)} here"
    pairs = zip(one.value, other.value, strict=True)
    differing = [(at, a, b) for at, (a, b) in enumerate(pairs) if a != b]
    if not differing:
        return "other bytes of the same values"
    at, a, b = differing[0]
    return (
        f"{len(differing)} of {len(one)} elements differ, first {at}: {shown(str(a))} in the base, {shown(str(b))} here"
    )


def _lines(base: KV | None, release: KV | None) -> Iterator[str]:
    """The difference of two texts, line by line."""
    entries = [entry for entry in (base, release) if entry and entry.subtype is None and entry.type == ValueType.STRING]
    texts = [entry.value.split("\n") for entry in entries]
    if len(texts) != 2 or max(map(len, texts)) > MOST_LINES or max(len(entry.raw) for entry in entries) <= 88:
        return
    found = difflib.unified_diff(texts[0], texts[1], "base", "file", lineterm="", n=1)
    for number, line in enumerate(found):
        if number == LINES:
            yield "…"
            return
        yield printable(line[:200])


def _shown(entry: KV) -> str:
    value = plain(entry)
    return f"an array of {value['count']}" if isinstance(value, dict) else shown(str(value))
