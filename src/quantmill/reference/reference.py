"""What llama.cpp of a span of tags does, as one frozen record of plain data.

A span that differs from its neighbour is `replace(neighbour, …)` with the facts that differ (docs/reference.md). Rules
and keys are dictionaries, so that one of them is changed with `|`. Nobody writes into a record.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from quantmill.errors import UsageError, nearest
from quantmill.gguf.types import ValueType
from quantmill.reference.arithmetic import QuantArithmetic
from quantmill.reference.converter import Converter
from quantmill.reference.ftypes import Ftype

if TYPE_CHECKING:
    from quantmill.gguf.token_facts import Known

# How llama-quantize reads the --tensor-type whose patterns match a tensor: the first that changes the rule's type;
# the last; the last, but none where the rule's type had to fall back; before the rules, the first that differs from
# the ftype's type; before them, the first. `unsure`: the first, refused where the first that changes is another.
Patterns = Literal["unsure", "changing", "last", "last unless fallen back", "before if other", "before"]

Order = Callable[[Iterable[str]], list[str]]

# A metadata entry that a tool sets: its value's type, and the value itself or the name of the fact that is the value.
# An entry whose fact is not there is not set.
Setting = tuple[ValueType, int | str]


@dataclass(frozen=True, repr=False, eq=False)
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


@dataclass(frozen=True, repr=False, eq=False)
class ImatrixRules:
    """What llama-imatrix measures and writes.

    `form`: that of its file where nothing else is asked for, `dat` or `gguf`.
    `order`: of a legacy file's entries, from the names in the order of their first use.
    `whole_only`: a tensor has no entry in a legacy file unless all its experts were reached.
    `calls`: what an entry of a legacy file counts: batches, or chunks of the tensor's rows, rounded up.
    `parses_special`: whether --parse-special is known to be there.
    `batch`: the tokens that a chunk is cut into (n_ubatch).
    `least_batch`: the tokens from which on a batch is measured.
    """

    form: str
    order: Order
    whole_only: bool
    calls: Literal["batches", "chunks"]
    parses_special: bool
    batch: int
    least_batch: int

    def ends_whole(self, n_ctx: int) -> bool:
        """Whether the last batch, too, of chunks of so many tokens is measured."""
        return n_ctx >= self.least_batch and not 0 < n_ctx % self.batch < self.least_batch

    def file_name(self, form: str) -> str:
        """What a build calls a matrix of that form; spans whose own form is the legacy one know one name."""
        return f"imatrix.{form if self.form == 'gguf' else 'dat'}"


@dataclass(frozen=True, repr=False, eq=False)
class Reference:
    """All of llama.cpp that a tag decides, for the tags `b<first>` to `b<last>`, both included, and for `names`.

    `first`, `last`: build numbers, 0 where no tag is known.
    `names`: tags without a build number, such as `v0.5.0`.
    `generation`: the span's number in the keys of steps, never used twice.
    `arithmetic`: that of the quantizers.
    `call_weights`: the types whose bytes depend on how many weights ggml is handed at once, and how many that are.
    `ftypes`: the whole-file mixes by name.
    `roles`: part of a tensor's name → role, in the order in which a name is searched for them.
    `mix`: (role, ftype) → rule, of which reference/mix_rules.py says how it reads; the ftype `*` is any other.
    `attention_values`: parts of names whose tensors are counted as the attention's values.
    `is_attention_checked`: whether those must be as many as the metadata says.
    `embeddings`: the tensors that take the mix's `token_embd`.
    `tied_embeddings`: those of them that take `output` in a file without an output matrix.
    `embeddings_by_option`: those that --token-embedding-type decides, whatever else is asked for.
    `is_embedding_named`: whether a --tensor-type that names the embedding per layer beats --token-embedding-type.
    `large`: architecture → the layers of the model whose attention's values take more bits, as llama's 70B does.
    `fallbacks`: type → what stands for it where its blocks do not divide a row; F16 where those do not either.
    `kept`: parts of names whose tensors stay as they are.
    `kept_names`: architecture, or `*` → names of tensors that stay as they are.
    `kept_parts`: architecture → parts of names whose tensors stay as they are.
    `least`: architecture → parts of names, and the type that their tensors take whatever the mix says.
    `tied_architectures`: those without an output matrix of their own, whatever a file holds.
    `patterns`: how several --tensor-type for one tensor are read; quant/mix.py names the ways.
    `pure_fits`: whether --pure heeds --tensor-type and the fallbacks.
    `nextn_layers_count`: whether layers of multi-token prediction count among the feed-forward's.
    `needs_importance`: (type, ftype) → the tensors that may be written without an importance vector; `*` as in `mix`.
    `order`: of the tensors in a file.
    `header`: of a quantized file.
    `imatrix`: of llama-imatrix.
    `converter`: of convert_hf_to_gguf.py.
    `options`: option of llama-quantize → the build that it came with.
    `tokenizers`: the kinds of vocabularies that llama.cpp loads, by `tokenizer.ggml.model`.
    `pre_tokenizers`: what it knows of `tokenizer.ggml.pre`; it loads no byte-level vocabulary with another. Both are
    what the span's first tag knows, by its library, and so all of them.
    """

    first: int
    last: int
    names: tuple[str, ...]
    generation: int
    arithmetic: QuantArithmetic
    call_weights: dict[str, int]
    ftypes: dict[str, Ftype]
    roles: dict[str, str]
    mix: dict[tuple[str, str], str]
    attention_values: tuple[str, ...]
    is_attention_checked: bool
    embeddings: tuple[str, ...]
    tied_embeddings: tuple[str, ...]
    embeddings_by_option: tuple[str, ...]
    is_embedding_named: bool
    large: dict[str, int]
    fallbacks: dict[str, str]
    kept: tuple[str, ...]
    kept_names: dict[str, frozenset[str]]
    kept_parts: dict[str, tuple[str, ...]]
    least: dict[str, tuple[tuple[str, ...], str]]
    tied_architectures: frozenset[str]
    patterns: Patterns
    pure_fits: bool
    nextn_layers_count: bool
    needs_importance: dict[tuple[str, str], frozenset[str]]
    order: Order
    header: Header
    imatrix: ImatrixRules
    converter: Converter
    options: dict[str, int]
    tokenizers: tuple[str, ...]
    pre_tokenizers: tuple[str, ...]

    def __str__(self) -> str:
        builds = f"b{self.first}" if self.first == self.last else f"b{self.first} to b{self.last}"
        return ", ".join((builds, *self.names))

    def converts_as(self, tag: str) -> str | None:
        """The tag whose converter stands for that of `tag`, None where that is reproduced."""
        return self.converter.tag if self.converter.stands_in(tag) else None

    def ftype(self, name: str) -> Ftype:
        """The ftype of that name, whatever its case; UsageError naming the nearest spelling otherwise."""
        found = self.ftypes.get(name.upper())
        if found is None:
            known = " ".join(self.ftypes)
            raise UsageError(f"{name} is not an ftype{nearest(name, self.ftypes)}: known are {known}")
        return found

    @property
    def known_tokenizers(self) -> "Known":
        """What a file's vocabulary may be named by."""
        from quantmill.gguf.token_facts import Known

        return Known(str(self), self.tokenizers, self.pre_tokenizers)

    def check_pre_tokenizer(self, name: str) -> None:
        """UsageError naming the nearest spelling unless llama.cpp of the span knows this `tokenizer.ggml.pre`."""
        if name not in self.pre_tokenizers:
            likely, known = nearest(name, self.pre_tokenizers), ", ".join(self.pre_tokenizers)
            raise UsageError(f"{name!r} is no pre-tokenizer of llama.cpp {self}{likely}: known are {known}")
