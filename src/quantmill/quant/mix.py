"""tensor -> type: llama-quantize's choice for a whole file, from names and shapes alone.

Source of the rules: llama-quant.cpp of llama.cpp b4867 to b5490. Nothing here reads weights, so `plan` runs it before a
download.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from quantmill.errors import UsageError
from quantmill.gguf.layout import TensorEntry, ggml_shape
from quantmill.gguf.types import TYPES, Type
from quantmill.reference.ftypes import Ftype
from quantmill.reference.hparams import Hparams, ModelFacts
from quantmill.reference.mix_rules import LOW, LOW_ROLES, ROLES, Place, choose


class WidthDoesNotFit(UsageError):
    """A type was asked for whose blocks do not divide the tensor's rows, and no fallback is defined."""

    def __init__(self, tensor: str, columns: int, type_: Type) -> None:
        super().__init__(
            f"{tensor} has rows of {columns} weights, which {type_.name} cannot hold (its blocks have {type_.block}); "
            "choose a type with smaller blocks for it"
        )
        self.tensor, self.columns, self.type = tensor, columns, type_


class ImatrixNeeded(UsageError):
    """An ftype or a tensor that is useless without an importance matrix was asked for without one."""


@dataclass(frozen=True)
class Overrides:
    """What the caller sets by hand, as llama-quantize's options of the same names.

    `tensor_types` are regular expressions, lower-cased as llama-quantize does, searched for anywhere in the tensor's
    name and in order: the first that matches decides. They act on mixes of quantized types only, and not with `pure`.
    """

    output_tensor_type: Type | None = None
    token_embedding_type: Type | None = None
    tensor_types: tuple[tuple[str, Type], ...] = ()
    pure: bool = False
    leave_output_tensor: bool = False


@dataclass(frozen=True)
class Fallback:
    """A tensor whose rows are not made of whole blocks of `wanted`, and what it becomes instead."""

    tensor: str
    wanted: Type
    type: Type


@dataclass
class Mix:
    """`types` holds every tensor in the order of the quantized file; `sources` the types they have in the base."""

    types: dict[str, Type] = field(default_factory=dict)
    sources: dict[str, Type] = field(default_factory=dict)
    fallbacks: list[Fallback] = field(default_factory=list)


_LAYER = re.compile(r"blk\.\s*([+-]?\d+)", re.ASCII)

# Matrices that stay as they are: small, and the model suffers from their loss.
_TIME_MIX = "first w0 w1 w2 v0 v1 v2 a0 a1 a2 g1 g2 decay_w1 decay_w2 lerp_fused"
_KEPT = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ssm_conv1d.weight",
    "attn_rel_b.weight",
    *(f"time_mix_{part}.weight" for part in _TIME_MIX.split()),
)
_KEPT_OF_ARCH: dict[str, frozenset[str]] = {
    "gpt2": frozenset({"position_embd.weight"}),
    "mpt": frozenset({"position_embd.weight"}),
    "starcoder": frozenset({"position_embd.weight"}),
    "bert": frozenset({"position_embd.weight", "token_types.weight"}),
    "nomic-bert": frozenset({"token_types.weight"}),
    "nomic-bert-moe": frozenset({"token_types.weight"}),
    "jina-bert-v2": frozenset({"token_types.weight"}),
}

# Architectures without an output matrix of their own: the token embedding is the output, whatever the file holds.
_TIED = "gptj mpt bert nomic-bert nomic-bert-moe jina-bert-v2 gemma gemma2 command-r cohere2 openelm plm bitnet"
_NO_OUTPUT = frozenset(_TIED.split())

# What stands for a type whose blocks of 256 do not divide a row.
_TO_IQ4_NL = "IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_XS Q2_K Q3_K"
_FALLBACKS: dict[str, str] = {
    **dict.fromkeys(_TO_IQ4_NL.split(), "IQ4_NL"),
    "TQ1_0": "Q4_0",
    "TQ2_0": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}

UNQUANTIZED = frozenset({"F32", "F16", "BF16", "I8", "I16", "I32", "I64", "F64"})

