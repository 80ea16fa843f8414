"""What is better known before hour ten: importance vectors that cannot serve, and tensors that take another type.

Findings are words for a person, with the tensors and the share of the weights that they concern.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from quantmill.errors import UsageError
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import TYPES, Type
from quantmill.quant.mix import UNQUANTIZED, Fallback, Mix, needs_importance, plan_types, unmatched
from quantmill.quant.overrides import overrides_of
from quantmill.reference.base_type import base_type
from quantmill.reference.hparams import Hparams
from quantmill.reference.reference import Reference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from quantmill.imatrix import Imatrix

# llama-imatrix measures what goes into matrix products inside the layers: never the embedding, and the output only when
# asked. They are quantized without an importance vector as a matter of course.
UNMEASURED = ("token_embd.weight", "output.weight")
_PLAIN = tuple(TYPES[name] for name in UNQUANTIZED)
_EXPERTS = "_exps.weight"
NEWER_FORM = 'write form = "gguf" in [imatrix], which keeps the experts that were reached, or use more text'


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing: words for a person, and the tensors concerned. `fatal`: a build would fail by it;
    `right`: what helps, where that is no matter of course."""

    text: str
    tensors: tuple[str, ...]
    fatal: bool = False
    right: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.right}" if self.right else self.text


def preflight_failed(found: Sequence[Finding]) -> UsageError:
    """The error of a recipe whose findings cannot be built, or that is strict and has findings."""
    more = f" (and {len(found) - 1} more findings)" if len(found) > 1 else ""
    right = found[0].right or ("change the recipe" if found[0].fatal else "mend it, or take `strict` out of the recipe")
    return UsageError(f"{found[0].text}{more}; {right}")


def check_base(tensors: Sequence[TensorEntry], number: Any, type_: str, allow_requantize: bool = False) -> None:
    """UsageError unless a GGUF base is what the recipe takes it for.

    `number` is its general.file_type.
    """
    name = base_type(tensors, number)
    if name in ("", type_):
        return
    if name not in UNQUANTIZED and not allow_requantize:
        raise UsageError(
            f"base.type: the GGUF base is {name}, so quantized already; give a file in BF16, F16 or F32, or write "
            f'type = "{name}" and allow_requantize = true in [base]'
        )
    right = f'write type = "{name}" in [base]'
    raise UsageError(f"base.type: the GGUF base is {name}, the recipe takes it for {type_}; {right}")


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
    measured: Mapping[str, Any] = MappingProxyType({}),
    *,
    shapes: bool = True,
) -> list[Finding]:
    """What a build should say before it begins, what makes it fail first. `chosen` and the quant step's `params` are by
    ftype; `imatrix` is None where the recipe has none, or (`has_imatrix`) where it is not at hand.

    `measured`: the imatrix step's report, where the matrix is its own; `shapes`: with what the model's shape and the
    overrides alone let foresee.
    """
    left_out = {name: measured["never_hit"][name] for name in measured.get("left_out", ())}
    weights = {name: prod(shape) for name, shape, _ in tensors}
    found: list[Finding] = []
    if imatrix is not None and (stranger := _stranger(imatrix, weights)):
        found.append(stranger)
        if stranger.fatal:
            return found
    if shapes:
        found += _again(weights, chosen, params)
    if imatrix is not None or not has_imatrix:
        found += _impossible(reference, weights, chosen, imatrix, left_out)
    if shapes:
        found += [*_fallbacks(weights, chosen), *_unmatched(weights, params), *_no_effect(reference, params)]
    if imatrix is not None:
        quantized = {n for choice in chosen.values() for n, t in choice.types.items() if choice.sources[n] != t}
        taken = [tensor for tensor in tensors if tensor[0] in quantized]
        as_one = any(asked.get("zero_as_one") for asked in params.values())
        harmed = () if as_one else tuple(_unweighed(reference, taken, weights, chosen, imatrix))
        told = {name for finding in harmed for name in finding.tensors}
        found += _missing(taken, weights, imatrix, left_out)
        found += _vectors(taken, weights, imatrix, as_one, told)
        found += harmed
    return found


