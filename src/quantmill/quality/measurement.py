"""A file of the matrix against its base: predictions on a text, and tensors."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantmill.engine.evaluation import Model, Run, evaluate, open_model
from quantmill.quality import tensor_errors
from quantmill.quality.base_predictions import BasePredictions
from quantmill.quality.divergence import Predictions, compare
from quantmill.quality.errors import NotOneModel
from quantmill.statistics import rounded

LEAST = 1e-6  # nats, which llama-perplexity tells of a mean


def against_stored(base: Path, states: Path, tokens: Path, file: Path, run: Run, place: str) -> dict[str, Any]:
    """The file's quality as JSON (divergence.Divergence), `bits` a weight, and `tensors`, its tensors' errors.

    `states` and `tokens` are what base_predictions.save wrote of the base; `place` is what errors call the file.
    """
    lost = tensor_errors.errors(base, file, place)  # first: it tells a file of another model at once
    ids: NDArray[np.int32] = np.load(tokens, allow_pickle=False)
    half = replace(run, memory=run.memory // 2, progress=lambda done, total: None)
    with open_model(base, "the base") as reference:
        found = against(reference, BasePredictions(reference, states, half, ids.shape[1]), file, ids, run, place)
    return {**found, "bits": rounded(tensor_errors.bits(file)), "tensors": lost}


def with_tensors(measured: Mapping[str, Any], base: Path, file: Path, place: str) -> dict[str, Any]:
    """What llama.cpp measured of a file, with its `bits` a weight and its tensors' errors beside it. A mean that it
    rounds to nothing is told as the least that it tells, of a file whose weights differ from the base's."""
    lost = tensor_errors.errors(base, file, place)
    kld = dict(measured["kld"])
    if any(lost.values()):
        kld["mean"] = max(kld["mean"], LEAST)
    return {**measured, "kld": kld, "bits": rounded(tensor_errors.bits(file)), "tensors": lost}


def against(
    reference: Model, base: Predictions, file: Path, tokens: NDArray[np.int32], run: Run, place: str
) -> dict[str, Any]:
    """The file's quality as JSON; `base` are the predictions of the model `reference`."""
    half = replace(run, memory=run.memory // 2)
    with open_model(file, place) as model:
        if model.hyper.n_vocab != reference.hyper.n_vocab:
            raise NotOneModel(
                f"{place}: predicts {model.hyper.n_vocab} tokens and its base {reference.hyper.n_vocab}; "
                "compare files of one model"
            )
        passes = model.hyper.n_layer + 1  # each chunk goes through the layers, and then is compared
        total = len(tokens) * passes
        with evaluate(model, tokens, replace(half, progress=_counting(run.progress, total))) as hidden:
            done = len(tokens) * (passes - 1)
            quality = compare(
                base,
                hidden,
                hidden.targets(0, len(tokens)).reshape(len(tokens), -1),
                run.threads,
                lambda i, _: run.progress(done + i, total),
            )
    return quality.to_json()


def _counting(progress: Callable[[int, int], None], total: int) -> Callable[[int, int], None]:
    return lambda done, _: progress(done, total)
