"""The choice of experts against float64, the same bits on every level and for any threads."""

import itertools
import re

import numpy as np
import pytest

from forward_helpers import normal, on_every_level
from quantmill import _kernels

SCORINGS = ("softmax", "sigmoid", "sqrt_softplus", "softmax_chosen", "sigmoid_chosen")


def softmax(x: np.ndarray) -> np.ndarray:
    p = np.exp(x - x.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def reference(logits, k: int, normalize: bool, scoring: str, bias, groups: int, groups_chosen: int, scale: float):
    """build_moe_ffn of llama-graph.cpp, in float64."""
    wide = logits.astype(np.float64)
    sigmoid, softplus = 1 / (1 + np.exp(-wide)), np.logaddexp(0, wide)
    scores = {"softmax": softmax(wide), "sigmoid": sigmoid, "sqrt_softplus": np.sqrt(softplus)}.get(scoring, wide)
    choice = scores + (0 if bias is None else bias)
    if groups > 1:
        parts = choice.reshape(len(choice), groups, -1)
        best = np.sort(parts, 2)[:, :, -2:].sum(2)
        order = np.argsort(-best, 1, kind="stable")[:, :groups_chosen]
        kept = np.zeros(best.shape, bool)
        np.put_along_axis(kept, order, True, 1)
        choice = np.where(kept[:, :, None], parts, -np.inf).reshape(choice.shape)
    ids = np.argsort(-choice, 1, kind="stable")[:, :k]
    weights = np.take_along_axis(sigmoid if scoring == "sigmoid_chosen" else scores, ids, 1)
    if scoring == "softmax_chosen":
        weights = softmax(weights)
    if normalize:
        weights = weights / np.maximum(weights.sum(1, keepdims=True), 2.0**-14)
    return ids, weights * scale


CASES = [
    (scoring, normalize, biased, groups)
    for scoring, normalize, biased, groups in itertools.product(SCORINGS, (False, True), (False, True), (1, 4))
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_choices(case: tuple) -> None:
    scoring, normalize, biased, groups = case
    logits, bias = normal(50, 24) * 2, normal(24, seed=1) / 2 if biased else None
    options = {"scoring": scoring, "bias": bias, "groups": groups, "groups_chosen": min(groups, 2), "scale": 2.5}

    def run(threads: int) -> np.ndarray:
        ids, weights = np.empty((50, 5), np.int32), np.empty((50, 5), np.float32)
        _kernels.top_k(logits, ids, weights, normalize, threads, **options)
        return np.concatenate([ids.view(np.float32), weights], 1)

    found = on_every_level(run)
    ids, weights = reference(logits, 5, normalize, **options)
    np.testing.assert_array_equal(found[:, :5].copy().view(np.int32), ids)
    np.testing.assert_allclose(found[:, 5:], weights, rtol=2e-6)


def choose(logits: list[float], k: int, **options) -> tuple[list[int], list[float]]:
    ids, weights = np.empty((1, k), np.int32), np.empty((1, k), np.float32)
    _kernels.top_k(np.array([logits], np.float32), ids, weights, options.pop("normalize", False), 1, **options)
    return ids[0].tolist(), weights[0].tolist()


def test_a_bias_chooses_and_does_not_weigh() -> None:
    bias = np.array([0, 0, 5, -5], np.float32)
    ids, weights = choose([0, 0, 0, 9], 2, scoring="sigmoid", bias=bias)
    assert ids == [2, 0]
    assert weights == [0.5, 0.5]


def test_the_lower_index_first_of_equals() -> None:
    assert choose([1, 1, 1, 1, 1, 1], 3, scoring="sigmoid", groups=3, groups_chosen=2)[0] == [0, 1, 2]


def test_logits_tell_what_sigmoids_do_not() -> None:
    assert choose([40, 50, 60, 1], 2, scoring="sigmoid_chosen") == ([2, 1], [1, 1])
    assert choose([40, 50, 60, 1], 2, scoring="sigmoid") == ([0, 1], [1, 1])


def test_more_experts_than_the_chosen_groups_have() -> None:
    ids, _ = choose([1, 2, 9, 8], 3, scoring="softmax_chosen", groups=2, groups_chosen=1)
    assert ids == [2, 3, 0]


def test_sums_near_zero_are_not_divided_by() -> None:
    _, weights = choose([-40, -41], 2, scoring="sigmoid", normalize=True)
    np.testing.assert_allclose(weights, np.exp([-40.0, -41.0]) * 2**14, rtol=1e-6)


def test_a_nan_is_taken_where_it_is_first() -> None:
    ids, _ = choose([np.nan, 1, 2], 3, scoring="softmax_chosen")
    assert sorted(ids) == [0, 1, 2]


def test_what_does_not_fit() -> None:
    logits, ids, weights = np.zeros((3, 8), np.float32), np.zeros((3, 2), np.int32), np.zeros((3, 2), np.float32)
    cases = [
        ({"scoring": "tanh"}, f'scoring must be one of {", ".join(SCORINGS)}, not "tanh"'),
        ({"groups": 3}, "groups must be 1, or divide the 8 experts by at least two, not 3"),
        ({"groups": 8}, "groups must be 1, or divide the 8 experts by at least two, not 8"),
        ({"groups": 2, "groups_chosen": 3}, "groups_chosen must be 1 to 2, not 3"),
        ({"bias": np.zeros(7, np.float32)}, "bias must have 8 in dimension 0, not 7"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=re.escape(message)):
            _kernels.top_k(logits, ids, weights, True, 1, **options)
