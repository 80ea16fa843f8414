"""index: the digest of each tensor of the base, by which files share what they quantize to the same bytes."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from quantmill.artifact import Context
from quantmill.steps.step import Cost, Estimates, Inputs, Step, Task

if TYPE_CHECKING:
    from quantmill.gguf import TensorInfo

CHUNK = 8 << 20


class Params(TypedDict):
    """There are none."""


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `tensors.json`: {tensor: sha256 of its bytes} of `model.gguf`."""
    from concurrent.futures import ThreadPoolExecutor

    from quantmill import gguf

    with gguf.read(inputs["model.gguf"].path) as file:
        total = sum(info.nbytes for info in file.tensors.values())
        done = 0

        def digest(info: "TensorInfo") -> str:
            nonlocal done
            found, data = hashlib.sha256(), file.data(info)
            for at in range(0, info.nbytes, CHUNK):
                found.update(data[at : at + CHUNK].data)
            done += info.nbytes
            context.progress(done, total)
            return found.hexdigest()

        with ThreadPoolExecutor(context.threads) as pool:
            digests = dict(zip(file.tensors, pool.map(digest, file.tensors.values()), strict=True))
    (out / "tensors.json").write_text(json.dumps(digests, indent=0, sort_keys=True) + "\n", encoding="utf-8")


def cost(task: Task, estimates: Estimates) -> Cost:
    """One pass of the base's bytes."""
    return Cost(estimates.pass_seconds(1, estimates.base_bytes))


STEP = Step(
    name="index",
    version=1,
    doc="hash the base's tensors, by which files share what they quantize alike",
    run=run,
    outputs=("tensors.json",),
    cost=cost,
)
