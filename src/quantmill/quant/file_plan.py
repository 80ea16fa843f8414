"""A quantized file before any weight is read: its metadata, its tensors in order, and the exact size in bytes.

Source of the rules: llama-quant.cpp, quantize.cpp and gguf.cpp of llama.cpp; what its tags decide stands in a
reference. The quantizer writes what this says, so a plan and a file cannot disagree.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantmill.errors import UsageError
from quantmill.gguf.layout import TensorEntry, file_size, ggml_shape
from quantmill.gguf.shards import COUNT, NO, TENSORS
from quantmill.gguf.types import Type, ValueType
from quantmill.gguf.values import KV, kv
from quantmill.quant.mix import NO_OVERRIDES, Fallback, Overrides, plan_types
from quantmill.quant.pruning import Pruned
from quantmill.reference.ftypes import Ftype
from quantmill.reference.hparams import Hparams
from quantmill.reference.reference import Header, Reference, Setting

MIX_KEY = "quantmill.mix"  # of the metadata: how the types of a file's tensors were searched
GUESSED = 1024  # llama.h LLAMA_FTYPE_GUESSED: the base did not say its ftype


@dataclass(frozen=True)
class ImatrixFacts:
    """What a quantized file says of its imatrix: the name it was given by, and what the imatrix says of itself."""

    name: str
    dataset: bytes
    entries: int
    chunks: int


@dataclass(frozen=True)
class FilePlan:
    """A file to be written. `types` and `sources` cover its tensors, in the order in which they are written."""

    kvs: tuple[KV, ...]
    tensors: tuple[TensorEntry, ...]
    n_bytes: int
    types: Mapping[str, Type]
    sources: Mapping[str, Type]
    fallbacks: tuple[Fallback, ...]


Value = int | float | bool | str


def plan_file(
    reference: Reference,
    kvs: Iterable[KV],
    tensors: Iterable[TensorEntry],
    ftype: str,
    *,
    imatrix: ImatrixFacts | None = None,
    overrides: Overrides = NO_OVERRIDES,
    override_kv: Sequence[tuple[str, Value]] = (),
    pruned: Pruned | None = None,
) -> FilePlan:
    """The file that llama-quantize makes of a base with these entries and tensors; `pruned`: of what is left of them.

    Raises UsageError (WidthDoesNotFit, an unknown ftype, no imatrix where one is needed) and ModelFacts.
    """
    found = reference.ftype(ftype)
    by_name = {tensor[0]: tensor for tensor in tensors}
    ordered = [by_name[name] for name in reference.order(by_name)]
    return _plan(reference, list(kvs), [ordered], found, imatrix, overrides, override_kv, pruned)[0]


def plan_split(
    reference: Reference,
    kvs: Iterable[KV],
    shards: Sequence[Sequence[TensorEntry]],
    ftype: str,
    *,
    imatrix: ImatrixFacts | None = None,
    overrides: Overrides = NO_OVERRIDES,
    override_kv: Sequence[tuple[str, Value]] = (),
    pruned: Pruned | None = None,
) -> list[FilePlan]:
    """The shards that llama-quantize makes with --keep-split of a base in these shards, tensors in their file order."""
    return _plan(reference, list(kvs), shards, reference.ftype(ftype), imatrix, overrides, override_kv, pruned)


def parse_override(text: str) -> tuple[str, Value]:
    """`KEY=TYPE:VALUE` of --override-kv, TYPE one of int, float, bool, str; UsageError says what does not fit."""
    key, equals, rest = text.partition("=")
    kind, colon, value = rest.partition(":")
    if not (key and equals and colon) or kind not in ("int", "float", "bool", "str"):
        raise UsageError(f"{text!r} is not an override; write KEY=TYPE:VALUE with int, float, bool or str as the type")
    try:
        if kind == "int":
            return key, int(value)
        if kind == "float":
            return key, float(value)
    except ValueError:
        raise UsageError(f"{text!r}: {value!r} is not a value of type {kind}") from None
    if kind == "bool" and value not in ("true", "false"):
        raise UsageError(f"{text!r}: a bool is true or false, not {value!r}")
    return key, value == "true" if kind == "bool" else value


def _plan(
    reference: Reference,
    kvs: list[KV],
    shards: Sequence[Sequence[TensorEntry]],
    ftype: Ftype,
    imatrix: ImatrixFacts | None,
    overrides: Overrides,
    override_kv: Sequence[tuple[str, Value]],
    pruned: Pruned | None,
) -> list[FilePlan]:
    if pruned:
        shards = [pruned.applied(shard) for shard in shards]
        if not all(shards):
            raise UsageError("a shard of the base has no tensor left, and the split cannot be kept; prune without it")
    settings = [_setting(reference.header, key, value) for key, value in override_kv]
    everything = [tensor for shard in shards for tensor in shard]
    facts = _model_facts(kvs, override_kv)
    hparams, guided = Hparams.from_metadata(facts), imatrix is not None
    values = pruned.values if pruned else 0
    mix = plan_types(reference, ftype, hparams, everything, guided, overrides, keep_order=True, pruned_values=values)
    number = _copied_ftype(reference, facts, mix.sources.values()) if ftype.name == "COPY" else ftype.id
    first = _first_entries(reference.header, kvs, number, settings, imatrix)
    if pruned:
        key = f"{hparams.arch}.block_count"
        first = [*(entry for entry in first if entry.key != key), kv(key, pruned.layers, ValueType.UINT32)]
    planned = []
    for index, shard in enumerate(shards):
        entries = list(first) if index == 0 else []
        if len(shards) > 1:
            entries += [
                kv(NO, index, ValueType.UINT16),
                kv(COUNT, len(shards), ValueType.UINT16),
                kv(TENSORS, len(everything), ValueType.INT32),
            ]
        described = tuple(TensorEntry(name, ggml_shape(tuple(shape)), mix.types[name]) for name, shape, _ in shard)
        names = {name: None for name, _, _ in shard}  # a set in order: a file may have very many tensors
        planned.append(
            FilePlan(
                kvs=tuple(entries),
                tensors=described,
                n_bytes=file_size(entries, described),
                types={name: mix.types[name] for name in names},
                sources={name: mix.sources[name] for name in names},
                fallbacks=tuple(fallback for fallback in mix.fallbacks if fallback.tensor in names),
            )
        )
    return planned


def _first_entries(
    header: Header, kvs: list[KV], ftype: int, settings: list[KV], imatrix: ImatrixFacts | None
) -> list[KV]:
    """The metadata as llama-quantize orders it: a key that it sets moves to the end."""
    found = {entry.key: entry.canonical() for entry in kvs}

    def put(entry: KV) -> None:
        found.pop(entry.key, None)
        found[entry.key] = entry

    for entry in _set(header, header.keys, {"ftype": ftype}):
        put(entry)
    for key in (NO, COUNT, TENSORS):
        found.pop(key, None)
    for entry in settings:
        put(entry)
    if imatrix is not None:
        facts: dict[str, int | bytes] = {
            "name": imatrix.name.encode(errors="surrogateescape"),
            "entries": imatrix.entries,
        }
        if imatrix.dataset:
            facts["dataset"] = imatrix.dataset
        if imatrix.chunks > 0:
            facts["chunks"] = imatrix.chunks
        for entry in _set(header, header.imatrix_keys, facts):
            put(entry)
    return list(found.values())


def _set(header: Header, keys: Mapping[str, Setting], facts: Mapping[str, int | bytes]) -> Iterator[KV]:
    """The entries of `keys` whose facts are there.

    A text is cut, and what is not UTF-8 in it left out, which `gguf.read` would refuse in a file; the tool copies the
    bytes and may cut within a character.
    """
    for key, (type_, said) in keys.items():
        value = facts.get(said) if isinstance(said, str) else said
        if isinstance(value, bytes):
            yield kv(key, value.split(b"\0")[0][: header.text_limit].decode(errors="ignore"), type_)
        elif value is not None:
            yield kv(key, value, type_)


def _setting(header: Header, key: str, value: Value) -> KV:
    """An entry as --override-kv stores it: 32-bit numbers, texts of at most 127 bytes."""
    if key == "general.alignment":
        raise UsageError("general.alignment cannot be overridden: the data would no longer be where the file says")
    if not 0 < len(key.encode()) <= header.text_limit:
        raise UsageError(f"the key {key!r} cannot be overridden: it must have 1 to {header.text_limit} bytes")
    if isinstance(value, bool):
        return kv(key, value, ValueType.BOOL)
    if isinstance(value, int):
        if not -(2**31) <= value < 2**31:
            raise UsageError(f"{key} cannot be overridden with {value}, which 32 bits with a sign do not hold")
        return kv(key, abs(value) if header.whole_number is ValueType.UINT32 else value, header.whole_number)
    if isinstance(value, float):
        return kv(key, value, ValueType.FLOAT32)
    if len(value.encode()) > header.text_limit:
        raise UsageError(f"{key} cannot be overridden with a text of more than {header.text_limit} bytes")
    return kv(key, value, ValueType.STRING)


_FACTS = ("block_count", "expert_count", "attention.head_count", "attention.head_count_kv", "nextn_predict_layers")


def _model_facts(kvs: list[KV], override_kv: Sequence[tuple[str, Value]]) -> dict[str, Any]:
    """The decoded entries that the mix needs, with what --override-kv changes about the model itself.

    The first override of a key counts here (the last one is written), and only where its kind is the key's own. A
    value that may be one a layer is overridden only where the base has it as one for all.
    """
    by_key = {entry.key: entry for entry in kvs}
    given: dict[str, Value] = {}
    for key, setting in override_kv:
        given.setdefault(key, setting)
    arch: Any = given.get("general.architecture")
    if not isinstance(arch, str):
        arch = by_key["general.architecture"].value if "general.architecture" in by_key else None
    facts: dict[str, Any] = {"general.architecture": arch}
    for key in (*(f"{arch}.{fact}" for fact in _FACTS), "general.file_type"):
        entry, value = by_key.get(key), given.get(key)
        per_layer = ".attention." in key
        if type(value) is int and not (per_layer and (entry is None or entry.subtype is not None)):
            facts[key] = value
        elif entry is not None:
            facts[key] = entry.value
    return facts


def _copied_ftype(reference: Reference, facts: Mapping[str, Any], types: Iterable[Type]) -> int:
    """The ftype's number that a copy keeps: the base's own, else a guess from the type that first leads in number."""
    stored = facts.get("general.file_type")
    if isinstance(stored, int):
        return stored
    counts: dict[str, int] = {}
    leader, most = "F32", 0
    for type_ in types:
        counts[type_.name] = counts.get(type_.name, 0) + 1
        if counts[type_.name] > most:
            leader, most = type_.name, counts[type_.name]
    guess = reference.ftypes.get(leader)
    return (guess.id if guess else 0) | GUESSED
