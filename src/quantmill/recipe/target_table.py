"""What a recipe says of files whose types are found by measuring: the keys of [[quants.target]], what each is to be,
and of [search], the text that they are searched on."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.choose.machine import BACKENDS, memories
from quantmill.choose.rules import runs_well
from quantmill.errors import Unfit, UsageError, nearest
from quantmill.gguf.shards import parse_name
from quantmill.gguf.types import TYPES
from quantmill.listing import IMATRIX_ENDING
from quantmill.recipe.calibration_table import MEMORY, TextSource, n_ctx_of, read_text
from quantmill.reference.ftypes import COMMON_TYPES, FTYPES, tensor_type
from quantmill.reference.reference import Reference
from quantmill.units import parse_size

KEYS: dict[str, str] = {
    "quants.target.name": "string",
    "quants.target.bits": "number",
    "quants.target.size": "size",
    "quants.target.vram": "string",
    "quants.target.context": "count",
    "quants.target.like": "string",
    "quants.target.types": "list",
    "quants.target.backends": "list",
    "quants.target.objective": "string",
    "search.text": "file",
    "search.url": "address",
    "search.sha256": "string",
    "search.name": "string",
    "search.n_ctx": "count",
    "search.chunks": "count",
    "search.memory": "size",
}
WAYS = ("bits", "size", "vram", "like")
OBJECTIVES = ("kld",)
CHUNKS, CONTEXT = 8, 8192  # of the text that is searched on; tokens that `vram` has room for beside the weights
_TAKEN = ["base", "bench", "evaluation", "imatrix", "makeup", "mmproj", "page"]  # by what lies beside a release's files
_NAME = r"[A-Za-z0-9][\w.+-]*"
_LIKE_STOCK = r"(?:^|[^a-z0-9])(?:i?q\d|tq\d|bf16|f16|f32|mxfp\d|nvfp\d)"  # how an ftype begins


@dataclass(frozen=True)
class TargetTable:
    """A file that is searched for. Of `bits` a weight, `size` in bytes, `vram` (a card's bytes, with room for `context`
    tokens) and `like` (an ftype) one is given. `types`: the only ones that tensors may have, None for the common ones
    that the `backends` run well."""

    name: str
    bits: float | None
    size: int | None
    vram: int | None
    context: int
    like: str | None
    types: tuple[str, ...] | None
    backends: tuple[str, ...]

    @property
    def asked(self) -> str:
        """What it is to be, in words."""
        if self.bits is not None:
            return f"{self.bits:g} bits a weight"
        if self.like is not None:
            return f"the size of {self.like}"
        return f"{self.size} bytes" if self.size is not None else f"a card of {self.vram} bytes"

    @property
    def allowed(self) -> list[str]:
        """The types that its tensors may have."""
        if self.types is not None:
            return list(self.types)
        return [name for name in COMMON_TYPES if all(runs_well(name, backend) for backend in self.backends)]

    @property
    def limit(self) -> dict[str, Any]:
        """Its part of what decides the mix."""
        given = {key: value for key in WAYS if (value := getattr(self, key)) is not None}
        return given | ({"context": self.context} if self.vram is not None else {})


@dataclass(frozen=True)
class SearchTable:
    """On what it is searched: `chunks` of a text, the calibration's where `text` is None, in `memory` bytes."""

    text: TextSource | None
    n_ctx: int
    chunks: int
    memory: int

    @property
    def least(self) -> int:
        """The tokens that the text must have."""
        return 2 * self.n_ctx


def targets(
    reference: Reference, get: Callable[[str], Any], taken: Sequence[str], ftype: Callable[[str, str], str]
) -> tuple[TargetTable, ...]:
    """The targets of a recipe whose other files are called `taken`; `ftype(key, name)` gives an ftype's own spelling or
    raises. Raises Unfit."""
    tables = get("quants.target") or []
    found = tuple(_target(reference, table, ftype) for table in tables)
    names = [name.upper() for name in (*taken, *(target.name for target in found))]
    for target in found:
        if names.count(target.name.upper()) > 1:
            raise Unfit("quants.target.name", f"{target.name!r} names two files; give each a name of its own")
    if found and get("calibration") is None and get("imatrix") is None:
        raise Unfit("quants.target", "it is searched with an importance matrix; give a text in [calibration]")
    if found and get("evaluation") is None:
        raise Unfit("quants.target", "whether it is better than a stock file is measured; give a text in [evaluation]")
    if found and get("base.allow_requantize"):
        raise Unfit(
            "quants.target", "a base that is quantized already has lost what is searched for; remove one of both"
        )
    return found


