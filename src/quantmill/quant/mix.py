"""tensor -> type: llama-quantize's choice for a whole file, from names and shapes alone.

Source of the rules: llama-quant.cpp of llama.cpp; what its tags decide stands in a reference. Nothing here reads
weights, so `plan` runs it before a download.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from quantmill.errors import UsageError
from quantmill.gguf.layout import TensorEntry, ggml_shape
from quantmill.gguf.types import TYPES, Type
from quantmill.reference.ftypes import Ftype
from quantmill.reference.hparams import Hparams, ModelFacts
from quantmill.reference.mix_rules import LOW, LOW_ROLES, Place, choose
from quantmill.reference.reference import Reference
from quantmill.reference.tensor_order import layer_of
from quantmill.reference.tensor_pattern import tensor_pattern


class WidthDoesNotFit(UsageError):
    """A type was asked for whose blocks do not divide the tensor's rows, and no fallback is defined."""

    def __init__(self, tensor: str, columns: int, type_: Type) -> None:
        super().__init__(
            f"{tensor} has rows of {columns} weights, which {type_.name} cannot hold (its blocks have {type_.block}); "
            "choose a type with smaller blocks for it"
        )
        self.tensor, self.columns, self.type = tensor, columns, type_


@dataclass(frozen=True)
class Overrides:
    """What the caller sets by hand, as llama-quantize's options of the same names.

    `tensor_types` are regular expressions, lower-cased as llama-quantize does, searched for anywhere in the tensor's
    name and in order: the first that matches decides. They act on mixes of quantized types only, and with `pure`
    where the reference's `pure_fits`.
    """

    output_tensor_type: Type | None = None
    token_embedding_type: Type | None = None
    tensor_types: tuple[tuple[str, Type], ...] = ()
    pure: bool = False
    leave_output_tensor: bool = False


@dataclass(frozen=True)
class Fallback:
    """A tensor that the mix would make `wanted` if its rows were whole blocks, and what it becomes instead."""

    tensor: str
    wanted: Type
    type: Type


@dataclass
class Mix:
    """`types` holds every tensor in the order of the quantized file; `sources` the types they have in the base."""

    types: dict[str, Type] = field(default_factory=dict)
    sources: dict[str, Type] = field(default_factory=dict)
    fallbacks: list[Fallback] = field(default_factory=list)


UNQUANTIZED = frozenset({"F32", "F16", "BF16", "I8", "I16", "I32", "I64", "F64"})
BY_IMPORTANCE = frozenset({"IQ1_S", "IQ2_XXS", "IQ2_XS"})  # whose search has no other measure

NO_OVERRIDES = Overrides()


def plan_types(
    reference: Reference,
    ftype: Ftype,
    hparams: Hparams,
    tensors: Iterable[TensorEntry],
    has_imatrix: bool,
    overrides: Overrides = NO_OVERRIDES,
    keep_order: bool = False,
    pruned_values: int = 0,
) -> Mix:
    """The type of every tensor that llama-quantize would write.

    `tensors` are the base's, in any order; `keep_order` walks them as
    given instead of in the reference's order, which is what llama-quantize does when it keeps a split. The choice for
    a tensor depends on how many of its role came before. `pruned_values` of the attention's were left out.
    Raises UsageError (WidthDoesNotFit) and ModelFacts.
    """
    if ftype.needs_imatrix and not has_imatrix:
        raise UsageError(f"{ftype.name} needs an importance matrix: give an imatrix file computed from this model")
    by_name = {name: (ggml_shape(tuple(shape)), type_) for name, shape, type_ in tensors}
    order = list(by_name) if keep_order else reference.order(by_name)
    chooser = _Chooser(reference, ftype, hparams, order, has_imatrix, _with_base(ftype, overrides), pruned_values)
    mix = Mix()
    for name in order:
        shape, source = by_name[name]
        mix.sources[name] = source
        mix.types[name] = chooser.type_of(name, shape, source, mix.fallbacks)
    return mix


def needs_importance(reference: Reference, ftype: Ftype, tensor: str, type_: Type) -> bool:
    """Whether llama-quantize refuses to write this tensor in this type without an importance vector of its own, or
    stops."""
    if type_.name in BY_IMPORTANCE:
        return True
    table = reference.needs_importance
    spared = table.get((type_.name, ftype.base), table.get((type_.name, "*")))
    return spared is not None and tensor not in spared


