"""The record of a step: all that other rooms know of it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from quantmill.artifact import Artifact, Context
from quantmill.errors import UsageError, nearest

Inputs = Mapping[str, Artifact]
Run = Callable[[Inputs, Any, Path, Context], Mapping[str, Artifact] | None]
Names = Callable[[Mapping[str, Any], Collection[str], Collection[str]], Collection[str]]


class Sample(NamedTuple):
    """A share of what a step made, 0 to 1, that is made again; `seed` chooses which."""

    share: float
    seed: str


# Of a step's inputs and params, the files that it made, and an empty folder: what comes out otherwise.
Recheck = Callable[[Inputs, Any, Mapping[str, Path], Path, Context, Sample], list[str]]

SMALL_MEMORY = 300_000_000  # bytes: an interpreter, its libraries and small files
STREAM_MEMORY = 600_000_000  # bytes: and chunks of weights in each thread of a large machine


class Cost(NamedTuple):
    """What a task takes, as far as that can be told before it runs.

    `seconds`: of one thread
    `writes`: bytes that those who read the task's outputs fetch
    `downloads`: bytes from outside the team
    """

    seconds: float = 0.0
    writes: int = 0
    downloads: int = 0


class Task(Protocol):
    """What a cost may ask of a task: its name, the ftype in it, and local copies of what it would download."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def files(self) -> Mapping[str, Artifact]: ...


class Estimates(Protocol):
    """What a cost may ask of the recipe that the task belongs to; quantmill.forecast.costs answers.

    `base_bytes` is the size of the base as one GGUF file; seconds are those of one thread of this machine.
    """

    @property
    def base_bytes(self) -> int: ...
    def base_download(self, task: Task) -> int:
        """Bytes of the base's files, when the task brings these in; else 0."""

    def pass_seconds(self, passes: int, size: int) -> float:
        """Of so many passes of bytes through a processor, by the time that their sha256 takes."""

    def imatrix_seconds(self) -> float:
        """Of the calibration text's way through the base."""

    def quantization(self, task: Task) -> tuple[float, int]:
        """Seconds of what the task quantizes itself, and bytes of the file that it writes."""

    def shard_bytes(self, label: str) -> int:
        """Bytes of all shards of a released file; 0 for one that is not cut."""

    def file_bytes(self, label: str) -> int:
        """Bytes of a released file, or of all its shards."""

    def evaluation(self) -> tuple[float, int]:
        """Seconds of the base's predictions of the evaluation text, and their bytes."""

    def quality_seconds(self, label: str) -> float:
        """Of a file's comparison with the base's predictions."""

    def search_seconds(self) -> float:
        """Of what rounding each of the base's tensors costs."""

    def bench_seconds(self) -> float:
        """Of the recipe's tests of speed."""


def free(task: Task, estimates: Estimates) -> Cost:
    """The cost of what takes no time worth telling."""
    return Cost()


def never(where: Mapping[str, Any]) -> bool:
    """Of a step that begins anew after it was killed."""
    return False


def always(where: Mapping[str, Any]) -> bool:
    """Of a step that goes on from what a killed run of it left."""
    return True


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """One kind of task. Each file of this folder exports one as STEP.

    `name`: in the key, and where a task's name begins with it
    `version`: in the key; raised when the step's own code changes what it writes
    `doc`: one line, as `doit list` shows it
    `run`: reads the files of `inputs` and writes its outputs below `out`; may return outputs that are inputs, unchanged
    `outputs`: their names; or what tells them from the params, the inputs' names, and those found, of which to choose
    `prefixes`: what names of its tasks begin with, its own name where "" stands; empty for tasks that no recipe has
    `resumes`: whether it goes on from what a killed run left, by what the task knows beside its key
    `lends`: output of which other steps copy → the output that lists what is where in it
    `findings`: the output whose findings a build tells, each time; it may have none
    `lays_out`: its inputs and outputs become the release's folder
    `holds`: its params name files by digest, which the store may have
    `here`: it runs on the machine that drives a build, not on a worker
    `reads_bytes`: it reads what its inputs hold, not their names and digests alone
    `judges`: how the names of those inputs begin that it refuses where they are wrong; empty where it judges none
    `recheck`: makes a sample of its output again and names what differs
    `hands_on`: where it writes nothing, its output is its input
    `counts`: what its progress counts: bytes, chunks of a text by the layers that they pass, or runs of a test
    `divides`: what of it workers share, tensors or the text
    `memory`: bytes that a worker must have for it, where the task says nothing else
    `bulky`: it needs room on disk for all that it reads
    `cost`: what a task of it takes
    """

    name: str
    version: int
    doc: str
    run: Run
    outputs: tuple[str, ...] | Names
    prefixes: tuple[str, ...] = ("",)
    resumes: Callable[[Mapping[str, Any]], bool] = never
    lends: Mapping[str, str] = field(default_factory=dict)
    findings: str = ""
    lays_out: bool = False
    holds: bool = False
    here: bool = False
    reads_bytes: bool = True
    judges: str = ""
    recheck: Recheck | None = None
    hands_on: bool = False
    counts: Literal["bytes", "passes", "runs"] = "bytes"
    divides: Literal["", "tensors", "text"] = ""
    memory: int = SMALL_MEMORY
    bulky: bool = False
    cost: Callable[[Task, Estimates], Cost] = free

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefixes", tuple(prefix or self.name for prefix in self.prefixes))

    def makes(self, found: Collection[str], params: Mapping[str, Any], inputs: Collection[str]) -> bool:
        """Whether `found` are the names that its outputs have, with these params and inputs of these names."""
        outputs = self.outputs
        return {*found} == {*(outputs if isinstance(outputs, tuple) else outputs(params, inputs, found))}

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Callable[[str], "Step"], tuple[str]]:
        """Machines send each other a step by its name: what they know of it is their own."""
        return _by_name, (self.name,)


def _by_name(name: str) -> Step:
    from quantmill.steps import STEPS

    return STEPS[name]


def check_names(step: str, given: Iterable[str], params: type, untold: Collection[str] = ()) -> None:
    """Raises UsageError for a parameter that the typed record `params` does not have; it lists all but those that the
    graph alone gives, `untold`."""
    known = tuple(name for name in params.__annotations__ if name not in untold)
    for name in given:
        if name not in known and name not in untold:
            raise UsageError(f"{step} has no parameter {name!r}{nearest(name, known)}; it has {', '.join(known)}")
