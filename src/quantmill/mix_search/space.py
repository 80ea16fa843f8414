"""What a search chooses from: the tensors of a base, the types that they may have, and the files that a mix makes."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from quantmill.errors import UsageError
from quantmill.gguf.layout import TensorEntry, padded
from quantmill.gguf.types import TYPES, Type
from quantmill.gguf.values import KV
from quantmill.mix_search.errors import NotSearchable, TargetTooSmall
from quantmill.quant.file_plan import MIX_KEY, FilePlan, ImatrixFacts, plan_file
from quantmill.quant.guide import Guide
from quantmill.quant.mix import NO_OVERRIDES, Overrides, WidthDoesNotFit, needs_importance
from quantmill.reference.ftypes import FTYPES, STANDARD_MATRIX, tensor_type
from quantmill.reference.reference import Reference
from quantmill.reference.tensor_pattern import tensor_pattern

PROBE, NARROW = "Q3_K", "Q4_0"  # what a tensor is rounded to alone; the second where rows are no multiple of 256
KEY = MIX_KEY
_PLAIN = tuple(name for name in STANDARD_MATRIX if FTYPES[name].embedding_and_output is None)
_EMBEDDING, _OUTPUT = "token_embd.weight", "output.weight"


@dataclass(frozen=True)
class Target:
    """What the file is to be at most: one of bits a weight, bytes, a stock ftype's bytes, and bytes on a graphics card.
    On a card an embedding that is not the output too takes no room."""

    bits: float | None = None
    size: int | None = None
    like: str | None = None
    on_card: int | None = None


def patterns(types: Mapping[str, str]) -> list[tuple[str, str]]:
    """For each tensor a regular expression that matches its name alone, and its type."""
    return [(f"^{re.escape(name)}$", type_.lower()) for name, type_ in types.items()]


class SearchSpace:
    """The base's tensors, and the files that a mix makes of them. `fixed`: overrides whose tensors are not searched;
    `facts`: what files say of the imatrix."""

    def __init__(
        self,
        place: str,
        kvs: Sequence[KV],
        tensors: Sequence[TensorEntry],
        reference: Reference,
        facts: ImatrixFacts | None,
        fixed: Overrides = NO_OVERRIDES,
    ) -> None:
        self.place, self.kvs, self.tensors, self.reference = place, kvs, tensors, reference
        self.facts, self.fixed = facts, fixed
        self.shapes = {name: tuple(shape) for name, shape, _ in tensors}
        self.weights = sum(math.prod(shape) for shape in self.shapes.values())
        alignment = next((entry.value for entry in kvs if entry.key == "general.alignment"), 32)
        assert isinstance(alignment, int)
        self.alignment = alignment
        stock = self.plan("Q4_K_M")
        quantized = [name for name, type_ in stock.types.items() if type_ != stock.sources[name]]
        self.probes = {
            name: NARROW if self.shapes[name][0] % 256 else PROBE
            for name in quantized
            if self.shapes[name][0] % 32 == 0 and not self._is_fixed(name)
        }
        if not quantized:
            raise NotSearchable(f"{place}: it has no tensor that llama-quantize would quantize; give a model")
        for name in self.probes:
            if (type_ := stock.sources[name].name) not in ("F32", "F16", "BF16"):
                raise UsageError(
                    f"{place}: {name} is {type_} in the base; start from a file of F16, BF16 or F32, which has "
                    "what rounding costs still before it"
                )
        self.tied = _OUTPUT not in self.shapes

    def _is_fixed(self, name: str) -> bool:
        fixed = {_OUTPUT: self.fixed.output_tensor_type, _EMBEDDING: self.fixed.token_embedding_type}
        by_hand = any(tensor_pattern(pattern).search(name) for pattern, _ in self.fixed.tensor_types)
        return by_hand or fixed.get(name) is not None

    def note(self, chunks: int, n_ctx: int) -> str:
        """What the metadata of a file say of how its mix was found, on so many chunks of so many tokens."""
        rounded = " or ".join(sorted(set(self.probes.values())))
        return f"KL divergence of {rounded} alone, {chunks} chunks of {n_ctx} tokens"

    def allowed(self, types: Iterable[str], guide: Guide) -> dict[str, list[str]]:
        """The types that each tensor may have, of those given; UsageError for one that may have none."""
        given = [tensor_type(type_).name for type_ in types]
        found = {name: [t for t in dict.fromkeys(given) if self._may(name, t, guide)] for name in self.probes}
        for name, some in found.items():
            if not some:
                raise UsageError(
                    f"{name}: its rows of {self.shapes[name][0]} weights, without an importance vector or with one, "
                    f"allow none of the types {' '.join(given)}; name one like Q8_0 beside them (`types`)"
                )
        return found

    def fitting(self, types: Iterable[str]) -> dict[str, list[str]]:
        """The types that each tensor's rows allow, of those given."""
        return {name: [t for t in types if self.shapes[name][0] % TYPES[t].block == 0] for name in self.probes}

    def _may(self, name: str, type_: str, guide: Guide) -> bool:
        if self.shapes[name][0] % TYPES[type_].block:
            return False
        if guide.importance(name, self.shapes[name], TYPES[type_]) is not None:
            return True
        stock = (self.reference.ftype(ftype) for ftype in _PLAIN if ftype in self.reference.ftypes)
        return not any(needs_importance(self.reference, ftype, name, TYPES[type_]) for ftype in stock)

    def bytes(self, name: str, type_: str) -> int:
        """Of the tensor in the file, its padding with it."""
        count, found = math.prod(self.shapes[name]), TYPES[type_]
        return padded(count // found.block * found.size, self.alignment)

    def data(self, types: Mapping[str, str]) -> int:
        """Of so many tensors."""
        return sum(self.bytes(name, type_) for name, type_ in types.items())

    def nbytes(self, types: Mapping[str, Type]) -> int:
        """Without padding."""
        return sum(math.prod(self.shapes[name]) // type_.block * type_.size for name, type_ in types.items())

    def plan(self, ftype: str, types: Mapping[str, str] | None = None, note: str = "") -> FilePlan:
        """The stock file, or with `types` the one of that mix."""
        overrides, settings = NO_OVERRIDES, list[tuple[str, str]]()
        if types is not None:
            pairs = tuple((pattern, tensor_type(type_)) for pattern, type_ in patterns(types))
            overrides, settings = Overrides(tensor_types=pairs), [(KEY, note)]
        return plan_file(
            self.reference,
            self.kvs,
            self.tensors,
            ftype,
            imatrix=self.facts,
            overrides=overrides,
            override_kv=settings,
        )

    def kept(self) -> dict[str, Type]:
        """The types of the tensors that are not searched, as every file of the target has them."""
        whole = plan_file(self.reference, self.kvs, self.tensors, "Q4_K_M", imatrix=self.facts, overrides=self.fixed)
        return {name: type_ for name, type_ in whole.types.items() if name not in self.probes}

    def by_hand(self) -> dict[str, str]:
        """The types that `fixed` gives to tensors which llama-quantize would quantize."""
        stock, found = self.plan("Q4_K_M"), self.kept()
        quantized = [name for name, type_ in stock.types.items() if type_ != stock.sources[name]]
        return {name: found[name].name for name in quantized if name in found and self._is_fixed(name)}

    def fixed_bytes(self, note: str) -> int:
        """Of the file's header, and of what is not searched."""
        some = dict.fromkeys(self.probes, "Q8_0")
        return self.plan("Q8_0", {**some, **self.by_hand()}, note).n_bytes - self.data(some)

    def takes(self, target: Target, name: str, type_: str) -> int:
        """What the tensor takes of the target's room."""
        free = target.on_card is not None and name == _EMBEDDING and not self.tied
        return 0 if free else self.bytes(name, type_)

    def room(self, target: Target, note: str) -> int:
        """Bytes that the tensors may take together; below zero where not even the others have room."""
        if target.bits is not None:
            return int(self.weights * target.bits / 8) - self.nbytes(self.kept())
        if target.on_card is not None:
            others = {n: t for n, t in self.kept().items() if n != _EMBEDDING or self.tied}
            return target.on_card - self.nbytes(others)
        if target.size is not None:
            return target.size - self.fixed_bytes(note)
        assert target.like is not None
        return self.plan(target.like).n_bytes - self.fixed_bytes(note)

    def bound(self, target: Target, note: str) -> int:
        """Bytes that the file has at most."""
        largest = {name: "Q8_0" for name in self.probes if not self.takes(target, name, "Q8_0")}
        return self.fixed_bytes(note) + max(self.room(target, note), 0) + self.data(largest)

    def too_small(self, target: Target, note: str, allowed: Mapping[str, Sequence[str]]) -> TargetTooSmall | None:
        """The error of a target that the smallest of the allowed types do not reach, or None."""
        most = "Q8_0"  # of what none of the types fit, which is told elsewhere
        least = sum(min(self.takes(target, name, t) for t in some or [most]) for name, some in allowed.items())
        room = self.room(target, note)
        if room >= least:
            return None
        smallest = self.fixed_bytes(note) + least
        return TargetTooSmall(
            f"{self.place}: a file of {max(self.fixed_bytes(note) + room, 0)} bytes is smaller than the types allow, "
            f"which is {smallest}; ask for more, or allow smaller types (`types`)"
        )

    def stock(self) -> Iterator[tuple[str, int]]:
        """The stock files that the base can have, with their bytes."""
        for name in _PLAIN:
            if name in self.reference.ftypes:
                with suppress(WidthDoesNotFit):
                    yield name, self.plan(name).n_bytes
