"""wave: a part of an imatrix, some of the text through some of the layers (see engine/wave.py)."""

import hashlib
import io
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from quantmill.artifact import Artifact, Context
from quantmill.steps.imatrix import WORK, lent_key, options_of, texts_of
from quantmill.steps.imatrix import Params as ImatrixParams
from quantmill.steps.step import STREAM_MEMORY, Inputs, Step

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUMS, LIKELIHOODS = "sums/", "nll/"  # inputs of the last wave: of each group of layers, of each range of the text


class Params(TypedDict):
    """`imatrix`: that step's; `range`: [k, of how many] of the chunks; `layers`: [from, to). `memory`, in bytes, is no
    part of the key."""

    imatrix: ImatrixParams
    range: list[int]
    layers: list[int]
    memory: NotRequired[int]
    generation: NotRequired[int]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Take a range of the chunks through some layers.

    The inputs are the imatrix step's, and `states` of the same range after the layers before, `sums` of the range
    before after the same layers. Writes `sums`, and `states` or, after the last layer, `nll.npy`. The last range of the
    last group also writes `collected`, for which its inputs are the other waves' `sums/<group>` and `nll/<range>`, and
    `lent.json`, by which the imatrix step finds that.
    """
    import numpy as np

    from quantmill.engine.evaluation import Run, open_model
    from quantmill.engine.importance_matrix import text_chunks
    from quantmill.engine.wave import STATES, Before, gather, pass_group
    from quantmill.reference.spans import of_generation

    imatrix = params["imatrix"]
    options = options_of(imatrix)
    work = out / WORK
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    reference, memory = of_generation(params.get("generation")), params.get("memory") or Run.memory
    settings = Run(imatrix["arithmetic"], context.threads, memory, work, context.progress, reference)
    index, ranges = params["range"]
    layers = range(*params["layers"])
    path = inputs["model.gguf"].path
    with open_model(path, "the base") as model:
        chunks = text_chunks(reference, model, path, texts_of(inputs, imatrix), options, "the base")
        mine = np.ascontiguousarray(chunks[len(chunks) * index // ranges : len(chunks) * (index + 1) // ranges])
        states, sums = inputs.get("states"), inputs.get("sums")
        before = Before(sums.path.read_bytes() if sums else b"", (states.path, states.sha256) if states else None)
        final = layers.stop == model.hyper.n_layer
        wanted = {
            "process_output": options.process_output,
            "process_embedding": options.process_embedding,
            "perplexity": options.perplexity,
        }
        found, nll = pass_group(model, mine, settings, layers, before, **wanted)
    (out / "sums").write_bytes(found)
    if final:
        np.save(out / "nll.npy", nll)
    else:
        (work / STATES).replace(out / "states")
    if final and index == ranges - 1:
        groups = [artifact.path.read_bytes() for artifact in _numbered(inputs, SUMS)]
        likelihoods = [_array(artifact.path.read_bytes()) for artifact in _numbered(inputs, LIKELIHOODS)]
        data = gather([*groups, found], [*likelihoods, nll])
        (out / "collected").write_bytes(data)
        span = {"offset": 0, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (out / "lent.json").write_text(json.dumps({lent_key(inputs, imatrix): span}))
    shutil.rmtree(work)


def _numbered(inputs: Inputs, prefix: str) -> list[Artifact]:
    numbers = sorted(int(name.removeprefix(prefix)) for name in inputs if name.startswith(prefix))
    return [inputs[f"{prefix}{number}"] for number in numbers]


def _array(data: bytes) -> "NDArray[np.float64]":
    import numpy as np

    array: NDArray[np.float64] = np.load(io.BytesIO(data), allow_pickle=False)
    return array


def outputs(params: Mapping[str, Any], inputs: Collection[str], found: Collection[str]) -> Collection[str]:
    """After the last layer likelihoods instead of states, and of the last range all that was collected."""
    if "nll.npy" not in found:
        return ("sums", "states")
    index, ranges = params["range"]
    return ("sums", "nll.npy", "collected", "lent.json") if index == ranges - 1 else ("sums", "nll.npy")


STEP = Step(
    name="wave",
    version=1,
    doc="take some of the calibration text through some layers",
    run=run,
    outputs=outputs,
    prefixes=(),
    lends={"collected": "lent.json"},
    counts="passes",
    memory=STREAM_MEMORY,
    bulky=True,
)