NO_OVERRIDES = Overrides()


def file_order(names: Iterable[str]) -> list[str]:
    """The order of a quantized file: tensors outside the layers first, then by layer, then by the bytes of the name."""

    def key(name: str) -> tuple[int, bytes]:
        layer = _LAYER.match(name)
        return (int(layer[1]) if layer else -1, name.encode())

    return sorted(names, key=key)


def plan_types(
    ftype: Ftype,
    hparams: Hparams,
    tensors: Iterable[TensorEntry],
    has_imatrix: bool,
    overrides: Overrides = NO_OVERRIDES,
    keep_order: bool = False,
) -> Mix:
    """The type of every tensor that llama-quantize would write.

    `tensors` are the base's, in any order; `keep_order` walks them as
    given instead of in `file_order`, which is what llama-quantize does when it keeps a split. The choice for a tensor
    depends on how many of its role came before. Raises ImatrixNeeded, WidthDoesNotFit, ModelFacts.
    """
    if ftype.needs_imatrix and not has_imatrix:
        raise ImatrixNeeded(f"{ftype.name} needs an importance matrix: give an imatrix file computed from this model")
    by_name = {name: (ggml_shape(tuple(shape)), type_) for name, shape, type_ in tensors}
    order = list(by_name) if keep_order else file_order(by_name)
    chooser = _Chooser(ftype, hparams, order, has_imatrix, _with_base(ftype, overrides))
    mix = Mix()
    for name in order:
        shape, source = by_name[name]
        mix.sources[name] = source
        mix.types[name] = chooser.type_of(name, shape, source, mix.fallbacks)
    return mix


