"""The importance of a model's matrices, computed by several machines with the bits of one.

A matrix's sums are added row by row in the order of the text, in float32. So sums of one half of the text cannot be
added to those of the other: the bits would differ. But layers follow one another. While one machine takes the first
half of the text through a group of layers, another can take the second half through the group before. It begins each
group's sums with those that the first half ended with. States and sums are handed on exactly, so nothing changes.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantmill.engine import evaluation
from quantmill.engine.budget import budget
from quantmill.engine.importance import Importance
from quantmill.engine.model import Model
from quantmill.engine.resume import Checkpoint, decoded, encoded
from quantmill.engine.run import Run
from quantmill.engine.states import States
from quantmill.engine.stream import Tokens, check_tokens, key, through_layers
from quantmill.reference.reference import Reference

STATES = "states"  # the file of the states after the group, below the work folder


@dataclass(frozen=True)
class Before:
    """What a group of layers begins with. `sums`: what the text before left of the same layers; `states`: the file of
    this text's states, and its sha256, None before the first layer."""

    sums: bytes = b""
    states: tuple[Path, str] | None = None


def pass_group(
    model: Model,
    chunks: Tokens,
    run: Run,
    layers: range,
    before: Before,
    *,
    process_output: bool,
    process_embedding: bool,
    perplexity: bool,
) -> tuple[bytes, NDArray[np.float64]]:
    """Some chunks of a text through some layers: the layers' sums, and after the last layer the negative
    log-likelihoods, of shape (chunks, rows that count), else, and without `perplexity`, none of them. The states are
    left in `run.work`, a folder of this call's own, as STATES. Raises what `engine.collect` raises."""
    assert run.work is not None
    final = layers.stop == model.hyper.n_layer
    if not len(chunks):
        (run.work / STATES).touch()
        return before.sums, np.empty((0, 0))
    check_tokens(model, chunks)
    count, length = chunks.shape
    plan = budget(model, run, count, length)
    importance = Importance(run.reference, model.source.place, length, run.threads)
    importance.found = decoded(before.sums)
    total = count * (len(layers) + final)
    name = key(model, chunks, run, f"layers from {layers.start} to {layers.stop}")
    shutil.rmtree(run.work / name, ignore_errors=True)
    if before.states:
        _lay(run.work / name, layers.start, before.sums, *before.states)
    nll = np.empty((0, 0))

    def tell(done: int) -> None:
        run.progress(done - count * layers.start, total)

    with Checkpoint(run.work, name) as checkpoint:
        states = States(checkpoint.folder, count, length, model.columns.width, plan.spilled)
        try:
            output = importance if (process_output if model.has("output.weight") else process_embedding) else None
            wanted = not final or perplexity or output is not None
            through_layers(model, chunks, run, plan, states, checkpoint, importance, tell, wanted, layers)
            if final and wanted:
                found = evaluation.last(model, chunks, run, plan, states, output, perplexity, total)
                nll = nll if found is None else found
            elif not final:
                states.file(layers.stop).replace(run.work / STATES)
        finally:
            states.close()
    importance.check()
    return encoded(importance.found), nll


def _lay(folder: Path, layer: int, sums: bytes, states: Path, digest: str) -> None:
    """Make the folder a checkpoint after so many layers."""
    folder.mkdir(parents=True)
    (folder / f"states.{layer}").symlink_to(states.absolute())
    (folder / f"sums.{layer}").write_bytes(sums)
    state = {"layer": layer, "states": digest, "sums": hashlib.sha256(sums).hexdigest()}
    (folder / "state.json").write_text(json.dumps(state))


def gather(groups: list[bytes], likelihoods: list[NDArray[np.float64]]) -> bytes:
    """All groups' sums as the last of the text left them, and all likelihoods in the order of the text, as
    `gathered` reads them."""
    found = {name: sums for group in groups for name, sums in decoded(group).items()}
    whole = [nll for nll in likelihoods if nll.size]
    nll = np.concatenate(whole) if whole else np.empty((sum(map(len, likelihoods)), 0))
    return json.dumps(list(nll.shape)).encode() + b"\n" + nll.tobytes() + encoded(found)


def gathered(reference: Reference, data: bytes, length: int) -> evaluation.MatrixInputs:
    """What `engine.collect` would have returned for chunks of `length` tokens."""
    line, _, rest = data.partition(b"\n")
    shape = tuple(json.loads(line))
    nll = np.frombuffer(rest, np.float64, shape[0] * shape[1]).reshape(shape)
    importance = Importance(reference, "", length, 1)
    importance.found = decoded(rest[nll.nbytes :])
    return evaluation.collected(importance, nll if nll.size else None)
