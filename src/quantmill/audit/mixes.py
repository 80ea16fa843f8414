"""Whose mix a file's types are: the ftype, and the spans of tags that give each of its tensors the type that it has.

Names and files may lie, so both are found from the tensors; what the file says of itself only decides between equals.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quantmill.errors import QuantmillError
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import TYPES, Type
from quantmill.quant.mix import UNQUANTIZED, Overrides, plan_types
from quantmill.reference.ftypes import BY_NUMBER, FTYPES, Ftype
from quantmill.reference.hparams import Hparams
from quantmill.reference.reference import Reference
from quantmill.reference.spans import offered

ENDS = ("token_embd.weight", "output.weight")
MOST_TENSORS = 1 << 13  # the largest models have some 2,000
IMATRIX_FILE = "quantize.imatrix.file"
# What of a reference decides types; what it says of the ftype is added.
_FACTS = (
    *("roles", "attention_values", "is_attention_checked", "embeddings", "tied_embeddings", "embeddings_by_option"),
    *("is_embedding_named", "large", "fallbacks", "kept", "kept_names", "kept_parts", "least", "tied_architectures"),
    *("pure_fits", "nextn_layers_count"),
)


@dataclass(frozen=True)
class KnownMix:
    """The mix of a file: `ftype`'s under `spans`, with an imatrix or without, and `pure` or not.

    `others`: the tensors that have another type than the mix gives them, and theirs. `states`: whether the file says
    that it is of this ftype.
    """

    ftype: str
    spans: tuple[Reference, ...]
    imatrix: bool
    states: bool
    pure: bool = False
    others: Mapping[str, Type] = field(default_factory=dict)

    @property
    def tags(self) -> str:
        """The spans in words."""
        return tags_of(self.spans)

    @property
    def options(self) -> tuple[str, ...]:
        """The options of llama-quantize that would give the others their types."""
        found = ["--pure"] if self.pure else []
        for name, type_ in self.others.items():
            ends = {"output.weight": "--output-tensor-type", "token_embd.weight": "--token-embedding-type"}
            given = f"{ends[name]} {type_.name}" if name in ends else f"--tensor-type {name}={type_.name}"
            found.append(given)
        return tuple(found)

    def __str__(self) -> str:
        some = self.options[:3]
        more = f" and {len(self.options) - 3} more" if len(self.options) > 3 else ""
        return f"same types as {self.ftype} by {self.tags}" + (f", with {', '.join(some)}{more}" if some else "")


def tags_of(spans: Sequence[Reference]) -> str:
    """Spans as `b8305 to b11739, v0.5.0`: those that follow each other are told as one."""
    known = offered()
    runs: list[list[Reference]] = []
    for span in known:
        if span not in spans:
            continue
        if runs and known.index(runs[-1][-1]) == known.index(span) - 1:
            runs[-1].append(span)
        else:
            runs.append([span])
    texts = []
    for run in runs:
        first, last = f"b{run[0].first}", f"b{run[-1].last}"
        texts += [first if first == last else f"{first} to {last}", *(name for span in run for name in span.names)]
    return ", ".join(texts)


def recognize(metadata: Mapping[str, Any], tensors: Sequence[TensorEntry]) -> KnownMix | None:
    """The mix of a file with these decoded metadata and tensors; None where no ftype explains most of it."""
    best = min(matches(metadata, tensors), key=lambda found: len(found.others), default=None)
    if best is None or len(best.others) * 2 > sum(entry.type.name not in UNQUANTIZED for entry in tensors):
        return None
    return best


def matches(metadata: Mapping[str, Any], tensors: Sequence[TensorEntry]) -> Iterator[KnownMix]:
    """What each ftype explains of a file, the likeliest first; nothing more once one explains all, and nothing of more
    tensors than any model has."""
    if len(tensors) > MOST_TENSORS:
        return
    try:
        hparams = Hparams.from_metadata(metadata)
    except QuantmillError:
        return
    stated = BY_NUMBER.get(number) if isinstance(number := metadata.get("general.file_type"), int) else None
    said = IMATRIX_FILE in metadata
    for ftype in _candidates(tensors, stated):
        states = stated is not None and ftype.base == stated.base
        for imatrix, pure in ((said, False), (not said, False), (said, True)):
            found = _match(ftype, hparams, tensors, imatrix, pure, states)
            if found is not None:
                yield found
                if not found.others:
                    return


def source_types(tensors: Iterable[TensorEntry]) -> list[TensorEntry]:
    """The tensors as a base may have them: what a file holds unquantized it may have held so, the rest can be made."""
    return [entry._replace(type=entry.type if entry.type.name in UNQUANTIZED else TYPES["F32"]) for entry in tensors]


def _candidates(tensors: Iterable[TensorEntry], stated: Ftype | None) -> list[Ftype]:
    """The ftypes whose own type one of the matrices has: first what the file states, then its forms, then others. Of
    rows that no block of it divides, none need have the type of what is stated."""
    there = {entry.type.name for entry in tensors if len(entry.shape) > 1}
    quantized = there - UNQUANTIZED
    base = stated.base if stated else ""
    found = [
        ftype
        for name, ftype in FTYPES.items()
        if name != "COPY"
        and (ftype.type.name in (quantized or there) or (quantized and ftype.base == base))
        and (ftype.base == name or ftype.embedding_and_output)
    ]
    return sorted(found, key=lambda ftype: (ftype.base != base, ftype.base != ftype.name))


def _match(
    ftype: Ftype, hparams: Hparams, tensors: Sequence[TensorEntry], imatrix: bool, pure: bool, states: bool
) -> KnownMix | None:
    """The spans under which the fewest tensors have another type than the mix gives them."""
    sources = source_types(tensors)
    there = {entry.name: entry.type for entry in tensors}
    known: dict[str, dict[str, Type] | None] = {}
    spans: list[Reference] = []
    others: dict[str, Type] | None = None
    for reference in offered():
        if ftype.name not in reference.ftypes:
            continue
        key = alike(reference, ftype)
        if key not in known:
            known[key] = _others(reference, ftype, hparams, sources, there, imatrix, pure)
        found = known[key]
        if found is None or (others is not None and len(found) > len(others)):
            continue
        if others is None or len(found) < len(others) or found != others:
            spans, others = [], found
        spans.append(reference)
    return None if others is None else KnownMix(ftype.name, tuple(spans), imatrix, states, pure, others)


def _others(
    reference: Reference,
    ftype: Ftype,
    hparams: Hparams,
    sources: Sequence[TensorEntry],
    there: Mapping[str, Type],
    imatrix: bool,
    pure: bool,
) -> dict[str, Type] | None:
    try:
        mix = plan_types(reference, reference.ftype(ftype.name), hparams, sources, imatrix, Overrides(pure=pure))
    except QuantmillError:
        return None
    return {name: there[name] for name, type_ in mix.types.items() if there[name] != type_}


def alike(reference: Reference, ftype: Ftype) -> str:
    """Equal for spans that give the tensors of a model the same types."""
    rules = {role: rule for (role, name), rule in reference.mix.items() if name in (ftype.base, "*")}
    facts = [repr(getattr(reference, name)) for name in _FACTS]
    return repr((rules, facts, reference.order.__name__, reference.ftypes[ftype.name]))
