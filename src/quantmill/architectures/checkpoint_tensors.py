"""The tensors of a model of Hugging Face layout and their names in a GGUF file, from config.json alone.

So a plan knows a release's bytes before any weight exists. Names and order are those of llama.cpp's
convert_hf_to_gguf.py at b5490.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from quantmill.architectures.architecture import Architecture, Facts, ModelClass, TensorLine
from quantmill.architectures.conditions import Sizes
from quantmill.architectures.configuration import head_dim, hparams
from quantmill.architectures.errors import DamagedModel, ModelError
from quantmill.architectures.known import class_of
from quantmill.architectures.metadata_keys import config_sizes
from quantmill.architectures.packing import own_names
from quantmill.architectures.rope_factors import GENERATED
from quantmill.architectures.sizes import shape_of, size_of, with_products
from quantmill.gguf.types import TYPES, Type

if TYPE_CHECKING:
    from quantmill.gguf.layout import TensorEntry

_OUTPUT, _HEAD = "output.weight", "lm_head.weight"
_F32 = ("_norm.weight", "ffn_gate_inp.weight")  # matrices that the converter keeps as they count for much

# What old checkpoints carry and the converter drops: buffers that a model computes for itself.
_BUFFERS = (".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of the GGUF file.

    `shape`: in ggml's order (the row's length first)
    `sources`: the checkpoint's names that it is made of (each one matrix of a stack); empty: computed from config.json
    `keep_f32`: stays F32 whatever the file's type (norms, biases, everything of one dimension)
    `cut`: the first row of the source that is its own, and how many the source has; (0, 0): all are
    `heads`: the number of heads whose rows are to be permuted, 0 for none
    `added`: what is added to every value, in the checkpoint's own precision
    `change`: what else is done to the values, a name of checkpoint/changes.py
    `fixed`: the type that it has whatever the file's; empty for the file's
    `picked`: the source's rows that it is made of, one by one; empty for all
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    keep_f32: bool
    cut: tuple[int, int] = (0, 0)
    heads: int = 0
    added: int = 0
    change: str = ""
    fixed: str = ""
    picked: tuple[int, ...] = ()

    @property
    def is_stack(self) -> bool:
        """Whether each source is one matrix of several."""
        return len(self.shape) == 3 and len(self.sources) == self.shape[2] and not self.change

    def type(self, file_type: str) -> Type:
        """The tensor's type in a file of type F32, F16 or BF16."""
        return TYPES["F32" if self.keep_f32 else self.fixed or file_type]

    def entry(self, file_type: str) -> "TensorEntry":
        """The tensor in the header of such a file."""
        from quantmill.gguf.layout import TensorEntry

        return TensorEntry(self.name, self.shape, self.type(file_type))

    @property
    def n_elements(self) -> int:
        return prod(self.shape)


def _left_out(class_: ModelClass, layers: int, source: str) -> bool:
    """Whether a checkpoint's tensor is one that the converter drops without a word."""
    layer = class_.is_cut and re.match(re.escape(class_.part + class_.layers) + r"(\d+)\.", source)
    if layer and int(layer[1]) >= layers:
        return True
    dropped = class_.dropped and re.match(class_.dropped, source)
    return bool(dropped) or source.endswith(_BUFFERS) or source.startswith(class_.others)


def tensors(
    config: Mapping[str, Any], sources: Iterable[str] | None = None, *, output: bool = False
) -> list[TensorSpec]:
    """Every tensor of the GGUF file in the converter's output order; reads no weights.

    The converter goes through the checkpoint's files in order of name, in each by tensor name. Without `sources` that
    is one file. With `sources`, the checkpoint's own names in the order of its files, it is theirs. An output matrix
    that exists beside tied embeddings is written, as the converter does: one among `sources`, or `output`. Raises
    ModelError when `sources` are not the architecture's.
    """
    (row, class_), found = class_of(config), hparams(config)
    tied = bool(found["tie_word_embeddings"])
    layers: int = found["num_hidden_layers"]
    has_output = output or sources is not None or not tied
    alone = tied and class_.is_tied_alone
    sources = list(sources) if sources is not None else None
    specs = list(_specs(row, class_, found, has_output and not alone, frozenset(sources or ())))
    for spec in specs:
        if not spec.sources:
            GENERATED[spec.name](found)  # what is wrong with it is to be known before any weight is
        if spec.fixed and spec.shape[0] % TYPES[spec.fixed].block:
            raise ModelError(
                f"config.json: the tensor {spec.name} would have rows of {spec.shape[0]} weights; {spec.fixed} needs a "
                f"multiple of {TYPES[spec.fixed].block}"
            )
    expected: dict[str, list[TensorSpec]] = {}
    for spec in specs:
        for source in spec.sources:
            expected.setdefault(source, []).append(spec)
    if sources is None:
        order = sorted(expected)
    else:
        own = own_names(config, sources)
        order = [name for name in own if not _left_out(class_, layers, name) and not (alone and name == _HEAD)]
        for name in order:
            if name not in expected:
                raise ModelError(f"the safetensors files hold a tensor {name!r}, for which {class_.name} has no place")
        spared = {source for spec in specs if spec.name == _OUTPUT and tied for source in spec.sources}
        missing = sorted(expected.keys() - set(order) - spared)
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DamagedModel(f"the safetensors files lack the tensor {missing[0]!r}{more}, which {class_.name} needs")
    found_in_order = list(_in_order(order, expected, specs, class_.stacks))
    first = [spec for spec in specs if not spec.sources] + [spec for spec in found_in_order if spec.fixed]
    return first + [spec for spec in found_in_order if not spec.fixed]


