"""Evaluating a model on a text: the importance of its matrices' columns, its perplexity, its logits.

The text comes as chunks of token ids, int32 of shape (chunks, length), as the model shall see them. Where a tokenizer
begins every text with a token, the caller has put it at the beginning of each chunk. Positions begin anew in each.
Results have the same bits for any number of threads, level of instructions and amount of memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantmill.engine.budget import Budget, budget
from quantmill.engine.buffers import Floats
from quantmill.engine.importance import Importance
from quantmill.engine.model import Model, open_model
from quantmill.engine.output import Output, Perplexity, counted, score
from quantmill.engine.resume import Checkpoint
from quantmill.engine.run import ARITHMETICS, Run
from quantmill.engine.states import States
from quantmill.engine.stream import Tokens, check_tokens, key, through_layers

__all__ = [
    "ARITHMETICS",
    "HiddenStates",
    "MatrixInputs",
    "Model",
    "Perplexity",
    "Run",
    "collect",
    "evaluate",
    "open_model",
    "score",
]


@dataclass(frozen=True)
class MatrixInputs:
    """What the inputs of the matrices were, by tensor name in the model's order.

    `sums`: sums of squares, float32 of shape (matrices, columns): one matrix, or a mixture's experts
    `counts`: the rows that were summed, int64 of shape (matrices,), 0 for an expert that no token chose
    `calls`: the evaluations of at most 512 tokens in which llama-imatrix would have seen the tensor
    `nll`: float64 of shape (chunks, rows that count), None when it was not asked for
    """

    sums: Mapping[str, Floats]
    counts: Mapping[str, NDArray[np.int64]]
    calls: Mapping[str, int]
    nll: NDArray[np.float64] | None

    @property
    def perplexity(self) -> float | None:
        return None if self.nll is None or not self.nll.size else score(self.nll).value

    @property
    def perplexity_error(self) -> float | None:
        return None if self.nll is None or not self.nll.size else score(self.nll).error


def collect(
    model: Model,
    chunks: Tokens,
    run: Run,
    *,
    process_output: bool = False,
    process_embedding: bool = False,
    perplexity: bool = True,
) -> MatrixInputs:
    """The importance of every matrix, in llama-imatrix's order of sums; of output.weight only with `process_output`,
    of an embedding that is the output too only with `process_embedding`.

    Raises a ForwardError when model, tokens or values are no good, or `run.work` cannot be written.
    """
    check_tokens(model, chunks)
    count, length = chunks.shape
    plan = budget(model, run, count, length)
    importance = Importance(run.reference, model.source.place, length, run.threads)
    wants_output = process_output if model.has("output.weight") else process_embedding
    wants_states = perplexity or wants_output
    total = count * (model.hyper.n_layer + wants_states)
    nll = None
    purpose = "importance" if wants_states else "importance alone"
    with Checkpoint(run.work, key(model, chunks, run, purpose)) as checkpoint:
        states = _states(model, plan, checkpoint, count, length)
        try:
            told = partial(_told, run, total)
            through_layers(model, chunks, run, plan, states, checkpoint, importance, told, wants_states)
            if wants_states:
                nll = last(model, chunks, run, plan, states, importance if wants_output else None, perplexity, total)
        finally:
            states.close()
    importance.check()
    return collected(importance, nll)


def collected(importance: Importance, nll: NDArray[np.float64] | None) -> MatrixInputs:
    """The sums as `collect` returns them."""
    found = list(importance.expanded())
    return MatrixInputs(
        {sums.names[0]: sums.values for sums in found},
        {sums.names[0]: sums.rows for sums in found},
        {sums.names[0]: sums.calls for sums in found},
        nll,
    )


def _told(run: Run, total: int, done: int) -> None:
    run.progress(done, total)


def _states(model: Model, plan: Budget, checkpoint: Checkpoint, count: int, length: int) -> States:
    return States(checkpoint.folder, count, length, model.columns.width, plan.spilled)


def last(
    model: Model,
    chunks: Tokens,
    run: Run,
    plan: Budget,
    states: States,
    importance: Importance | None,
    perplexity: bool,
    total: int,
) -> NDArray[np.float64] | None:
    """The output's stage of `collect`."""
    count, length = chunks.shape
    kept = max(0, counted(length)[1] - counted(length)[0])
    output = Output(model, run, plan, max(1, kept))
    nll = np.empty((count, kept), np.float64) if perplexity else None
    group = max(1, output.rows // max(1, kept))
    for begin in range(0, count, group):
        end = min(begin + group, count)
        normed = output.normed(states.get(begin, end))
        if importance is not None:
            importance.dense((model.output,), normed)
        if nll is not None and nll.size:
            rows, targets = _counted(normed, chunks[begin:end])
            nll[begin:end] = output.nll(rows, targets).reshape(end - begin, -1)
        run.progress(total - count + end, total)
    return nll


def _counted(states: Floats, chunks: Tokens) -> tuple[Floats, NDArray[np.int32]]:
    """The rows of the states that count, and the tokens that they should predict."""
    count, length = chunks.shape
    first, last = counted(length)
    rows = states.reshape(count, length, -1)[:, first:last].reshape(count * (last - first), -1)
    return np.ascontiguousarray(rows), np.ascontiguousarray(chunks[:, first + 1 :]).reshape(-1)


class HiddenStates:
    """What a model made of a text before its output matrix: logits by the chunk, without a file of them.

    A context manager. `rows` are the rows of a chunk that count: those that predict its second half.
    """

    def __init__(self, model: Model, chunks: Tokens, run: Run, plan: Budget, states: States, held: Checkpoint) -> None:
        self.chunks = len(chunks)
        first, last = counted(chunks.shape[1])
        self.rows = last - first
        self._tokens, self._states, self._held = chunks, states, held
        self._output = Output(model, run, plan, max(1, self.rows))

    def normed(self, first: int, last: int) -> Floats:
        """What the output matrix sees of the chunks `first` to `last`, shape ((last - first) * rows, n_embd)."""
        rows, _ = _counted(self._states.get(first, last), self._tokens[first:last])
        return self._output.normed(rows)

    def logits(self, first: int, last: int) -> Floats:
        """Of the chunks `first` to `last`, shape ((last - first) * rows, n_vocab)."""
        return self._output.logits(self.normed(first, last))

    def targets(self, first: int, last: int) -> NDArray[np.int32]:
        """The tokens that the logits of the same chunks should predict, shape ((last - first) * rows,)."""
        begin, _ = counted(self._tokens.shape[1])
        return np.ascontiguousarray(self._tokens[first:last, begin + 1 :]).reshape(-1)

    def nll(self) -> NDArray[np.float64]:
        """The negative log-likelihoods of all targets, shape (chunks, rows)."""
        found = np.empty((self.chunks, self.rows), np.float64)
        group = max(1, self._output.rows // max(1, self.rows))
        for begin in range(0, self.chunks, group):
            end = min(begin + group, self.chunks)
            rows, targets = _counted(self._states.get(begin, end), self._tokens[begin:end])
            found[begin:end] = self._output.nll(self._output.normed(rows), targets).reshape(end - begin, -1)
        return found

    def close(self) -> None:
        self._states.close()
        self._held.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def evaluate(model: Model, chunks: Tokens, run: Run) -> HiddenStates:
    """The text through all layers; `run.progress` counts the layers only. Raises what `collect` does.

    The states stay in memory, or in `run.work` where they do not fit, until the result is closed.
    """
    check_tokens(model, chunks)
    count, length = chunks.shape
    plan = budget(model, run, count, length)
    total = count * model.hyper.n_layer
    held = Checkpoint(run.work, key(model, chunks, run, "states"))
    with held.guarded():
        states = _states(model, plan, held, count, length)
        through_layers(model, chunks, run, plan, states, held, None, lambda done: run.progress(done, total))
        return HiddenStates(model, chunks, run, plan, states, held)