def _with_base(ftype: Ftype, overrides: Overrides) -> Overrides:
    """The overrides with what an `_L` name stands for; what the caller set by hand wins."""
    return Overrides(
        overrides.output_tensor_type or ftype.embedding_and_output,
        overrides.token_embedding_type or ftype.embedding_and_output,
        overrides.tensor_types,
        overrides.pure,
        overrides.leave_output_tensor,
    )


class _Chooser:
    """Walks a file's tensors in order, counting roles as llama-quantize does."""

    def __init__(
        self,
        reference: Reference,
        ftype: Ftype,
        model: Hparams,
        names: Sequence[str],
        has_imatrix: bool,
        overrides: Overrides,
        pruned_values: int,
    ) -> None:
        self.reference, self.ftype, self.model = reference, ftype, model
        self.has_imatrix, self.overrides = has_imatrix, overrides
        self.patterns = [(tensor_pattern(pattern), type_) for pattern, type_ in overrides.tensor_types]
        self.is_tied = model.arch in reference.tied_architectures
        self.has_output = "output.weight" in names and not self.is_tied
        self.n_attention_v = sum(any(part in name for part in reference.attention_values) for name in names)
        self.n_layer = model.n_layer - (0 if reference.nextn_layers_count else model.n_nextn)
        checked = reference.is_attention_checked and self.n_attention_v
        stated = model.attention_layers
        if checked and stated is not None and stated - pruned_values != self.n_attention_v:
            raise ModelFacts(
                f"the file has {self.n_attention_v + pruned_values} attention value tensors, but its metadata names "
                f"{model.attention_layers} attention layers; llama-quantize refuses that too, convert the model anew"
            )
        self.seen = dict.fromkeys(reference.roles.values(), 0)
        kept = (*reference.kept, *reference.kept_parts.get(model.arch, ()))
        self._kept = re.compile("|".join(map(re.escape, kept)) or r"(?!)")  # for nothing at all: what matches nothing

    def type_of(self, name: str, shape: tuple[int, ...], source: Type, fallbacks: list[Fallback]) -> Type:
        """The type to write; the source's own when the tensor is not quantized."""
        if not self._is_quantized(name, shape):
            return source
        chosen = self._by_option(name)
        if chosen is None:
            chosen = self.ftype.type
            if chosen.name not in UNQUANTIZED and (self.reference.pure_fits or not self.overrides.pure):
                chosen = self._chosen(name, shape, fallbacks)
        if chosen != source and shape[0] % chosen.block:
            raise WidthDoesNotFit(name, shape[0], chosen)
        return chosen

    def _chosen(self, name: str, shape: tuple[int, ...], fallbacks: list[Fallback]) -> Type:
        """By pattern or rule, and what stands for it when its blocks do not divide the row."""
        matching = [(pattern.pattern, type_) for pattern, type_ in self.patterns if pattern.search(name)]
        by_hand = self._before_the_rules([type_ for _, type_ in matching])
        if by_hand is not None or self.overrides.pure:
            wanted = meant = by_hand or self.ftype.type
        else:
            wanted = self._by_rule(name, shape)
            meant = self._of_output(whole=True) if self._by_output_rule(name) else wanted
        fitting = _fit(self.reference, name, shape[0], wanted)
        if fitting != meant:
            fallbacks.append(Fallback(name, meant, fitting))
        return self._after_the_rules(name, matching, fitting, fell_back=fitting != wanted)

    def _by_option(self, name: str) -> Type | None:
        """What --output-tensor-type and --token-embedding-type decide alone."""
        if name == "output.weight":
            return self.overrides.output_tensor_type
        if name not in self.reference.embeddings_by_option:
            return None
        named = self.reference.is_embedding_named and name != "token_embd.weight"
        if named and any(pattern.search(name) for pattern, _ in self.patterns):
            return None
        return self.overrides.token_embedding_type

    def _is_quantized(self, name: str, shape: tuple[int, ...]) -> bool:
        # A name of five bytes passes as well: there llama.cpp's position of the ending wraps around to "nowhere".
        return (
            self.ftype.name != "COPY"
            and (name.endswith("weight") or len(name.encode()) == 5)
            and len(shape) >= 2
            and not (name == "output.weight" and self.overrides.leave_output_tensor)
            and not self._kept.search(name)
            and name not in self.reference.kept_names.get(self.model.arch, ())
            and name not in self.reference.kept_names.get("*", ())
        )

    def _by_rule(self, name: str, shape: tuple[int, ...]) -> Type:
        ftype, default, columns = self.ftype.base, self.ftype.type, shape[0]
        parts, least = self.reference.least.get(self.model.arch, ((), ""))
        if any(part in name for part in parts):
            return TYPES[least]
        if self._by_output_rule(name):
            return self._of_output(whole=columns % default.block == 0)
        role = next((role for part, role in self.reference.roles.items() if part in name), None)
        if ("*", ftype) in self.reference.mix:
            place = Place(0, 0, self.model, self.has_imatrix, stacked=len(shape) > 2 and shape[2] > 1, role=role or "")
            return choose(self.reference, "*", ftype, place, default)
        if name in self.reference.embeddings:
            if self.overrides.token_embedding_type:
                return self.overrides.token_embedding_type
            return choose(self.reference, "token_embd", ftype, Place(0, 0, self.model, self.has_imatrix), default)
        if role is None or (ftype in LOW and role not in LOW_ROLES):
            return default
        place = self._place(role, name)
        chosen = choose(self.reference, role, ftype, place, default)
        if role == "attn_v" and ftype not in LOW:
            if _is_70b(self.reference, self.model) and chosen.name in ("Q3_K", "Q4_K"):
                chosen = TYPES["Q5_K"]  # eight query heads share it, so more bits cost next to nothing
            if self.model.n_expert == 8:
                chosen = TYPES["Q8_0"]
        return chosen

    def _by_output_rule(self, name: str) -> bool:
        """Whether this is the output matrix, or the embedding that serves as one."""
        is_output = name == "output.weight" and not self.is_tied
        return is_output or (name in self.reference.tied_embeddings and not self.has_output)

    def _of_output(self, whole: bool) -> Type:
        """`whole`: as if its rows were whole blocks of the ftype's own type, or were not."""
        if self.overrides.output_tensor_type:
            return self.overrides.output_tensor_type
        place = Place(0, 0, self.model, self.has_imatrix, whole=whole)
        return choose(self.reference, "output", self.ftype.base, place, self.ftype.type)

    def _place(self, role: str, name: str) -> Place:
        """Where the tensor stands in its role: by count or, in a mixture of experts, by the layer in its name."""
        i = self.seen[role]
        self.seen[role] += 1
        n = self.n_attention_v if role == "attn_v" else self.n_layer
        if self.model.n_expert > 1 and role.startswith("ffn_") and self.ftype.base not in LOW:
            layer = layer_of(name)
            if layer is None:
                raise ModelFacts(f"{name} must begin with blk.<layer>., as a mixture of experts needs its layer")
            if not 0 <= layer < n:
                raise ModelFacts(f"{name} names layer {layer}; the model has {n}")
            i = layer
        return Place(i, n, self.model, self.has_imatrix)

    def _before_the_rules(self, types: Sequence[Type]) -> Type | None:
        match self.reference.patterns:
            case "before":
                return next(iter(types), None)
            case "before if other":
                return next((type_ for type_ in types if type_ != self.ftype.type), None)
        return None

    def _after_the_rules(
        self, name: str, matching: Sequence[tuple[str, Type]], chosen: Type, *, fell_back: bool
    ) -> Type:
        types = [type_ for _, type_ in matching]
        match self.reference.patterns:
            case "unsure" if types:
                other = next((pattern for pattern, type_ in matching if type_ != types[0]), None)
                if types[0] == chosen and other is not None:
                    # Some tags stop at the first match, others at the first that changes something.
                    raise UsageError(
                        f"the tensor types for {matching[0][0]!r} and {other!r} both match {name}, which llama.cpp's "
                        "tags read differently; write patterns of which only one matches"
                    )
                return types[0]
            case "changing":
                return next((type_ for type_ in types if type_ != chosen), chosen)
            case "last" if types:
                return types[-1]
            case "last unless fallen back" if types and not fell_back:
                return types[-1]
        return chosen


def unmatched(patterns: Iterable[str], names: Collection[str]) -> list[str]:
    """The overrides' patterns that match none of the tensors; UsageError for one that is no regular expression."""
    return [pattern for pattern in patterns if not any(map(tensor_pattern(pattern).search, names))]


def _is_70b(reference: Reference, model: Hparams) -> bool:
    """Whether llama.cpp calls the model 70B, by architecture and depth alone."""
    if model.n_layer != reference.large.get(model.arch):
        return False
    return model.arch != "llama" or (model.n_expert != 8 and model.is_grouped)


def _fit(reference: Reference, name: str, columns: int, type_: Type) -> Type:
    """`type_`, or what stands for it when its blocks do not divide the row."""
    if columns % type_.block == 0:
        return type_
    if type_.name not in reference.fallbacks:
        raise WidthDoesNotFit(name, columns, type_)
    fallback = TYPES[reference.fallbacks[type_.name]]
    return fallback if columns % fallback.block == 0 else TYPES["F16"]
