"""The search for a mix: what rounding each tensor costs, what each type loses of it, and the types for a size."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quantmill.engine.evaluation import Model, Run, open_model
from quantmill.engine.stream import Tokens
from quantmill.engine.weight_source import GGUFSource
from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf.layout import padded
from quantmill.gguf.source import Source
from quantmill.gguf.types import TYPES, Type
from quantmill.mix_search.errors import NotSearchable, TargetTooSmall
from quantmill.mix_search.sensitivity import sensitivities
from quantmill.mix_search.type_choice import TypeChoice, choose_types
from quantmill.mix_search.type_errors import predicted, weighed_errors
from quantmill.quant.file_plan import FilePlan, plan_file
from quantmill.quant.guide import Guide
from quantmill.quant.mix import NO_OVERRIDES, Overrides, WidthDoesNotFit, needs_importance
from quantmill.quant.quantizer import quantize_tensors
from quantmill.reference.ftypes import FTYPES, STANDARD_MATRIX, tensor_type
from quantmill.reference.reference import Reference

PROBE, NARROW = "Q3_K", "Q4_0"  # what a tensor is rounded to alone; the second where rows are no multiple of 256
ALLOWED = (
    *("Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "IQ4_NL", "Q4_0", "IQ4_XS", "Q3_K", "IQ3_S"),
    *("IQ3_XXS", "Q2_K", "IQ2_S", "IQ2_XS", "IQ2_XXS"),
)
KEY = "quantmill.mix"  # of the metadata, which says how the mix was found
_PLAIN = tuple(name for name in STANDARD_MATRIX if FTYPES[name].embedding_and_output is None)


@dataclass(frozen=True)
class Target:
    """What the file is to be at most: bits a weight, bytes, or as large as a stock ftype's; one of them is given."""

    bits: float | None = None
    size: int | None = None
    like: str | None = None


@dataclass(frozen=True)
class Sought:
    """What is searched with. `chunks` are those of the text that it is measured on."""

    base: Path
    imatrix: Path
    imatrix_name: str
    reference: Reference
    target: Target
    chunks: Tokens
    types: Sequence[str] = ALLOWED


@dataclass(frozen=True)
class FoundMix:
    """`types` by tensor, of those that were searched; `predicted` is the KL divergence in nats a token; `ftype` is the
    nearest stock one, whose number the file has; `stock` is the one that it is to be compared with."""

    types: Mapping[str, str]
    predicted: float
    n_bytes: int
    bits: float
    ftype: str
    stock: str
    stock_bytes: int
    sensitivity: Mapping[str, float]
    note: str

    @property
    def patterns(self) -> list[tuple[str, str]]:
        """As --tensor-type takes them."""
        return patterns(self.types)


def patterns(types: Mapping[str, str]) -> list[tuple[str, str]]:
    """For each tensor a regular expression that matches its name alone, and its type."""
    return [(f"^{re.escape(name)}$", type_.lower()) for name, type_ in types.items()]


def find_mix(sought: Sought, run: Run, work: Path) -> FoundMix:
    """The types for the target; `work` is a folder for quantized tensors. Raises UsageError and QuantmillError."""
    search = _Search(sought)
    room = search.room()  # first: a wrong target is told at once
    errors = search.errors(run, work)
    with open_model(sought.base) as model:
        probes = GGUFSource(work / "probes.gguf")
        try:
            costs = sensitivities(model, probes, list(search.probes), sought.chunks, run)
        finally:
            probes.close()
    choices = {
        name: [
            TypeChoice(type_, search.bytes(name, type_), cost)
            for type_, cost in predicted(costs[name], errors[name], search.probes[name]).items()
            if type_ in search.allowed[name]
        ]
        for name in search.probes
    }
    found = choose_types(choices, room)
    if found is None:  # `room` has looked
        raise search.too_small(room)
    types = {name: choice.type for name, choice in found.items()}
    return search.found(types, math.fsum(choice.cost for choice in found.values()), costs)


