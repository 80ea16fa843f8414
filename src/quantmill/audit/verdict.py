"""What an audit found: of a tensor, of the metadata, of a file."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from quantmill.reference.reference import Reference

Word = Literal["same", "other tag", "within rounding", "changed", "cannot tell"]
WORDS: tuple[Word, ...] = ("same", "other tag", "within rounding", "changed", "cannot tell")


@dataclass(frozen=True)
class Spot:
    """A weight: its place in its block, the block's in the tensor, what the base has there and what the file has."""

    block: int
    weight: int
    base: float
    found: float

    def __str__(self) -> str:
        return f"block {self.block}, weight {self.weight}: {self.base:.6g} in the base, {self.found:.6g} here"

    def to_json(self) -> dict[str, Any]:
        """Plain data. JSON has no infinity and no NaN: they are texts."""
        return {key: value if math.isfinite(value) else str(value) for key, value in vars(self).items()}


@dataclass(frozen=True)
class TensorVerdict:
    """One tensor.

    `why`: what the word rests on, in words
    `spot`: of a changed one, the first block that is
    `differing`: of `blocks` that were read, those with other bytes than quantizing the base gives
    """

    name: str
    type: str
    word: Word
    why: str
    spot: Spot | None = None
    differing: int = 0
    blocks: int = 0

    def __str__(self) -> str:
        place = f"; {self.spot}" if self.spot else ""
        return f"{self.name} ({self.type}): {self.word}, {self.why}{place}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "spot": self.spot.to_json() if self.spot else None}


@dataclass(frozen=True)
class KeyVerdict:
    """A metadata entry that is not the base's. `lines`: the difference, where it is one of text."""

    key: str
    word: Word
    why: str
    lines: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.key}: {self.why}"


@dataclass(frozen=True)
class FileVerdict:
    """A file, or all shards of one.

    `digests`: (name, sha256) of the files that were read whole; of a sample, the digest of the bytes read
    `mix`, `tags`: the ftype and the spans whose bytes it has, in words; `spans`: these
    `notes`: what differs and decides nothing
    `through`: the type of a file between base and this one, of which it was made
    `rows`: those that were read, of `all_rows`; `chance`: with which a change of one row in a thousand is among them
    """

    name: str
    digests: tuple[tuple[str, str], ...]
    mix: str | None
    tags: str
    tensors: tuple[TensorVerdict, ...]
    keys: tuple[KeyVerdict, ...]
    notes: tuple[str, ...] = ()
    rows: int = 0
    all_rows: int = 0
    chance: float = 1.0
    bytes_read: int = 0
    through: str | None = None
    spans: "tuple[Reference, ...]" = ()

    @property
    def counts(self) -> Mapping[Word, int]:
        """How many tensors each word was said of."""
        counted = Counter(tensor.word for tensor in self.tensors)
        return {word: counted[word] for word in WORDS if counted[word]}

    @property
    def word(self) -> Word:
        """The whole file's: changed where anything is, else the weakest that was said of a tensor."""
        said = {tensor.word for tensor in self.tensors} | {key.word for key in self.keys}
        order: tuple[Word, ...] = ("changed", "cannot tell", "within rounding", "other tag")
        return next((word for word in order if word in said), "same")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "verdict": self.word,
            "digests": dict(self.digests),
            "mix": self.mix,
            "tags": self.tags,
            **({"through": self.through} if self.through else {}),
            "rows": self.rows,
            "all_rows": self.all_rows,
            "chance": self.chance,
            "metadata": [vars(key) | {"lines": list(key.lines)} for key in self.keys],
            "notes": list(self.notes),
            "tensors": [tensor.to_json() for tensor in self.tensors],
        }


def exit_code(words: set[Word]) -> int:
    """1 where anything is changed, 3 where something could not be told, else 0."""
    return 1 if "changed" in words else 3 if "cannot tell" in words else 0
