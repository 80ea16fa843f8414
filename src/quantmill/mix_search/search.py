"""The search for a mix: what rounding each tensor costs, what each type loses of it, and the types for a size."""

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantmill.disk import sha256_file, write_atomic
from quantmill.engine.evaluation import Model, Run, open_model
from quantmill.engine.stream import Tokens
from quantmill.engine.weight_source import GGUFSource
from quantmill.errors import QuantmillError
from quantmill.gguf.source import Source
from quantmill.gguf.types import TYPES
from quantmill.mix_search.sensitivity import sensitivities
from quantmill.mix_search.space import SearchSpace, Target, patterns
from quantmill.mix_search.type_choice import TypeChoice, choose_types
from quantmill.mix_search.type_errors import predicted, weighed_errors
from quantmill.quant.file_plan import FilePlan
from quantmill.quant.guide import Guide
from quantmill.quant.mix import NO_OVERRIDES, Overrides
from quantmill.quant.quantizer import quantize_tensors
from quantmill.reference.ftypes import COMMON_TYPES
from quantmill.reference.reference import Reference

_ERRORS, _PASSES, _PROBES = "errors.json", "passes", "probes.gguf"


@dataclass(frozen=True)
class Sought:
    """What is searched with. `zero_as_one`: as the files' guide has it; `place`: what errors call the base."""

    base: Path
    imatrix: Path
    imatrix_name: str
    reference: Reference
    zero_as_one: bool = False
    place: str = ""

    def guide(self) -> Guide:
        """The importance of the tensors' columns."""
        found = Guide.read(self.imatrix, self.zero_as_one)
        found.called = self.imatrix_name
        return found

    def space(self, guide: Guide, fixed: Overrides = NO_OVERRIDES) -> SearchSpace:
        """The base's tensors and its files; UsageError where the imatrix is another model's."""
        with Source(self.base) as source:
            kvs, tensors = list(source.metadata.values()), source.tensors()
        guide.strangers([name for name, _, _ in tensors])
        place = self.place or str(self.base)
        return SearchSpace(place, kvs, tensors, self.reference, guide.facts(self.imatrix_name), fixed)


@dataclass(frozen=True)
class Measured:
    """What was measured of a base, of which mixes of any size are found: in `chunks` of `n_ctx` tokens, by tensor the
    type of its `probes`, what that costs, and the `errors` by type."""

    chunks: int
    n_ctx: int
    probes: Mapping[str, str]
    sensitivity: Mapping[str, float]
    errors: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Measured":
        """From plain JSON, as `vars` gives it."""
        return cls(*(data[key] for key in ("chunks", "n_ctx", "probes", "sensitivity", "errors")))


@dataclass(frozen=True)
class FoundMix:
    """`types` by tensor, of those that were searched; `all_types` with those that are fixed; `predicted` is the KL
    divergence in nats a token; `ftype` is the nearest stock one, whose number the file has, `kind` that of those which
    like the file have I-quants or none; `stock` is to be compared with; `planned` is the file."""

    types: Mapping[str, str]
    all_types: Mapping[str, str]
    predicted: float
    n_bytes: int
    bits: float
    ftype: str
    kind: str
    stock: str
    stock_bytes: int
    sensitivity: Mapping[str, float]
    note: str
    planned: FilePlan

    @property
    def patterns(self) -> list[tuple[str, str]]:
        """As --tensor-type takes them."""
        return patterns(self.all_types)


def measure(
    sought: Sought, chunks: Tokens, run: Run, work: Path, types: Sequence[str] = COMMON_TYPES, keep: bool = False
) -> Measured:
    """What rounding each of the base's tensors costs, and what each of the types loses of it. `work` is a folder for
    quantized tensors; `keep`: what is done is kept in it, from where a killed search goes on. Raises UsageError and
    QuantmillError."""
    guide = sought.guide()
    space = sought.space(guide)
    errors = _errors(sought, space, guide, types, run, work, keep)
    with open_model(sought.base, sought.place) as model:
        probes = GGUFSource(work / _PROBES)
        try:
            kept = work / _PASSES if keep else None
            costs = sensitivities(model, probes, list(space.probes), chunks, run, kept)
        finally:
            probes.close()
    (work / _PROBES).unlink()
    count, n_ctx = chunks.shape
    return Measured(count, n_ctx, space.probes, costs, errors)


