"""How to evaluate: what may change the bytes (the arithmetic), and what may not (everything else)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from quantmill.artifact import silent
from quantmill.errors import UsageError, nearest
from quantmill.host import usable_memory
from quantmill.reference.reference import Reference
from quantmill.reference.spans import newest

Arithmetic = Literal["f32", "bf16x2"]
ARITHMETICS: tuple[Arithmetic, ...] = get_args(Arithmetic)


@dataclass(frozen=True)
class Run:
    """How an evaluation runs.

    `memory`: the most anonymous memory, in bytes, of what the process may use
    `work`: a folder that outlives a kill, for spilled states and a checkpoint of each layer; None: a temporary folder
    `progress`: `progress(done, total)` counts chunks: all pass every layer once, and the output where there is one
    `reference`: how a chunk is cut into the batches that llama-imatrix measures
    """

    arithmetic: str = "f32"
    threads: int = 1
    memory: int = 8 << 30
    work: Path | None = None
    progress: Callable[[int, int], None] = silent
    reference: Reference = field(default_factory=newest)

    def __post_init__(self) -> None:
        if self.arithmetic not in ARITHMETICS:
            known = ", ".join(ARITHMETICS)
            raise UsageError(
                f"no arithmetic {self.arithmetic!r}{nearest(self.arithmetic, ARITHMETICS)}; {known} are known"
            )
        if usable := usable_memory():
            object.__setattr__(self, "memory", min(self.memory, usable))
        if self.threads < 1:
            raise UsageError(f"{self.threads} threads cannot work; at least 1 can")

    @property
    def kind(self) -> Arithmetic:
        """The arithmetic, which is known to be one."""
        return cast(Arithmetic, self.arithmetic)
