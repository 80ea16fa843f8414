"""An audit for people: one page that needs nothing beside it and runs nothing, whatever names a hostile file has."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from quantmill.quality.pages import cut, rendered

CELL, ROW, LABEL = 14, 16, 170  # pixels of the map: a layer's width at most, a kind's height, the names' room
WIDE = 900
MOST_KINDS, MOST_LAYERS, MOST_TOLD = 60, 256, 200  # rows and columns of a map, tensors that are told one by one
LONGEST = 160  # characters of a name or a reason
ORDER = ("changed", "cannot tell", "within rounding", "other tag", "same")
ADVICE = {
    "changed": "Do not run it. Fetch it again and compare its digest with the one that its maker gives. If it is this "
    "one, ask what was changed at the places below, and use another release until that is explained.",
    "cannot tell": "Give what the reasons below ask for (mostly the importance matrix, --imatrix) and audit it again. "
    "Until then nothing is proven of these tensors.",
    "within rounding": "Its weights are the base's as near as its types can hold them. Give the importance matrix that "
    "it was made with (--imatrix) to prove more: which tool made it, to the bit.",
    "other tag": "It is the base's to the bit, by another llama.cpp than asked for or than most of it is by. Nothing "
    "is to be done, unless it was said to be by that one.",
    "same": "It is the base's to the bit. Keep this record: whoever has the same digest has the same file.",
}
_LAYER = re.compile(r"(\D{0,12}blk\.)(\d{1,6})\.(.+)", re.ASCII)


def render_audit(audit: Mapping[str, Any], told: Sequence[str] = (), statements: Sequence[str] = ()) -> str:
    """The page of an audit.json. `told`: what the command says beside it; `statements`: what audits beside the release
    say."""
    found = [_file(file) for file in audit["files"]]
    worst = next((word for word in ORDER if any(file["word"] == word for file in found)), "same")
    return rendered(
        "audit.html",
        worst=worst,
        files=found,
        base=[{"repo": None, "commit": None, **part} for part in audit["base"]],
        imatrix=audit["imatrix"],
        tag=audit["tag"],
        sample=audit["sample"],
        named_by=audit.get("base_named_by"),
        told=list(told),
        statements=list(statements),
        words=ORDER,
        version=audit["quantmill"],
    )


def _file(file: Mapping[str, Any]) -> dict[str, Any]:
    tensors = file["tensors"]
    counts = Counter(tensor["word"] for tensor in tensors)
    told = [tensor for word in ORDER[:-1] for tensor in tensors if tensor["word"] == word]
    return {
        "name": _cut(file["name"]),
        "word": file["verdict"],
        "mix": _cut(file["mix"] or "no known mix", 400),
        "tags": _cut(file["tags"], 400),
        "through": file.get("through"),
        "rows": file["rows"],
        "all_rows": file["all_rows"],
        "chance": f"{file['chance']:.4g}",
        "digests": [(_cut(name), digest) for name, digest in list(file["digests"].items())[:MOST_TOLD]],
        "counts": [(word, counts[word]) for word in ORDER if counts[word]],
        "advice": ADVICE[file["verdict"]],
        "map": _map(tensors),
        "changes": [{**key, "key": _cut(key["key"]), "why": _cut(key["why"])} for key in file["metadata"][:MOST_TOLD]],
        "more_changes": max(0, len(file["metadata"]) - MOST_TOLD),
        "notes": [_cut(note, 400) for note in file["notes"][:MOST_TOLD]],
        "places": [_place(tensor) for tensor in told[:MOST_TOLD]],
        "more_places": max(0, len(told) - MOST_TOLD),
    }


def _place(tensor: Mapping[str, Any]) -> dict[str, Any]:
    spot = tensor["spot"]
    return {
        "name": _cut(tensor["name"]),
        "type": tensor["type"],
        "word": tensor["word"],
        "why": _cut(tensor["why"], 400),
        "blocks": f"{tensor['differing']} of {tensor['blocks']}",
        "where": f"block {spot['block']}, weight {spot['weight']}" if spot else "",
        "base": _number(spot["base"]) if spot else "",
        "found": _number(spot["found"]) if spot else "",
    }


def _number(value: float | str) -> str:
    """A weight; what is no number is a text already."""
    return value if isinstance(value, str) else f"{value:.6g}"


def _map(tensors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The verdicts by kind of tensor and layer; what belongs to no layer has a column in front."""
    rows: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    left_out = 0
    for tensor in tensors:
        match = _LAYER.fullmatch(tensor["name"])
        kind = f"{match[1]}*.{match[3]}" if match else tensor["name"]
        layer = int(match[2]) if match else -1
        if layer >= MOST_LAYERS or (kind not in rows and len(rows) == MOST_KINDS):
            left_out += 1
        else:
            rows.setdefault(kind, []).append((layer, tensor))
    layers = 1 + max((layer for row in rows.values() for layer, _ in row), default=-1)
    has_column = any(layer < 0 for row in rows.values() for layer, _ in row)
    step = max(3.0, min(CELL, (WIDE - LABEL) / max(layers + has_column, 1)))
    cells = [
        {
            "x": round(LABEL + (layer + has_column) * step, 1),
            "y": number * ROW,
            "word": tensor["word"].replace(" ", "-"),
            "title": f"{_cut(tensor['name'])} ({tensor['type']}): {tensor['word']}",
        }
        for number, row in enumerate(rows.values())
        for layer, tensor in row
    ]
    every = max(1, round(40 / step))
    return {
        "kinds": [
            (_cut(kind.removeprefix("blk.*.").removesuffix(".weight"), 26), n * ROW) for n, kind in enumerate(rows)
        ],
        "layers": [(n, round(LABEL + (n + has_column + 0.5) * step, 1)) for n in range(0, layers, every)],
        "cells": cells,
        "step": round(step, 1),
        "room": round(max(step - 1.5, 2), 1),
        "width": round(LABEL + (layers + has_column) * step + 4),
        "height": len(rows) * ROW + 20,
        "left_out": left_out,
    }


def _cut(text: str, most: int = LONGEST) -> str:
    return cut(text, most)