def needs_importance(ftype: Ftype, tensor: str, type_: Type) -> bool:
    """Whether llama-quantize refuses to write this tensor in this type without an importance vector of its own."""
    if type_.name in ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_S"):
        return True
    if type_.name == "IQ1_M":
        return tensor not in ("token_embd.weight", "output.weight")
    return type_.name == "Q2_K" and ftype.base == "Q2_K_S" and tensor != "token_embd.weight"


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
        self, ftype: Ftype, model: Hparams, names: Sequence[str], has_imatrix: bool, overrides: Overrides
    ) -> None:
        self.ftype, self.model, self.has_imatrix, self.overrides = ftype, model, has_imatrix, overrides
        self.patterns = [(_matcher(pattern), type_) for pattern, type_ in overrides.tensor_types]
        self.has_output = "output.weight" in names and model.arch not in _NO_OUTPUT
        self.n_attention_v = sum(
            any(part in name for part in ("attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight")) for name in names
        )
        if self.n_attention_v and model.attention_layers not in (None, self.n_attention_v):
            raise ModelFacts(
                f"the file has {self.n_attention_v} attention value tensors, but its metadata names "
                f"{model.attention_layers} attention layers"
            )
        self.seen = dict.fromkeys(ROLES, 0)

    def type_of(self, name: str, shape: tuple[int, ...], source: Type, fallbacks: list[Fallback]) -> Type:
        """The type to write; the source's own when the tensor is not quantized."""
        if not self._is_quantized(name, shape):
            return source
        chosen = self.ftype.type
        if not self.overrides.pure and chosen.name not in UNQUANTIZED:
            chosen = self._by_rule(name, shape[0])
            fitting = _fit(name, shape[0], chosen)
            if fitting != chosen:
                fallbacks.append(Fallback(name, chosen, fitting))
            chosen = self._by_pattern(name, fitting)
        if name == "token_embd.weight" and self.overrides.token_embedding_type:
            chosen = self.overrides.token_embedding_type
        if name == "output.weight" and self.overrides.output_tensor_type:
            chosen = self.overrides.output_tensor_type
        if chosen != source and shape[0] % chosen.block:
            raise WidthDoesNotFit(name, shape[0], chosen)
        return chosen

    def _is_quantized(self, name: str, shape: tuple[int, ...]) -> bool:
        # A name of five bytes passes as well: there llama.cpp's position of the ending wraps around to "nowhere".
        return (
            self.ftype.name != "COPY"
            and (name.endswith("weight") or len(name.encode()) == 5)
            and len(shape) >= 2
            and not (name == "output.weight" and self.overrides.leave_output_tensor)
            and not any(part in name for part in _KEPT)
            and name not in _KEPT_OF_ARCH.get(self.model.arch, ())
        )

    def _by_rule(self, name: str, columns: int) -> Type:
        ftype, default = self.ftype.base, self.ftype.type
        is_output = name == "output.weight" and self.model.arch not in _NO_OUTPUT
        if is_output or (name == "token_embd.weight" and not self.has_output):
            return self._output_type(columns)
        if name == "token_embd.weight":
            if self.overrides.token_embedding_type:
                return self.overrides.token_embedding_type
            return choose("token_embd", ftype, Place(0, 0, self.model, self.has_imatrix), default)
        role = next((role for role, part in ROLES.items() if part in name), None)
        if role is None or (ftype in LOW and role not in LOW_ROLES):
            return default
        place = self._place(role, name)
        chosen = choose(role, ftype, place, default)
        if role == "attn_v" and ftype not in LOW:
            if self.model.is_70b and chosen.name in ("Q3_K", "Q4_K"):
                chosen = TYPES["Q5_K"]  # eight query heads share it, so more bits cost next to nothing
            if self.model.n_expert == 8:
                chosen = TYPES["Q8_0"]
        return chosen

    def _output_type(self, columns: int) -> Type:
        default = self.ftype.type
        if self.overrides.output_tensor_type:
            return self.overrides.output_tensor_type
        if self.model.arch == "falcon" or columns % default.block:
            return TYPES["Q8_0"]
        if self.ftype.base in LOW or self.ftype.base == "IQ3_XXS":
            return TYPES["Q5_K"]
        return default if default.name == "Q8_0" else TYPES["Q6_K"]

    def _place(self, role: str, name: str) -> Place:
        """Where the tensor stands in its role: by count or, in a mixture of experts, by the layer in its name."""
        i = self.seen[role]
        self.seen[role] += 1
        n = self.n_attention_v if role == "attn_v" else self.model.n_layer
        if self.model.n_expert > 1 and role.startswith("ffn_") and self.ftype.base not in LOW:
            layer = _LAYER.match(name)
            if layer is None:
                raise ModelFacts(f"{name} must begin with blk.<layer>., as a mixture of experts needs its layer")
            i = int(layer[1])
            if not 0 <= i < n:
                raise ModelFacts(f"{name} names layer {i}; the model has {n}")
        return Place(i, n, self.model, self.has_imatrix)

    def _by_pattern(self, name: str, chosen: Type) -> Type:
        found = [(pattern.pattern, type_) for pattern, type_ in self.patterns if pattern.search(name)]
        if not found:
            return chosen
        first = found[0][1]
        other = next((pattern for pattern, type_ in found if type_ != first), None)
        if first == chosen and other is not None:
            # Some tags stop at the first match, others at the first that changes something.
            raise UsageError(
                f"the tensor types for {found[0][0]!r} and {other!r} both match {name}, which llama.cpp's tags read "
                "differently; write patterns of which only one matches"
            )
        return first


def unmatched(patterns: Iterable[str], names: Collection[str]) -> list[str]:
    """The overrides' patterns that match none of the tensors; UsageError for one that is no regular expression."""
    return [pattern for pattern in patterns if not any(map(_matcher(pattern).search, names))]


def _matcher(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern.lower(), re.ASCII)
    except re.error as error:
        raise UsageError(f"{pattern!r} is not a regular expression for tensor names: {error}") from None


def _fit(name: str, columns: int, type_: Type) -> Type:
    """`type_`, or what stands for it when its blocks do not divide the row."""
    if columns % type_.block == 0:
        return type_
    if type_.name not in _FALLBACKS:
        raise WidthDoesNotFit(name, columns, type_)
    fallback = TYPES[_FALLBACKS[type_.name]]
    return fallback if columns % fallback.block == 0 else TYPES["F16"]
