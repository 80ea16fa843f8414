"""The base's evaluation as files: made once, then compared with every file of the matrix.

`states.npy`, float32 (chunks, rows, n_embd): the states of the tokens that count, as the output matrix sees them, from
which logits are one product away. `tokens.npy`, int32 (chunks, n_ctx). `evaluation.json`: the base's own perplexity.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantmill.engine.budget import budget
from quantmill.engine.evaluation import HiddenStates, Model, Run
from quantmill.engine.output import Output
from quantmill.quality.divergence import Floats
from quantmill.statistics import perplexity, rounded

STATES, TOKENS, REPORT = "states.npy", "tokens.npy", "evaluation.json"


def save(hidden: HiddenStates, tokens: NDArray[np.int32], facts: Mapping[str, Any], folder: Path) -> None:
    """Write the three files; `facts` go into the report."""
    width = hidden.normed(0, 1).shape[1]
    shape = (hidden.chunks, hidden.rows, width)
    states = np.lib.format.open_memmap(folder / STATES, mode="w+", dtype=np.float32, shape=shape)
    for i in range(hidden.chunks):
        states[i] = hidden.normed(i, i + 1)
    states.flush()
    del states
    np.save(folder / TOKENS, tokens, allow_pickle=False)
    value, error = perplexity(hidden.nll().reshape(-1).tolist())
    report = {"perplexity": rounded(value), "perplexity_error": rounded(error), "tokens": hidden.chunks * hidden.rows}
    text = json.dumps({**facts, **report}, indent=1, ensure_ascii=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8")


class BasePredictions:
    """The predictions of a base whose states were saved; a divergence.Predictions."""

    def __init__(self, model: Model, states: Path, run: Run, length: int) -> None:
        self._states: Floats = np.load(states, mmap_mode="r", allow_pickle=False)
        self.chunks, self.rows = self._states.shape[:2]
        self._output = Output(model, run, budget(model, run, 1, length), self.rows)

    def logits(self, first: int, last: int) -> Floats:
        part = np.ascontiguousarray(self._states[first:last])
        return self._output.logits(part.reshape(-1, part.shape[2]))