class _Search:
    """The base's tensors, the types that they may have, and the files that a mix makes of them."""

    def __init__(self, sought: Sought) -> None:
        self.sought, self.reference = sought, sought.reference
        self.guide = Guide.read(sought.imatrix, False)
        with Source(sought.base) as source:
            self.kvs, self.tensors = list(source.metadata.values()), source.tensors()
        self.shapes = {name: tuple(shape) for name, shape, _ in self.tensors}
        self.weights = sum(math.prod(shape) for shape in self.shapes.values())
        self.guide.strangers(self.shapes)
        alignment = next((entry.value for entry in self.kvs if entry.key == "general.alignment"), 32)
        assert isinstance(alignment, int)
        self.alignment = alignment
        stock = self.plan("Q4_K_M")
        self.probes = {
            name: NARROW if self.shapes[name][0] % 256 else PROBE
            for name, type_ in stock.types.items()
            if type_ != stock.sources[name] and self.shapes[name][0] % 32 == 0
        }
        if not self.probes:
            raise NotSearchable(f"{sought.base}: it has no tensor that llama-quantize would quantize; give a model")
        for name in self.probes:
            if (type_ := stock.sources[name].name) not in ("F32", "F16", "BF16"):
                raise UsageError(
                    f"{sought.base}: {name} is {type_} in the base; start from a file of F16, BF16 or F32, which has "
                    "what rounding costs still before it"
                )
        rounded = " or ".join(sorted(set(self.probes.values())))
        self.note = "KL divergence of {} alone, {} chunks of {} tokens".format(rounded, *sought.chunks.shape)
        self.allowed = {name: self._allowed(name) for name in self.probes}
        smallest = {name: min(types, key=lambda t: self.bytes(name, t)) for name, types in self.allowed.items()}
        self.least = self._data(smallest)
        self.fixed = self.plan("Q4_K_M", smallest).n_bytes - self.least  # the header, and what is not searched

    def _allowed(self, name: str) -> list[str]:
        given = [tensor_type(type_).name for type_ in self.sought.types]
        types = [type_ for type_ in dict.fromkeys(given) if self._may(name, type_)]
        if not types:
            raise UsageError(
                f"{name}: its rows of {self.shapes[name][0]} weights, without an importance vector or with one, allow "
                f"none of the types {' '.join(given)}; name one like Q8_0 beside them (--types)"
            )
        return types

    def _may(self, name: str, type_: str) -> bool:
        if self.shapes[name][0] % TYPES[type_].block:
            return False
        if self.guide.importance(name, self.shapes[name], TYPES[type_]) is not None:
            return True
        stock = (self.reference.ftype(ftype) for ftype in _PLAIN if ftype in self.reference.ftypes)
        return not any(needs_importance(self.reference, ftype, name, TYPES[type_]) for ftype in stock)

    def bytes(self, name: str, type_: str) -> int:
        """Of the tensor in the file, its padding with it."""
        count, found = math.prod(self.shapes[name]), TYPES[type_]
        return padded(count // found.block * found.size, self.alignment)

    def _data(self, types: Mapping[str, str]) -> int:
        return sum(self.bytes(name, type_) for name, type_ in types.items())

    def _nbytes(self, types: Mapping[str, Type]) -> int:
        """Without padding."""
        return sum(math.prod(self.shapes[name]) // type_.block * type_.size for name, type_ in types.items())

    def plan(self, ftype: str, types: Mapping[str, str] | None = None) -> FilePlan:
        """The stock file, or with `types` the one of that mix."""
        pairs = tuple((pattern, tensor_type(type_)) for pattern, type_ in patterns(types or {}))
        return plan_file(
            self.reference,
            self.kvs,
            self.tensors,
            ftype,
            imatrix=self.guide.facts(self.sought.imatrix_name),
            overrides=Overrides(tensor_types=pairs) if types else NO_OVERRIDES,
            override_kv=[(KEY, self.note)] if types else [],
        )

    def room(self) -> int:
        """Bytes that the tensors may take together; TargetTooSmall where they cannot be so small."""
        target = self.sought.target
        if target.bits is not None:
            kept = {name: type_ for name, type_ in self.plan("Q4_K_M").types.items() if name not in self.probes}
            room = int(self.weights * target.bits / 8) - self._nbytes(kept)
        elif target.size is not None:
            room = target.size - self.fixed
        else:
            assert target.like is not None
            room = self.plan(target.like).n_bytes - self.fixed
        if room < self.least:
            raise self.too_small(room)
        return room

    def too_small(self, room: int) -> TargetTooSmall:
        return TargetTooSmall(
            f"{self.sought.base}: a file of {self.fixed + max(room, 0)} bytes is smaller than the types allow, which "
            f"is {self.fixed + self.least}; ask for more, or allow smaller types (--types)"
        )

    def errors(self, run: Run, work: Path) -> dict[str, dict[str, float]]:
        """Of each tensor, by type: what the type loses. `probes.gguf` is left in `work`."""
        found: dict[str, dict[str, float]] = {name: {} for name in self.probes}
        with open_model(self.sought.base) as model:
            self._lost(model, run, work / "probes.gguf", self.probes, found)
            for type_ in sorted({type_ for types in self.allowed.values() for type_ in types}):
                some = {
                    name: type_ for name, types in self.allowed.items() if type_ in types and type_ not in found[name]
                }
                if some:
                    self._lost(model, run, work / "type.gguf", some, found)
        (work / "type.gguf").unlink(missing_ok=True)
        return found

    def _lost(
        self, model: Model, run: Run, file: Path, types: Mapping[str, str], found: dict[str, dict[str, float]]
    ) -> None:
        """Adds to `found` what the types lose, of the tensors as the file gets them."""
        quantize_tensors(
            self.sought.base,
            file,
            types,
            imatrix=self.sought.imatrix,
            reference=self.reference,
            threads=run.threads,
        )
        vectors = {name: self.guide.importance(name, self.shapes[name], TYPES[type_]) for name, type_ in types.items()}
        for name, error in weighed_errors(model, file, vectors.get).items():
            found[name][types[name]] = error

    def found(self, types: Mapping[str, str], cost: float, costs: Mapping[str, float]) -> FoundMix:
        """The mix as a file; QuantmillError where the tag would give a tensor another type."""
        n_bytes = self.fixed + self._data(types)
        sizes = dict(self._stock())
        ftype = min(sizes, key=lambda name: abs(sizes[name] - n_bytes))
        planned = self.plan(ftype, types)
        if planned.n_bytes != n_bytes or any(planned.types[name].name != type_ for name, type_ in types.items()):
            raise QuantmillError(
                f"llama-quantize of {self.reference} gives tensors other types than it is told; choose a later tag"
            )
        stock = self.sought.target.like or ftype
        bits = 8 * self._nbytes(planned.types) / self.weights
        return FoundMix(types, cost, n_bytes, bits, ftype, stock, self.plan(stock).n_bytes, costs, self.note)

    def _stock(self) -> Iterable[tuple[str, int]]:
        for name in _PLAIN:
            if name in self.reference.ftypes:
                with suppress(WidthDoesNotFit):
                    yield name, self.plan(name).n_bytes