def _again(
    weights: Mapping[str, int], chosen: Mapping[str, TensorTypes], params: Mapping[str, Mapping[str, Any]]
) -> Iterable[Finding]:
    """Tensors that the base has quantized, and that would not stay what they are."""
    by_tensors: dict[tuple[str, ...], list[str]] = {}
    for label, choice in chosen.items():
        if params.get(label, {}).get("allow_requantize"):
            continue
        moved = (name for name, type_ in choice.types.items() if choice.sources[name] not in (type_, *_PLAIN))
        if names := tuple(moved):
            by_tensors.setdefault(names, []).append(label)
    for names, labels in by_tensors.items():
        types = " and ".join(dict.fromkeys(chosen[labels[0]].sources[name].name for name in names))
        right = f"keep them {types} by [[quants.override]]"
        if types == "MXFP4" and all(name.endswith(_EXPERTS) for name in names):
            right += f' (tensors = {{ "{_EXPERTS}" = "MXFP4" }}), or take the ftype MXFP4_MOE'
        text = f"{some(labels)}: {_of(names, weights)} are {types} in the base, and quantizing them again loses quality"
        yield Finding(text, names, True, right)


def _impossible(
    reference: Reference,
    weights: Mapping[str, int],
    chosen: Mapping[str, TensorTypes],
    imatrix: "Imatrix | None",
    left_out: Mapping[str, Sequence[int]],
) -> Iterable[Finding]:
    measured = imatrix.vectors if imatrix else {}
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
        text = f"{some(labels)}: {_of(names, weights)} are to become {types}, which needs an importance vector of each"
        right = "give a matrix (`[imatrix] file`), or a text to measure one on ([calibration])"
        if all(name in left_out for name in names):
            right = NEWER_FORM
        elif imatrix is not None:
            right = "choose other types for them by [[quants.override]], or take an imatrix that has them"
        yield Finding(f"{text}, and there is none", names, True, right)


def _fallbacks(weights: Mapping[str, int], chosen: Mapping[str, TensorTypes]) -> Iterable[Finding]:
    by_tensors: dict[tuple[str, ...], list[str]] = {}
    for label, choice in chosen.items():
        if choice.fallbacks:
            by_tensors.setdefault(tuple(fallback.tensor for fallback in choice.fallbacks), []).append(label)
    for names, labels in by_tensors.items():
        taken = Counter(f"{f.type.name} for {f.wanted.name}" for f in chosen[labels[0]].fallbacks)
        types = " and ".join(taken) if len(labels) == 1 else "another type"
        yield Finding(f"{some(labels)}: {_of(names, weights)} take {types}, for their rows are not whole blocks", names)


def _unmatched(weights: Mapping[str, int], params: Mapping[str, Mapping[str, Any]]) -> Iterable[Finding]:
    by_pattern: dict[str, list[str]] = {}
    for label, asked in params.items():
        for pattern, _ in overrides_of(asked).tensor_types:
            by_pattern.setdefault(pattern, []).append(label)
    for pattern in unmatched(by_pattern, weights):
        yield Finding(f"{some(by_pattern[pattern])}: the override {pattern!r} matches no tensor of this model", ())


def _no_effect(reference: Reference, params: Mapping[str, Mapping[str, Any]]) -> Iterable[Finding]:
    labels = [
        label
        for label, asked in params.items()
        if asked.get("tensor_types") and reference.ftype(asked["ftype"]).type.name in UNQUANTIZED
    ]
    if labels:
        yield Finding(f"{some(labels)}: types by tensor have no effect on 16-bit ftypes, as in llama-quantize", ())


