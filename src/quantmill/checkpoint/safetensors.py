"""Weights as Hugging Face publishes them: safetensors files, one or in shards, validated and then mapped.

Pickles (.bin, .pt, .pth) can run code when they are opened; they are refused by name and never opened. Source of the
format: the safetensors repository's README and its reader's checks.
"""

import contextlib
import math
import mmap
import os
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from quantmill.checkpoint.file_names import INDEX, SINGLE
from quantmill.errors import QuantmillError, UsageError, listed
from quantmill.gguf.errors import shown
from quantmill.listing import UnfitJSON, strangers_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_HEADER = 100_000_000  # bytes of JSON; the limit of the safetensors library
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
MAX_DIMS = 64
_BITS = {
    4: "F4",
    6: "F6_E2M3 F6_E3M2",
    8: "BOOL U8 I8 F8_E4M3 F8_E5M2 F8_E8M0",
    16: "U16 I16 F16 BF16",
    32: "U32 I32 F32",
    64: "U64 I64 F64 C64",
}
BITS = {dtype: bits for bits, dtypes in _BITS.items() for dtype in dtypes.split()}
"""Bits of an element of every dtype."""


class WeightsError(QuantmillError):
    """Weights of a folder, or their index, that cannot be read."""


class UnsuitableWeights(UsageError, WeightsError):
    """What stands in the place of weights is none that can be read here."""


def _bad_file(name: str, what: str) -> WeightsError:
    """`what` says how the file breaks the format, and what would be right."""
    return WeightsError(f"{name}: {what}")


def _pickled(name: str) -> UnsuitableWeights:
    return UnsuitableWeights(
        f"{name}: weights as a pickle, which can run code when opened, are refused; "
        "use a revision of the model that has safetensors, or convert them where you trust them"
    )


@dataclass(frozen=True)
class Weight:
    """One tensor. `shape` is in PyTorch's order (rows first); `data` is its bytes, read-only and one-dimensional, which
    begin at byte `start` of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    data: "NDArray[np.uint8]"
    start: int = 0


class Weights(Mapping[str, Weight]):
    """The tensors of a model by name: file by file in the files' order, within a file in the data's order."""

    def __init__(self, tensors: dict[str, Weight], mappings: list[mmap.mmap]) -> None:
        self._tensors = tensors
        self._mappings = mappings

    def __getitem__(self, name: str) -> Weight:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def close(self) -> None:
        """Lets go of the mappings; each lives on as long as views of it do."""
        self._tensors = {}
        for mapping in self._mappings:
            with contextlib.suppress(BufferError):
                mapping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_weights(files: Mapping[str, Path]) -> Weights:
    """The weights among a model's files (name → path): `model.safetensors`, or the shards that the index names.

    Raises a WeightsError when there are only pickles or nothing, when a shard is missing, and for any file that breaks
    the format or disagrees with the index.
    """
    if SINGLE in files:
        names, index = [SINGLE], None
    elif INDEX in files:
        index = read_index(files[INDEX])
        names = sorted(set(index.values()))
        if missing := [name for name in names if name not in files]:
            named = listed([shown(name)[1:-1] for name in missing])
            raise _bad_file(INDEX, f"{named} named here but not among the model's files; fetch what is missing")
    else:
        pickles = sorted(name for name in files if name.lower().endswith(PICKLES))
        if pickles:
            raise _pickled(pickles[0])
        if shards := sorted(name for name in files if name.endswith(".safetensors")):
            raise WeightsError(
                f"the model's weights ({listed(shards)}) lie beside no {INDEX}, which says what they hold; fetch it"
            )
        raise UnsuitableWeights(f"the model has no weights: neither {SINGLE} nor {INDEX} is among its files")
    tensors: dict[str, Weight] = {}
    mappings = []
    for name in names:
        found, mapping = _read(files[name], name)
        mappings.append(mapping)
        for tensor in found:
            if tensor.name in tensors:
                raise _bad_file(name, f"the tensor {shown(tensor.name)} is in {tensors[tensor.name].file} already")
            if index is not None and index.get(tensor.name) != name:
                raise _bad_file(name, f"the tensor {shown(tensor.name)} is not what {INDEX} names for this file")
            tensors[tensor.name] = tensor
    if index is not None and (lost := sorted(index.keys() - tensors.keys())):
        raise _bad_file(index[lost[0]], f"the tensor {shown(lost[0])} that {INDEX} names is not there")
    return Weights(tensors, mappings)


def read_header(path: Path, place: str) -> dict[str, Weight]:
    """What a file's header says of its tensors, without their data; ValueError or UnfitJSON when it has none, and
    WeightsError for one that says what no file has."""
    import numpy as np

    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if length > MAX_HEADER:
            raise ValueError(length)
        header = strangers_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError(header)
    header.pop("__metadata__", None)
    described = (_described(place, name, facts) for name, facts in header.items())
    return {
        name: Weight(name, dtype, shape, place, np.empty(0, np.uint8), 8 + length + begin)
        for name, dtype, shape, begin, _ in described
    }


def check_file(path: Path, place: str) -> None:
    """Raises a WeightsError unless the file is a whole one."""
    _read(path, place)[1].close()


def read_index(path: Path) -> dict[str, str]:
    """The file of each tensor, from model.safetensors.index.json."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_HEADER + 1)
    except OSError as error:
        raise _bad_file(INDEX, f"cannot be read ({error.strerror}); name a file that you may read") from None
    if len(data) > MAX_HEADER:
        raise _bad_file(INDEX, f"it is larger than {MAX_HEADER} bytes; it is damaged or hostile, fetch it again")
    index = _json(INDEX, data, "it")
    table = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise _bad_file(INDEX, "it has no weight_map from tensors to file names; fetch it again")
    if pickles := sorted(name for name in set(table.values()) if name.lower().endswith(PICKLES)):
        raise _pickled(pickles[0])
    return table


