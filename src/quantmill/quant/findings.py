"""What is better known before hour ten: importance vectors that cannot serve, and tensors that take another type.

Findings are words for a person, with the tensors and the share of the weights that they concern.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import Type
from quantmill.quant.mix import UNQUANTIZED, Fallback, Mix, needs_importance, plan_types, unmatched
from quantmill.quant.overrides import overrides_of
from quantmill.reference.hparams import Hparams
from quantmill.reference.reference import Reference

if TYPE_CHECKING:
    from quantmill.imatrix import Imatrix

# llama-imatrix measures what goes into matrix products inside the layers: never the embedding, and the output only when
# asked. They are quantized without an importance vector as a matter of course.
UNMEASURED = ("token_embd.weight", "output.weight")


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing: words for a person, and the tensors concerned. `fatal`: a build would fail by it."""

    text: str
    tensors: tuple[str, ...]
    fatal: bool = False


def preflight_failed(found: Sequence[Finding]) -> QuantmillError:
    """The error of a recipe whose findings cannot be built, or that is strict and has findings."""
    more = f" (and {len(found) - 1} more findings)" if len(found) > 1 else ""
    right = "change the recipe" if found[0].fatal else "mend it, or take `strict` out of the recipe"
    return QuantmillError(f"{found[0].text}{more}; {right}")


def check_base(tensors: Sequence[TensorEntry], type_: str) -> None:
    """UsageError unless most weights of a GGUF base's matrices are of the type `type_`."""
    weights: Counter[str] = Counter()
    for _, shape, found in tensors:
        if len(shape) > 1:
            weights[found.name] += prod(shape)
    if weights and (found_type := weights.most_common(1)[0][0]) != type_:
        right = "give a file in BF16, F16 or F32"
        if found_type in UNQUANTIZED:
            right = f'write type = "{found_type}" in [base]'
        raise UsageError(f"base.type: the GGUF base is {found_type}, the recipe takes it for {type_}; {right}")


class TensorTypes(Protocol):
    """What a mix or a planned file says of its tensors."""

    @property
    def types(self) -> Mapping[str, Type]: ...
    @property
    def sources(self) -> Mapping[str, Type]: ...
    @property
    def fallbacks(self) -> Sequence[Fallback]: ...


def mixes(
    reference: Reference,
    tensors: Sequence[TensorEntry],
    facts: Mapping[str, Any],
    ftypes: Mapping[str, Mapping[str, Any]],
) -> dict[str, Mix]:
    """The types of every tensor for each file: `ftypes` maps a label to the quant step's params."""
    hparams = Hparams.from_metadata(facts)
    return {
        label: plan_types(
            reference,
            reference.ftype(params["ftype"]),
            hparams,
            tensors,
            "imatrix_name" in params,
            overrides_of(params),
        )
        for label, params in ftypes.items()
    }


def findings(
    reference: Reference,
    tensors: Sequence[TensorEntry],
    chosen: Mapping[str, TensorTypes],
    imatrix: "Imatrix | None",
    has_imatrix: bool,
    params: Mapping[str, Mapping[str, Any]],
) -> list[Finding]:
    """What a build should say before it begins, what makes it fail first. `chosen` and the quant step's `params` are by
    ftype; `imatrix` is None where the recipe has none, or (`has_imatrix`) where it is not at hand."""
    weights = {name: prod(shape) for name, shape, _ in tensors}
    found: list[Finding] = []
    if imatrix is not None or not has_imatrix:
        found += _impossible(reference, weights, chosen, frozenset(imatrix.vectors if imatrix else ()))
    found += _fallbacks(weights, chosen)
    found += _unmatched(weights, params)
    if imatrix is not None:
        quantized = {n for choice in chosen.values() for n, t in choice.types.items() if choice.sources[n] != t}
        found += _vectors([tensor for tensor in tensors if tensor[0] in quantized], weights, imatrix)
    return found


def _impossible(
    reference: Reference, weights: Mapping[str, int], chosen: Mapping[str, TensorTypes], measured: frozenset[str]
) -> Iterable[Finding]:
    by_tensors: dict[tuple[str, ...], list[str]] = {}
    for label, choice in chosen.items():
        ftype = reference.ftype(label)
        names = tuple(
            name
            for name, type_ in choice.types.items()
            if type_ != choice.sources[name]
            and name not in measured
            and needs_importance(reference, ftype, name, type_)
        )
        if names:
            by_tensors.setdefault(names, []).append(label)
    for names, labels in by_tensors.items():
        types = " and ".join(dict.fromkeys(chosen[labels[0]].types[name].name for name in names))
        text = f"{_some(labels)}: {_of(names, weights)} are to become {types}, which needs an importance vector of each"
        yield Finding(f"{text}, and there is none", names, fatal=True)


def _fallbacks(weights: Mapping[str, int], chosen: Mapping[str, TensorTypes]) -> Iterable[Finding]:
    by_tensors: dict[tuple[str, ...], list[str]] = {}
    for label, choice in chosen.items():
        if choice.fallbacks:
            by_tensors.setdefault(tuple(fallback.tensor for fallback in choice.fallbacks), []).append(label)
    for names, labels in by_tensors.items():
        taken = Counter(f"{f.type.name} for {f.wanted.name}" for f in chosen[labels[0]].fallbacks)
        types = " and ".join(taken) if len(labels) == 1 else "another type"
        yield Finding(
            f"{_some(labels)}: {_of(names, weights)} take {types}, for their rows are not whole blocks", names
        )


def _unmatched(weights: Mapping[str, int], params: Mapping[str, Mapping[str, Any]]) -> Iterable[Finding]:
    by_pattern: dict[str, list[str]] = {}
    for label, asked in params.items():
        for pattern, _ in overrides_of(asked).tensor_types:
            by_pattern.setdefault(pattern, []).append(label)
    for pattern in unmatched(by_pattern, weights):
        yield Finding(f"{_some(by_pattern[pattern])}: the override {pattern!r} matches no tensor of this model", ())


def _vectors(tensors: Sequence[TensorEntry], weights: Mapping[str, int], imatrix: "Imatrix") -> Iterable[Finding]:
    import numpy as np

    missing = tuple(name for name, _, _ in tensors if name not in imatrix.vectors and name not in UNMEASURED)
    if missing:
        yield Finding(f"the imatrix has no importance vector for {_of(missing, weights)}", missing)
    empty = []
    for name, shape, _ in tensors:
        vector = imatrix.vectors.get(name)
        if vector is None:
            continue
        columns, experts = shape[0], shape[2] if len(shape) > 2 else 1
        if vector.size != columns * experts:
            if name not in UNMEASURED:
                text = f"the imatrix has {vector.size} values for {name}, whose rows need {columns * experts}"
                yield Finding(f"{text}: it is not this model's", (name,))
            continue
        reached = np.asarray(vector).reshape(experts, columns).any(axis=1)
        if not reached.any():
            empty.append(name)
        elif not reached.all():
            yield Finding(
                f"the calibration never reached {int((~reached).sum())} of {experts} experts of {name}; "
                "they are quantized as llama.cpp of the tag does it",
                (name,),
            )
    if empty:
        yield Finding(f"the imatrix is all zero for {_of(tuple(empty), weights)}", tuple(empty))


def _of(names: Sequence[str], weights: Mapping[str, int]) -> str:
    share = 100 * sum(weights[name] for name in names) / max(sum(weights.values()), 1)
    return f"{_some(names)} ({share:.1f} % of the weights)"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more"