def _target(reference: Reference, table: Mapping[str, Any], ftype: Callable[[str, str], str]) -> TargetTable:
    above = "quants.target"
    size = _size(f"{above}.size", table["size"]) if "size" in table else None
    name = _name(table)
    given = [key for key in WAYS if key in table]
    if len(given) != 1:
        raise Unfit(above, f"{name}: found {' and '.join(given) or 'none of them'}; give exactly one of {_or(WAYS)}")
    bits, like, vram = table.get("bits"), table.get("like"), table.get("vram")
    if bits is not None and not 0 < bits <= 32:
        raise Unfit(f"{above}.bits", f"{bits} are no bits a weight; give a number like 4.5")
    if "context" in table and (vram is None or not table["context"]):
        raise Unfit(f"{above}.context", "tokens of context belong to `vram`, 1 or more; remove it")
    cards: tuple[int, ...] = ()
    try:
        cards = memories(vram) if vram is not None else ()
    except UsageError as error:
        raise Unfit(f"{above}.vram", str(error)) from None
    if vram is not None and len(cards) != 1:
        raise Unfit(f"{above}.vram", f'{vram!r} is not the memory of one graphics card; give one like "24GB"')
    backends = tuple(table.get("backends", ()))
    for backend in backends:
        if backend not in BACKENDS:
            right = f"it is one of {', '.join(BACKENDS)}"
            raise Unfit(f"{above}.backends", f"{backend!r} is no backend{nearest(backend, BACKENDS)}; {right}")
    if backends and "types" in table:
        raise Unfit(f"{above}.backends", "`types` says which types there may be; remove one of the two")
    objective = table.get("objective", OBJECTIVES[0])
    if objective not in OBJECTIVES:
        raise Unfit(f"{above}.objective", f"{objective!r} is not one of {', '.join(OBJECTIVES)}")
    return TargetTable(
        name,
        None if bits is None else float(bits),
        size,
        cards[0] if cards else None,
        table.get("context", CONTEXT),
        None if like is None else ftype(f"{above}.like", like),
        _types(reference, table["types"]) if "types" in table else None,
        backends,
    )


def _name(table: Mapping[str, Any]) -> str:
    key, name = "quants.target.name", table.get("name")
    if name is None:
        raise Unfit(key, "this key is missing; every target needs a name, which its file's ends in")
    stock = {*FTYPES, *TYPES}
    if name.upper() in stock or re.search(_LIKE_STOCK, name, re.IGNORECASE):
        raise Unfit(key, f'{name!r} reads like a stock ftype, which it is not; choose another, like "fit-4.5"')
    odd = parse_name(f"{name}.gguf") is not None or f"-{name}.gguf" == IMATRIX_ENDING or name.endswith(".search")
    odd = odd or name.lower() in _TAKEN
    if not re.fullmatch(_NAME, name) or odd:
        raise Unfit(key, f"{name!r} cannot end a file's name; use letters, digits, '.', '_', '+' and '-'")
    return str(name)


def _types(reference: Reference, given: Sequence[str]) -> tuple[str, ...]:
    found, known = [], {*COMMON_TYPES, *(name for ftype in reference.ftypes.values() if (name := ftype.type.name))}
    for name in given:
        try:
            type_ = tensor_type(name)
        except UsageError as error:
            raise Unfit("quants.target.types", str(error)) from None
        if type_.block == 1 or type_.name not in known:
            right = f"llama.cpp {reference} does not quantize to it; name types like Q4_K"
            raise Unfit("quants.target.types", f"{type_.name}: {right}")
        found.append(type_.name)
    return tuple(dict.fromkeys(found))


def _size(key: str, given: Any) -> int:
    try:
        found = parse_size(given)
    except ValueError as error:
        raise Unfit(key, str(error)) from None
    if not found:
        raise Unfit(key, 'a file of 0 bytes holds nothing; give a size like "19.5GB"')
    return found


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def search(reference: Reference, get: Callable[[str], Any], folder: Path, searched: bool) -> SearchTable | None:
    """The [search] of a recipe in `folder`, None where nothing is searched for. Raises Unfit."""
    table = get("search")
    memory = _size("search.memory", (table or {}).get("memory", MEMORY))
    if not searched:
        if table is not None:
            raise Unfit("search", "nothing is searched for without a [[quants.target]]; remove it")
        return None
    table = table or {}
    own = read_text("search", table, folder) if {"text", "url"} & {*table} else None
    if own is None and (extra := [key for key in ("sha256", "name") if key in table]):
        raise Unfit(f"search.{extra[0]}", "it belongs to a text; give one by `text` or `url`, or remove it")
    if own is None and get("calibration") is None:
        raise Unfit("search", "there is no [calibration] whose text could be searched on; give one by `text` or `url`")
    if table.get("chunks") == 0:
        raise Unfit("search.chunks", f"0 chunks measure nothing; leave it out for {CHUNKS}")
    return SearchTable(own, n_ctx_of(reference, "search", table), table.get("chunks", CHUNKS), memory)