def _json(place: str, data: bytes, what: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise _bad_file(place, f"the name {shown(twice)} is there twice; every name may be there once")
        return found

    try:
        return strangers_json(data, unique)
    except UnfitJSON as unfit:
        raise _bad_file(place, f"{what} {unfit}; it is damaged or hostile, fetch it again") from None
    except ValueError:
        raise _bad_file(place, f"{what} is not valid JSON; it is damaged or hostile, fetch it again") from None


def _read(path: Path, place: str) -> tuple[list[Weight], mmap.mmap]:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 8:
                raise _bad_file(place, f"{size} bytes are too few for a safetensors file; fetch it again")
            mapping = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _bad_file(place, f"cannot be read ({reason}); name an existing file that you may read") from None
    try:
        return _tensors(mapping, place), mapping
    except BaseException:
        with contextlib.suppress(BufferError):
            mapping.close()
        raise


def _tensors(mapping: mmap.mmap, place: str) -> list[Weight]:
    import numpy as np

    size = len(mapping)
    (length,) = struct.unpack_from("<Q", mapping)
    if mapping[:15] == b"version https:/":
        raise _bad_file(place, "a git-lfs pointer, not the file; fetch it with `git lfs pull` or `hf download`")
    if length > min(MAX_HEADER, size - 8):
        raise _bad_file(
            place,
            f"its header claims {length} bytes in a file of {size}; "
            "it was cut short, damaged or never one, fetch it again",
        )
    header = _json(place, mapping[8 : 8 + length], "the header")
    if not isinstance(header, dict):
        raise _bad_file(place, "the header is not a JSON object; fetch it again")
    header.pop("__metadata__", None)
    room = size - 8 - length
    found = [_described(place, name, facts) for name, facts in header.items()]
    found.sort(
        key=lambda tensor: tensor[3:]
    )  # by begin, then end: an empty tensor comes before what begins where it is
    end, before = 0, ""
    for name, _, _, begin, stop in found:
        if begin < end:
            raise _bad_file(
                place, f"the tensors {shown(before)} and {shown(name)} overlap; each needs bytes of its own"
            )
        if begin > end:
            raise _bad_file(place, f"{begin - end} bytes before the tensor {shown(name)} belong to none; none may")
        end, before = stop, name
    if end > room:
        raise _bad_file(place, f"{end - room} bytes are missing at the end; it was cut short, fetch it again")
    if end < room:
        raise _bad_file(place, f"{room - end} bytes at the end belong to no tensor; fetch it again")
    base = 8 + length
    return [
        Weight(name, dtype, shape, place, np.frombuffer(mapping, np.uint8, stop - begin, base + begin), base + begin)
        for name, dtype, shape, begin, stop in found
    ]


def _eighths(bits: int) -> str:
    """`bits` in bytes, exactly: a float would overflow where a hostile shape does."""
    return f"{bits // 8}{('', '', '.25', '', '.5', '', '.75')[bits % 8]}"


def _natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _described(place: str, name: str, facts: Any) -> tuple[str, str, tuple[int, ...], int, int]:
    """(name, dtype, shape, begin, end) of one entry of the header."""
    if not isinstance(facts, dict):
        raise _bad_file(place, f"the tensor {shown(name)} has no description; fetch the file again")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _bad_file(place, f"the name {shown(name)} is not Unicode text; fetch the file again") from None
    dtype, shape, offsets = facts.get("dtype"), facts.get("shape"), facts.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _bad_file(
            place, f"the tensor {shown(name)} has the unknown dtype {shown(str(dtype))}; known are {', '.join(BITS)}"
        )
    if not isinstance(shape, list) or len(shape) > MAX_DIMS or not all(map(_natural, shape)):
        claim = f"the tensor {shown(name)} has the shape {shown(str(shape))[1:-1]}"
        raise _bad_file(place, f"{claim}; it must be a list of at most {MAX_DIMS} whole numbers")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_natural, offsets)):
        raise _bad_file(
            place, f"the tensor {shown(name)} has the data_offsets {shown(str(offsets))[1:-1]}; it must be two numbers"
        )
    begin, end = offsets
    bits = math.prod(shape) * BITS[dtype]
    if bits % 8 or end - begin != bits // 8:
        raise _bad_file(
            place,
            f"the tensor {shown(name)} has {end - begin} bytes; "
            f"{dtype} of shape {shown(str(shape))[1:-1]} takes {shown(_eighths(bits))[1:-1]}",
        )
    return name, dtype, tuple(shape), begin, end