def _in_order(
    order: list[str], expected: Mapping[str, list[TensorSpec]], specs: list[TensorSpec], stacks: tuple[str, ...]
) -> Iterator[TensorSpec]:
    """The tensors as the converter comes to them, those of several sources when it has met the last of these: stacks
    of a layer together, when it has met the last of the layer's experts."""
    groups: dict[str, list[TensorSpec]] = {}
    group_of: dict[str, str] = {}
    for spec in specs:
        if len(spec.sources) > 1 or spec.is_stack:
            group_of[spec.name] = _group(spec)
            groups.setdefault(_group(spec), []).append(spec)
    waiting = {group: sum(len(spec.sources) for spec in found) for group, found in groups.items()}
    for name in order:
        for spec in expected[name]:
            group = group_of.get(spec.name)
            if group is None:
                yield spec
                continue
            waiting[group] -= 1
            if not waiting[group]:
                yield from sorted(groups[group], key=lambda spec: _rank(spec, stacks))


def _rank(spec: TensorSpec, stacks: tuple[str, ...]) -> tuple[int, str]:
    name = spec.name.split(".", 2)[-1]
    return (stacks.index(name) if name in stacks else len(stacks)), spec.sources[0]


def _group(spec: TensorSpec) -> str:
    """What is written together: the stacks of a layer's experts, or the tensor alone."""
    return (spec.is_stack and spec.name.rpartition(".ffn_")[0]) or spec.name


def _specs(
    row: Architecture, class_: ModelClass, found: Facts, has_output: bool, there: frozenset[str]
) -> Iterator[TensorSpec]:
    """`there` are the checkpoint's tensors, none where they are not known."""
    sizes = _sizes(row, class_, found)
    own, fused = ({line.name: line for line in lines} for lines in (class_.tensors, class_.fused))
    layers: int = found["num_hidden_layers"]
    first = layers - found.get("nextn", 0)  # of those behind the model's own
    places = [(row.top, 0, class_.part, "")]
    places += [(row.layer, i, f"{class_.part}{class_.layers}{i}.", f"blk.{i}.") for i in range(first)]
    places += [(row.layer, i, f"{class_.behind}{i - first}.", f"blk.{i}.") for i in range(first, layers)]
    for table, layer, source, prefix in places:
        here = {**found, "layer": layer}
        for line in (own.get(line.name, line) for line in table):
            asked = has_output if line.name == _OUTPUT else _asked(line, here)
            if asked and line.where(sizes, layer):
                spec = _spec(line, sizes, layer, source, prefix)
                if line.name in fused and there.isdisjoint(spec.sources):
                    other = _spec(fused[line.name], sizes, layer, source, prefix)
                    spec = other if there.issuperset(other.sources) else spec
                yield spec


def _asked(line: TensorLine, found: Facts) -> bool:
    if line.asked is None:
        return bool(line.source)
    return line.asked(found) if callable(line.asked) else bool(found.get(line.asked))


def _spec(line: TensorLine, sizes: Sizes, layer: int, source: str, prefix: str) -> TensorSpec:
    dims = shape_of(line, sizes, layer)
    parts = [str(expert) for expert in range(dims[-1])] if "*" in line.source else [""]
    names = [name.replace("*", part) for part in parts for name in line.source.split()]
    sources = tuple(name[1:] if name.startswith("/") else source + name for name in names)
    keep = line.f32 or len(dims) == 1 or not line.name.endswith(".weight") or line.name.endswith(_F32)
    count = size_of(line.heads, sizes, layer) if line.heads else 0
    cut = (_sum(line.cut[0], sizes, layer), _sum(line.cut[1], sizes, layer))
    return TensorSpec(prefix + line.name, dims, sources, keep, cut, count, line.added, line.change, line.type)


def _sum(names: str, sizes: Sizes, layer: int) -> int:
    return sum(size_of(name, sizes, layer) for name in names.split())


def _sizes(row: Architecture, class_: ModelClass, found: Facts) -> Sizes:
    head = head_dim(found)
    if head % 2 and any(line.heads for line in row.layer):
        raise ModelError(f"config.json's `head_dim` is {head}; rotary positions need an even one")
    return with_products(
        row,
        {
            "layers": found["num_hidden_layers"],
            "embd": found["hidden_size"],
            "vocab": found["vocab_size"],
            "heads": found["num_attention_heads"],
            "kv_heads": found["num_key_value_heads"],
            "head": head,
            "ff": found["intermediate_size"],
            "eff": found.get("moe_intermediate_size") or 0,
            "experts": found["num_experts"] if class_.mixture else 0,
            "experts_used": found["num_experts_per_tok"] if class_.mixture else 0,
            **config_sizes(row, found),
            **found.get("sizes", {}),
        },
    )
