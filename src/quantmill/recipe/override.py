"""What `[[quants.override]]` says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Override:
    """Types chosen by hand for the ftypes named (None: all). `tensors` are (regular expression, type) in order."""

    ftypes: tuple[str, ...] | None
    output: str | None
    token_embedding: str | None
    tensors: tuple[tuple[str, str], ...]
    pure: bool = False
