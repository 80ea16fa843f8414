"""One exception for every promise that a GGUF file or a call can break, each carrying its facts.

`place` is the file as the user knows it. Give the facts by position: they are the exception's `args`, so an exception
can be pickled on its way back from another process.
"""

from dataclasses import dataclass

from quantmill.errors import QuantmillError, UsageError


def shown(text: str) -> str:
    """`text` quoted for a message: control characters escaped, at most 80 characters."""
    quoted = repr(text)
    return quoted if len(quoted) <= 80 else quoted[:60] + "…" + quoted[-16:]


class GGUFError(QuantmillError):
    """Something is wrong with a GGUF file."""


@dataclass(eq=False)
class Unreadable(GGUFError):
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: cannot be read ({self.reason}); name an existing file that you may read"


@dataclass(eq=False)
class Changed(GGUFError):
    place: str

    def __str__(self) -> str:
        return f"{self.place}: changed while it was read; run again when nothing writes to it"


@dataclass(eq=False)
class NotGGUF(GGUFError):
    place: str
    found: str  # what it is instead, with the cure, as the end of a sentence

    def __str__(self) -> str:
        return f"{self.place}: not a GGUF file but {self.found}"


@dataclass(eq=False)
class BigEndian(GGUFError):
    place: str

    def __str__(self) -> str:
        return f"{self.place}: a big-endian GGUF file; only little-endian ones are supported, convert it to one first"


@dataclass(eq=False)
class UnsupportedVersion(GGUFError):
    place: str
    version: int

    def __str__(self) -> str:
        return (
            f"{self.place}: GGUF version {self.version} is not supported; versions 2 and 3 are, convert the model anew"
        )


@dataclass(eq=False)
class TruncatedHeader(GGUFError):
    place: str
    size: int
    what: str  # what was being read where the file ends

    def __str__(self) -> str:
        return f"{self.place}: ends after {self.size} bytes, inside {self.what}; it was cut short, fetch it again"


@dataclass(eq=False)
class Truncated(GGUFError):
    place: str
    size: int
    expected: int

    def __str__(self) -> str:
        return (
            f"{self.place}: {self.expected - self.size} bytes are missing ({self.size} of {self.expected} are there); "
            "it was cut short, fetch it again"
        )


@dataclass(eq=False)
class ImpossibleCount(GGUFError):
    place: str
    what: str
    count: int
    size: int

    def __str__(self) -> str:
        return (
            f"{self.place}: {self.what} claims {self.count}, more than a file of {self.size} bytes can hold; "
            "it is damaged or was cut short, fetch it again"
        )


@dataclass(eq=False)
class InvalidText(GGUFError):
    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what} is not UTF-8; GGUF allows no other text, make the file anew"


@dataclass(eq=False)
class InvalidName(GGUFError):
    place: str
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what} {self.why}"


@dataclass(eq=False)
class DuplicateKey(GGUFError):
    place: str
    key: str

    def __str__(self) -> str:
        return f"{self.place}: the key {shown(self.key)} is there twice; every key may be there once"


@dataclass(eq=False)
class DuplicateTensor(GGUFError):
    place: str
    tensor: str

    def __str__(self) -> str:
        return f"{self.place}: the tensor {shown(self.tensor)} is there twice; every tensor may be there once"


@dataclass(eq=False)
class UnknownValueType(GGUFError):
    place: str
    key: str
    type: int

    def __str__(self) -> str:
        return f"{self.place}: the key {shown(self.key)} has the unknown value type {self.type}; GGUF has types 0 to 12"


@dataclass(eq=False)
class NestedArray(GGUFError):
    place: str
    key: str

    def __str__(self) -> str:
        return f"{self.place}: the key {shown(self.key)} is an array of arrays; llama.cpp reads flat arrays only"


@dataclass(eq=False)
class InvalidValue(GGUFError):
    """A value handed to `kv` does not fit the type it is to be stored as."""

    key: str
    value: str
    type: str

    def __str__(self) -> str:
        return f"the key {shown(self.key)} cannot hold {shown(self.value)} as {self.type}; give a value of that type"


@dataclass(eq=False)
class InvalidAlignment(GGUFError):
    place: str
    alignment: str

    def __str__(self) -> str:
        return f"{self.place}: general.alignment is {self.alignment}; it must be a power of two stored as UINT32"


@dataclass(eq=False)
class InvalidShape(GGUFError):
    place: str
    tensor: str
    shape: str
    why: str

    def __str__(self) -> str:
        return f"{self.place}: the tensor {shown(self.tensor)} has {self.shape}; {self.why}"


# Blocks interleaved in the file, of types that their ids no longer name; rows are interleaved in memory instead.
_WITHDRAWN = {31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8"}


@dataclass(eq=False)
class UnknownTensorType(GGUFError):
    place: str
    tensor: str
    id: int

    def __str__(self) -> str:
        if old := _WITHDRAWN.get(self.id):
            return (
                f"{self.place}: the tensor {shown(self.tensor)} has the type {old}, which llama.cpp withdrew in b4282; "
                f"use {old[:-4]}, which is repacked when it is loaded"
            )
        return (
            f"{self.place}: the tensor {shown(self.tensor)} has the unknown type {self.id}; "
            "the file is damaged, or its type is newer than this version or was withdrawn from ggml"
        )


@dataclass(eq=False)
class PartialBlock(GGUFError):
    place: str
    tensor: str
    columns: int
    type: str
    block: int

    def __str__(self) -> str:
        return (
            f"{self.place}: the tensor {shown(self.tensor)} has rows of {self.columns} weights; "
            f"{self.type} needs a multiple of {self.block}"
        )


@dataclass(eq=False)
class MisalignedTensor(GGUFError):
    place: str
    tensor: str
    offset: int
    alignment: int

    def __str__(self) -> str:
        return (
            f"{self.place}: the tensor {shown(self.tensor)} is at offset {self.offset}; "
            f"offsets must be multiples of {self.alignment}"
        )


@dataclass(eq=False)
class OverlappingTensors(GGUFError):
    place: str
    first: str
    second: str

    def __str__(self) -> str:
        return (
            f"{self.place}: the tensors {shown(self.first)} and {shown(self.second)} overlap; "
            "each must begin where the one before it ends"
        )


@dataclass(eq=False)
class GapBeforeTensor(GGUFError):
    place: str
    tensor: str
    offset: int
    expected: int

    def __str__(self) -> str:
        return (
            f"{self.place}: the tensor {shown(self.tensor)} is at offset {self.offset}; "
            f"the one before it ends at {self.expected} and llama.cpp allows no gap"
        )


@dataclass(eq=False)
class WrongByteCount(GGUFError):
    """The writer was handed too many or too few bytes: a mistake of its caller, never of a file."""

    place: str
    tensor: str
    given: int
    expected: int

    def __str__(self) -> str:
        return f"{self.place}: the tensor {shown(self.tensor)} was given {self.given} bytes; it takes {self.expected}"


@dataclass(eq=False)
class DiskFull(GGUFError):
    place: str
    written: int
    needed: int

    def __str__(self) -> str:
        return (
            f"{self.place}: the disk is full after {self.written} of {self.needed} bytes; "
            f"free {self.needed - self.written} bytes there and run again"
        )


@dataclass(eq=False)
class WriteFailed(GGUFError):
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: cannot be written ({self.reason}); name a place where you may write"


class GGUFUsageError(UsageError, GGUFError):
    """What was asked of a GGUF file cannot be done to it."""