def _unweighed(
    reference: Reference,
    tensors: Sequence[TensorEntry],
    weights: Mapping[str, int],
    chosen: Mapping[str, TensorTypes],
    imatrix: "Imatrix",
) -> Iterable[Finding]:
    """Where importance of zero leaves a type's search nothing to go by, by what comes of it."""
    from quantmill.quant.unweighed import Unweighed, said, unweighed

    known: dict[tuple[str, str], Unweighed | None] = {}
    by_places: dict[tuple[Unweighed, ...], list[str]] = {}
    for label, choice in chosen.items():
        by_outcome: dict[str, list[Unweighed]] = {}
        for name, shape, _ in tensors:
            type_, vector = choice.types[name], imatrix.vectors.get(name)
            if type_ == choice.sources[name] or vector is None or vector.size != _needed(shape):
                continue
            if (name, type_.name) not in known:
                rows = vector.reshape(-1, shape[0])
                known[name, type_.name] = unweighed(name, shape, type_, rows, reference.arithmetic)
            if (found := known[name, type_.name]) and found.outcome:
                by_outcome.setdefault(found.outcome, []).append(found)
        for same in by_outcome.values():
            by_places.setdefault(tuple(same), []).append(label)
    total = sum(weights.values())
    for places, labels in by_places.items():
        right = "write zero_as_one = true in [imatrix], or take an imatrix of more text"
        names, fatal = tuple(place.tensor for place in places), places[0].outcome == "nothing"
        yield Finding(f"{some(labels)}: {said(places, total)}", names, fatal, right)


def _stranger(imatrix: "Imatrix", names: Collection[str]) -> Finding | None:
    """An imatrix of which half of the entries or more are of no tensor here."""
    others = [name for name in imatrix.vectors if name not in names]
    if 2 * len(others) < len(imatrix.vectors):
        return None
    none = len(others) == len(imatrix.vectors)
    which = "none of" if none else f"{len(others)} of"
    text = f"{which} the imatrix's {len(imatrix.vectors)} entries {'is' if none else 'are'} of "
    text += "a tensor of this model" if none else "tensors that this model does not have"
    return Finding(f"{text} ({some(others)})", (), none, "take one that was computed from this model")


def _missing(
    tensors: Sequence[TensorEntry],
    weights: Mapping[str, int],
    imatrix: "Imatrix",
    left_out: Mapping[str, Sequence[int]],
) -> Iterable[Finding]:
    from quantmill.quant.unweighed import listed

    missing = tuple(name for name, _, _ in tensors if name not in imatrix.vectors and name not in UNMEASURED)
    unreached = tuple(name for name in missing if name in left_out)
    if unreached:
        experts = listed(left_out[unreached[0]])
        yield Finding(
            f"no token of the text chose {experts} of {unreached[0]}, so that the imatrix in this form has no "
            f"entry for {_of(unreached, weights)}",
            unreached,
            right=NEWER_FORM,
        )
    if other := tuple(name for name in missing if name not in left_out):
        yield Finding(f"the imatrix has no importance vector for {_of(other, weights)}", other)


def _needed(shape: Sequence[int]) -> int:
    """The values of a tensor's importance vector: a column each, in each of a stack's matrices."""
    return shape[0] * (shape[2] if len(shape) > 2 else 1)


def _vectors(
    tensors: Sequence[TensorEntry], weights: Mapping[str, int], imatrix: "Imatrix", as_one: bool, told: Collection[str]
) -> Iterable[Finding]:
    """What the imatrix lacks; `told`: tensors whose zeros are told elsewhere."""
    import numpy as np

    from quantmill.quant.unweighed import listed

    empty = []
    for name, shape, _ in tensors:
        vector = imatrix.vectors.get(name)
        if vector is None:
            continue
        if vector.size != _needed(shape):
            if name not in UNMEASURED:
                text = f"the imatrix has {vector.size} values for {name}, whose rows need {_needed(shape)}"
                right = "take one that was computed from this model"
                yield Finding(f"{text}: it is not this model's", (name,), True, right)
            continue
        if as_one or name in told:
            continue
        reached: NDArray[np.bool_] = np.any(vector.reshape(-1, shape[0]), axis=1)
        if not reached.any():
            empty.append(name)
        elif not reached.all():
            experts = listed(np.flatnonzero(~reached).tolist())
            yield Finding(
                f"the calibration never reached {experts} of {name}; "
                "their columns weigh alike, which does these types no harm",
                (name,),
            )
    if empty:
        yield Finding(f"the imatrix is all zero for {_of(tuple(empty), weights)}", tuple(empty))


def _of(names: Sequence[str], weights: Mapping[str, int]) -> str:
    share = 100 * sum(weights[name] for name in names) / max(sum(weights.values()), 1)
    return f"{some(names)} ({share:.1f} % of the weights)"


def some(names: Sequence[str]) -> str:
    """The names, or the first two and how many more."""
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more"
