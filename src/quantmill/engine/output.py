"""From the states after the last layer to logits, and to the text's perplexity."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.engine.budget import Budget, ranged
from quantmill.engine.buffers import BufferPool, Floats, floats
from quantmill.engine.errors import not_finite
from quantmill.engine.matrix import Matrix, panel_bytes
from quantmill.engine.model import Model
from quantmill.engine.parts.altup import merge
from quantmill.engine.run import Run
from quantmill.statistics import perplexity

_LEAST = 16  # rows of logits at a time, however little room there is
_MANY = 2048  # and however much, where the output matrix is packed again for each time
_STEP = 4 << 20  # weights of it that are packed at a time


@dataclass(frozen=True)
class Perplexity:
    """`error` is one standard error of the mean, carried over to the perplexity, as llama-perplexity prints it."""

    value: float
    error: float


class Output:
    """The last norm and the output matrix; packed whole where that and a chunk's logits fit into the plan's room.

    `rows` is the number of rows whose logits should be asked for at a time.
    """

    def __init__(self, model: Model, run: Run, plan: Budget, counted: int) -> None:
        self.model, self.run = model, run
        norm = model.vector(f"{model.hyper.row.last_norm}.weight")
        assert norm is not None  # checked when the model was opened
        self._norm = norm
        (columns, n_vocab), type_ = model.described(model.output)
        self.n_vocab = n_vocab
        held = columns * n_vocab * panel_bytes(type_.name, run.arithmetic)
        step, self.rows = 0, counted
        row = 4 * (n_vocab + 4 * columns + 2 * (model.columns.width - columns))  # bytes
        if plan.room < held + row * counted:
            self.rows = max(_LEAST, min(plan.room // 2 // row, _MANY))
            step = ranged(min(_STEP, plan.room // 16), columns, self.rows)
        self._space, self._step = BufferPool(), step
        self._matrix = Matrix(model, model.output, run, self._space, step)

    def normed(self, states: Floats) -> Floats:
        """The states as the output matrix sees them."""
        hyper, columns = self.model.hyper, self.model.columns
        if columns.sets > 1:
            states = merge(self.model, states, self.run, self._step)
        elif columns.width > hyper.n_embd:
            states = np.ascontiguousarray(states[:, : hyper.n_embd])
        out = floats(*states.shape)
        if hyper.row.norm == "layer":
            _kernels.layer_norm(states, self._norm, None, out, hyper.eps, self.run.threads)
        else:
            _kernels.rms_norm(states, self._norm, out, hyper.eps, self.run.threads)
        return out

    def logits(self, normed: Floats, out: Floats | None = None) -> Floats:
        """Shape (rows, n_vocab); in `out` if it is given."""
        if out is None:
            out = floats(len(normed), self.n_vocab)
        self._matrix.apply(normed, out, self.run.threads)
        hyper, threads = self.model.hyper, self.run.threads
        if hyper.logit_scale != 1:
            _kernels.scale(out, hyper.logit_scale, threads)
        if cap := hyper.numbers.get("final_logit_softcapping"):
            _kernels.soft_cap(out, cap, threads)
        return out

    def nll(self, normed: Floats, targets: NDArray[np.int32]) -> NDArray[np.float64]:
        """The negative log-likelihood of each row's target, shape (rows,); a ForwardError when one is not."""
        out = np.empty(len(normed), np.float64)
        top = np.empty(len(normed), np.int32)
        for begin in range(0, len(normed), self.rows):
            rows = normed[begin : begin + self.rows]
            part = slice(begin, begin + len(rows))
            logits = self.logits(rows, self._space.floats("logits", len(rows), self.n_vocab))
            _kernels.nll(logits, targets[part], out[part], top[part], self.run.threads)
        if not np.isfinite(out).all():
            self.model.find_bad([self.model.output])
            raise not_finite(self.model.source.place, "the logits overflow; the model cannot be evaluated in float32")
        return out


def counted(length: int) -> tuple[int, int]:
    """The rows of a chunk whose predictions count, as llama-perplexity counts them: the second half but the last."""
    return length // 2, length - 1


def score(nll: NDArray[np.float64]) -> Perplexity:
    """Of negative log-likelihoods of any shape; the error of a single one is 0."""
    return Perplexity(*perplexity(nll.reshape(-1).tolist()))
