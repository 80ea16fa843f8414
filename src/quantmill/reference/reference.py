"""What llama.cpp of a span of tags does, as one frozen record of plain data.

A span that differs from its neighbour is `replace(neighbour, …)` with the facts that differ (docs/reference.md). Rules
and keys are dictionaries, so that one of them is changed with `|`. Nobody writes into a record.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from quantmill.errors import UsageError, nearest
from quantmill.gguf.types import ValueType
from quantmill.reference.arithmetic import QuantArithmetic
from quantmill.reference.ftypes import Ftype

Order = Callable[[Iterable[str]], list[str]]

# A metadata entry that a tool sets: its value's type, and the value itself or the name of the fact that is the value.
# An entry whose fact is not there is not set.
Setting = tuple[ValueType, int | str]


@dataclass(frozen=True, repr=False)
class Header:
    """What llama-quantize sets in a file's metadata; each key that it sets moves to the end.

    `keys`: set in every file, in this order; the fact is `ftype`.
    `imatrix_keys`: set after --override-kv's; the facts are `name`, `dataset`, `entries` and `chunks`.
    `whole_number`: the type in which --override-kv stores a whole number.
    `text_limit`: the bytes of a text that is set; the rest is cut off.
    """

    keys: dict[str, Setting]
    imatrix_keys: dict[str, Setting]
    whole_number: ValueType
    text_limit: int


@dataclass(frozen=True, repr=False)
class ImatrixRules:
    """What llama-imatrix measures and writes.

    `form`: that of its file, `dat` or `gguf`.
    `order`: of a legacy file's entries, from the names in the order of their first use.
    `whole_only`: a tensor has no entry in a legacy file unless all its experts were reached.
    `batch`: the tokens that a chunk is cut into (n_ubatch).
    `least_batch`: the tokens from which on a batch is measured.
    """

    form: str
    order: Order
    whole_only: bool
    batch: int
    least_batch: int

    def ends_whole(self, n_ctx: int) -> bool:
        """Whether the last batch, too, of chunks of so many tokens is measured."""
        return n_ctx >= self.least_batch and not 0 < n_ctx % self.batch < self.least_batch


@dataclass(frozen=True, repr=False)
class Converter:
    """What convert_hf_to_gguf.py writes into a model's metadata.

    `parts`: of the metadata, in their order: `general`, `model` and `vocabulary`.
    `general`: the keys that say who made the model out of what, in their order, without the `general.` in front.
    """

    parts: tuple[str, ...]
    general: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Reference:
    """All of llama.cpp that a tag decides, for the tags `b<first>` to `b<last>`, both included.

    `first`, `last`: build numbers, 0 where no tag is known.
    `generation`: the span's number in the keys of steps, never used twice.
    `arithmetic`: that of the quantizers.
    `call_weights`: the types whose bytes depend on how many weights ggml is handed at once, and how many that are.
    `ftypes`: the whole-file mixes by name.
    `roles`: part of a tensor's name → role, in the order in which a name is searched for them.
    `mix`: (role, ftype) → rule, of which reference/mix_rules.py says how it reads; the ftype `*` is any other.
    `attention_values`: parts of names whose tensors are counted as the attention's values.
    `large_architectures`: those whose models of 80 layers have the mix of 70B, beside llama's own.
    `fallbacks`: type → what stands for it where its blocks do not divide a row; F16 where those do not either.
    `kept`: parts of names whose tensors stay as they are.
    `kept_by_architecture`: architecture → names of tensors that stay as they are.
    `tied_architectures`: those without an output matrix of their own, whatever a file holds.
    `needs_importance`: (type, ftype) → the tensors that may be written without an importance vector; `*` as in `mix`.
    `order`: of the tensors in a file.
    `header`: of a quantized file.
    `imatrix`: of llama-imatrix.
    `converter`: of convert_hf_to_gguf.py.
    `options`: option of llama-quantize → the build that it came with.
    """

    first: int
    last: int
    generation: int
    arithmetic: QuantArithmetic
    call_weights: dict[str, int]
    ftypes: dict[str, Ftype]
    roles: dict[str, str]
    mix: dict[tuple[str, str], str]
    attention_values: tuple[str, ...]
    large_architectures: frozenset[str]
    fallbacks: dict[str, str]
    kept: tuple[str, ...]
    kept_by_architecture: dict[str, frozenset[str]]
    tied_architectures: frozenset[str]
    needs_importance: dict[tuple[str, str], frozenset[str]]
    order: Order
    header: Header
    imatrix: ImatrixRules
    converter: Converter
    options: dict[str, int]

    def __str__(self) -> str:
        return f"b{self.first} to b{self.last}"

    def ftype(self, name: str) -> Ftype:
        """The ftype of that name, whatever its case; UsageError naming the nearest spelling otherwise."""
        found = self.ftypes.get(name.upper())
        if found is None:
            known = " ".join(self.ftypes)
            raise UsageError(f"{name} is not an ftype{nearest(name, self.ftypes)}: known are {known}")
        return found
