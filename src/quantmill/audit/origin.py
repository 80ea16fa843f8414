"""How files that anybody made would be made again: the ftype, and what llama-quantize of each span is to be given."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantmill.audit.mixes import ENDS, KnownMix, alike, matches, source_types
from quantmill.errors import QuantmillError
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import Type
from quantmill.quant.mix import Overrides, plan_types
from quantmill.reference.hparams import Hparams
from quantmill.reference.reference import Reference
from quantmill.reference.spans import offered

MOST = 6  # ftypes that are tried, those that explain the most
MOST_KINDS = 8  # of tensors that are to have other types, up to which the one that mends the most is taken first
TRIES = 12  # after which overrides that bring others with them are given up
_LAYER = re.compile(r"blk\.(\d+)\.(.*)", re.DOTALL | re.ASCII)


@dataclass(frozen=True)
class Making:
    """An ftype, with an imatrix or without, and by span the overrides under which every tensor has its type.

    `states`: whether the file says that it is of this ftype.
    """

    ftype: str
    imatrix: bool
    states: bool
    by_span: Mapping[Reference, Overrides]

    @property
    def options(self) -> int:
        """The fewest options that a span needs."""
        return min(map(count, self.by_span.values()))


def making(
    metadata: Mapping[str, Any], tensors: Sequence[TensorEntry], base: Mapping[str, Type] | None = None
) -> Making | None:
    """How a file is made; None where no ftype's file can be made so. `base`: the types of its base's tensors, where
    they are known."""

    def rank(found: KnownMix) -> tuple[bool, int, bool]:
        return bool(found.others) and not found.states, len(found.others), found.pure

    made = (_made(found, metadata, tensors, base) for found in sorted(matches(metadata, tensors), key=rank)[:MOST])
    return next(filter(None, made), None)


def count(overrides: Overrides) -> int:
    """The options that they are."""
    ends = (overrides.output_tensor_type, overrides.token_embedding_type)
    return sum(end is not None for end in ends) + len(overrides.tensor_types) + overrides.pure


def _made(
    found: KnownMix, metadata: Mapping[str, Any], tensors: Sequence[TensorEntry], base: Mapping[str, Type] | None
) -> Making | None:
    hparams = Hparams.from_metadata(metadata)
    known = base or {}
    sources = [entry._replace(type=known.get(entry.name, entry.type)) for entry in source_types(tensors)]
    wanted = {entry.name: entry.type for entry in tensors}
    known_rules: dict[str, Overrides | None] = {}
    by_span = {}
    for span in offered():
        if found.ftype in span.ftypes:
            key = alike(span, span.ftype(found.ftype)) + span.patterns
            if key not in known_rules:
                known_rules[key] = _overrides(span, found, hparams, sources, wanted)
            if (overrides := known_rules[key]) is not None:
                by_span[span] = overrides
    return Making(found.ftype, found.imatrix, found.states, by_span) if by_span else None


def _overrides(
    span: Reference,
    found: KnownMix,
    hparams: Hparams,
    sources: Sequence[TensorEntry],
    wanted: Mapping[str, Type],
) -> Overrides | None:
    """The overrides that give each tensor the wanted type; None where the span has none."""

    def overrides(given: Mapping[str, Type]) -> Overrides:
        rest = {name: type_ for name, type_ in given.items() if name not in ENDS}
        embedding, output = (given.get(name) for name in ENDS)
        return Overrides(output, embedding, tuple(_patterns(rest, wanted)), found.pure)

    def wrong(given: Mapping[str, Type]) -> dict[str, Type]:
        types = plan_types(span, span.ftype(found.ftype), hparams, sources, found.imatrix, overrides(given)).types
        return {name: wanted[name] for name, type_ in types.items() if type_ != wanted[name]}

    given: dict[str, Type] = {}
    try:
        for _ in range(TRIES):
            if not (more := wrong(given)):
                return overrides(given)
            if more.keys() & given.keys():
                return None
            kinds: dict[tuple[str, Type], dict[str, Type]] = {}
            for name, type_ in more.items():
                kinds.setdefault((_kind(name), type_), {})[name] = type_
            # Some spans count no tensor that an option decides: one option moves others, and mends them.
            few = kinds.values() if 1 < len(kinds) <= MOST_KINDS else ()
            best = min(few, key=lambda kind: len(wrong(given | kind)), default=more)
            given |= best
    except QuantmillError:
        pass
    return None


def _kind(name: str) -> str:
    """Equal for the tensors that differ in their layer alone."""
    match = _LAYER.fullmatch(name)
    return match[2] if match else name


def _patterns(types: Mapping[str, Type], names: Mapping[str, Type]) -> Iterator[tuple[str, Type]]:
    """Patterns of which each tensor matches one alone: of a kind's tensors in all layers, or in some of them."""
    kinds: dict[tuple[str, Type], list[str]] = {}
    for name, type_ in types.items():
        match = _LAYER.fullmatch(name)
        if match is None:
            yield f"^{re.escape(name)}$", type_
        else:
            kinds.setdefault((match[2], type_), []).append(match[1])
    for (kind, type_), layers in kinds.items():
        all_ = [match[1] for name in names if (match := _LAYER.fullmatch(name)) and match[2] == kind]
        chosen = "\\d+" if len(all_) == len(layers) > 1 else "|".join(layers)
        chosen = f"({chosen})" if "|" in chosen else chosen
        yield rf"^blk\.{chosen}\.{re.escape(kind)}$", type_