def spread(chunks: Tokens, count: int) -> Tokens:
    """So many of the chunks, evenly spaced; all where there are no more."""
    taken = min(count, len(chunks))
    return np.ascontiguousarray(chunks[np.arange(taken) * len(chunks) // taken])


def find_mix(
    sought: Sought,
    measured: Measured,
    target: Target,
    types: Sequence[str] = COMMON_TYPES,
    fixed: Overrides = NO_OVERRIDES,
) -> FoundMix:
    """The types for a target, of what was measured. Raises UsageError and QuantmillError."""
    guide = sought.guide()
    space = sought.space(guide, fixed)
    note = space.note(measured.chunks, measured.n_ctx)
    allowed = space.allowed(types, guide)
    if error := space.too_small(target, note, allowed):
        raise error
    choices = {
        name: [
            TypeChoice(type_, space.takes(target, name, type_), cost)
            for type_, cost in predicted(measured.sensitivity[name], measured.errors[name], probe).items()
            if type_ in allowed[name]
        ]
        for name, probe in space.probes.items()
    }
    found = choose_types(choices, space.room(target, note))
    assert found is not None  # `too_small` has looked
    chosen = {name: choice.type for name, choice in found.items()}
    cost = math.fsum(choice.cost for choice in found.values())
    return _found(space, target, chosen, cost, note, measured.sensitivity)


def check_target(
    sought: Sought,
    target: Target,
    shape: tuple[int, int],
    types: Sequence[str] = COMMON_TYPES,
    fixed: Overrides = NO_OVERRIDES,
) -> None:
    """What `find_mix` would say of a wrong target, before anything is measured on chunks of that shape."""
    guide = sought.guide()
    space = sought.space(guide, fixed)
    if error := space.too_small(target, space.note(*shape), space.allowed(types, guide)):
        raise error


def _errors(
    sought: Sought, space: SearchSpace, guide: Guide, types: Sequence[str], run: Run, work: Path, keep: bool
) -> dict[str, dict[str, float]]:
    """Of each tensor, by type: what the type loses. `probes.gguf` is left in `work`."""
    allowed = space.allowed(types, guide)
    found: dict[str, dict[str, float]] = {name: {} for name in space.probes}
    probes = ""
    if keep and (work / _PROBES).is_file():
        found, probes = _kept(work, found) or (found, "")
    with open_model(sought.base, sought.place) as model:
        if not all(probe in found[name] for name, probe in space.probes.items()):
            _lost(sought, guide, model, run, work / _PROBES, space.probes, found)
        for type_ in sorted({type_ for some in allowed.values() for type_ in some}):
            some = {name: type_ for name, each in allowed.items() if type_ in each and type_ not in found[name]}
            if some:
                if keep:
                    probes = probes or sha256_file(work / _PROBES)
                    _keep(work, found, probes)
                _lost(sought, guide, model, run, work / "type.gguf", some, found)
    if keep:
        _keep(work, found, probes or sha256_file(work / _PROBES))
    (work / "type.gguf").unlink(missing_ok=True)
    return found


def _keep(work: Path, found: Mapping[str, Mapping[str, float]], probes: str) -> None:
    """Keep what is measured, with the digest of the probes' file, under one of all."""
    text = json.dumps({"errors": found, "probes": probes})
    write_atomic(work / _ERRORS, f"{hashlib.sha256(text.encode()).hexdigest()}{text}".encode())


def _kept(work: Path, names: Collection[str]) -> tuple[dict[str, dict[str, float]], str] | None:
    """What a killed search has kept, and the digest of its probes; None where that or the probes' file is damaged."""
    with suppress(OSError):
        digest, text = (data := (work / _ERRORS).read_bytes())[:64], data[64:]
        if hashlib.sha256(text).hexdigest().encode() == digest:
            said = json.loads(text)
            if said["errors"].keys() == {*names} and said["probes"] == sha256_file(work / _PROBES):
                return said["errors"], said["probes"]
    return None


def _lost(
    sought: Sought,
    guide: Guide,
    model: Model,
    run: Run,
    file: Path,
    types: Mapping[str, str],
    found: dict[str, dict[str, float]],
) -> None:
    """Adds to `found` what the types lose, of the tensors as the file gets them."""
    quantize_tensors(
        sought.base,
        file,
        types,
        imatrix=sought.imatrix,
        zero_as_one=sought.zero_as_one,
        reference=sought.reference,
        threads=run.threads,
    )

    def vectors(name: str) -> Any:
        return guide.importance(name, model.described(name)[0], TYPES[types[name]])

    for name, error in weighed_errors(model, file, vectors).items():
        found[name][types[name]] = error


def _found(
    space: SearchSpace, target: Target, types: Mapping[str, str], cost: float, note: str, costs: Mapping[str, float]
) -> FoundMix:
    """The mix as a file; QuantmillError where the tag would give a tensor another type."""
    everything = {**types, **space.by_hand()}
    n_bytes = space.fixed_bytes(note) + space.data(types)
    sizes = dict(space.stock())
    ftype = min(sizes, key=lambda name: abs(sizes[name] - n_bytes))
    planned = space.plan(ftype, everything, note)
    if planned.n_bytes != n_bytes or any(planned.types[name].name != type_ for name, type_ in everything.items()):
        raise QuantmillError(
            f"llama-quantize of {space.reference} gives tensors other types than it is told; choose a later tag"
        )
    stock = target.like or ftype
    bits = 8 * space.nbytes(planned.types) / space.weights
    has_i = any(type_.startswith("IQ") for type_ in everything.values())
    alike = [name for name in sizes if name.startswith("IQ") == has_i]
    kind = min(alike, key=lambda name: abs(sizes[name] - n_bytes)) if alike else ftype
    stock_bytes = space.plan(stock).n_bytes
    return FoundMix(types, everything, cost, n_bytes, bits, ftype, kind, stock, stock_bytes, costs, note, planned)
