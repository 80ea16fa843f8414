"""split: one GGUF file into the shards that llama-gguf-split makes, where it is larger than the release allows."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypedDict

from quantmill.artifact import Artifact, Context
from quantmill.steps.step import Cost, Estimates, Inputs, Step, Task


class Params(TypedDict):
    """`prefix`: the name without `.gguf`; `max_size` in bytes, 0 for any size."""

    prefix: str
    max_size: int


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> Mapping[str, Artifact] | None:
    """One GGUF file in, under any name.

    A file within `max_size`, or of one shard by llama-gguf-split's count, comes out unchanged as `<prefix>.gguf`,
    without a copy; any other as `<prefix>/<prefix>-00001-of-0000N.gguf` and so on. `gguf.shard_sizes` tells which, and
    how large.
    """
    from quantmill import gguf

    (whole,) = inputs.values()
    prefix, max_size = params["prefix"], params["max_size"]
    if not max_size:
        return {f"{prefix}.gguf": whole}
    with gguf.read(whole.path, f"{prefix}.gguf") as file:
        split = whole.size > max_size and (
            len(gguf.plan_shards(file.metadata.values(), file.tensor_entries(), max_size=max_size)) > 1
        )
    if not split:
        return {f"{prefix}.gguf": whole}
    gguf.split(whole.path, out / prefix, prefix, max_size=max_size, progress=context.progress)
    return None


def cost(task: Task, estimates: Estimates) -> Cost:
    """Two passes of what is cut; a file that is not cut costs nothing."""
    size = estimates.shard_bytes(task.label)
    return Cost(estimates.pass_seconds(2, size), size)


def outputs(params: Mapping[str, Any], inputs: Collection[str], found: Collection[str]) -> Collection[str]:
    """The whole file, or two shards and more."""
    prefix, count = params["prefix"], len(found)
    if count < 2:
        return (f"{prefix}.gguf",)
    return [f"{prefix}/{prefix}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]


STEP = Step(
    name="split",
    version=1,
    doc="cut a file that is too large into shards",
    run=run,
    judges="model.gguf",
    outputs=outputs,
    hands_on=True,
    cost=cost,
)
