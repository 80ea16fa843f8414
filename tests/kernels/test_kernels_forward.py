"""The forward pass's kernels: against exact or float64 references, and the same bits on every level and any threads."""

import multiprocessing
import threading

import numpy as np
import pytest

from forward_helpers import normal, on_every_level
from quantmill import _kernels

EDGES = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)


@pytest.mark.parametrize("n", EDGES)
def test_rms_norm(n: int) -> None:
    x, weight = normal(5, n), normal(n, seed=1)

    def run(threads: int) -> np.ndarray:
        out = np.empty_like(x)
        _kernels.rms_norm(x, weight, out, 1e-6, threads)
        return out

    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-6) * weight
    np.testing.assert_allclose(on_every_level(run), expected, rtol=1e-6)


@pytest.mark.parametrize("n", EDGES)
def test_gates(n: int) -> None:
    gate, up = normal(3, n) * 8, normal(3, n, seed=1)
    wide = gate.astype(np.float64)
    inner = np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)
    silu, gelu = wide / (1 + np.exp(-wide)) * up, 0.5 * wide * (1 + np.tanh(inner)) * up
    for kernel, expected in ((_kernels.silu_mul, silu), (_kernels.gelu_mul, gelu)):

        def run(threads: int, kernel=kernel) -> np.ndarray:
            out = gate.copy()
            kernel(out, up, out, threads)
            return out

        np.testing.assert_allclose(on_every_level(run), expected, rtol=4e-6, atol=2e-7)


def test_gates_at_the_ends() -> None:
    gate = np.array([[-np.inf, -1e30, -100, -0.0, 0, 100, 2.0**99, np.inf, np.nan]], np.float32)
    one = np.ones_like(gate)

    def run(threads: int) -> np.ndarray:
        out = np.empty_like(gate)
        _kernels.silu_mul(gate, one, out, threads)
        return out

    # -inf / (1 + inf) is no number; nothing else is lost
    np.testing.assert_array_equal(on_every_level(run)[0], [np.nan, -0.0, -0.0, -0.0, 0, 100, 2.0**99, np.inf, np.nan])


@pytest.mark.parametrize("n", EDGES)
def test_softmax(n: int) -> None:
    x = normal(4, n) * 20

    def run(threads: int) -> np.ndarray:
        out = x.copy()
        _kernels.softmax(out, threads)
        return out

    wide = np.exp((x - x.max(1, keepdims=True)).astype(np.float64))  # the difference is rounded to float32
    np.testing.assert_allclose(on_every_level(run), wide / wide.sum(1, keepdims=True), rtol=2e-6, atol=1e-37)


def test_add_and_scale() -> None:
    a, b, bias = normal(5, 33), normal(5, 33, seed=1), normal(33, seed=2)

    def run(threads: int) -> np.ndarray:
        out = a.copy()
        _kernels.add(out, b, out, threads)
        _kernels.add(out, bias, out, threads)
        _kernels.scale(out, 0.3, threads)
        return out

    np.testing.assert_array_equal(on_every_level(run), (a + b + bias) * np.float32(0.3))


def test_column_sums_add_row_by_row() -> None:
    x, start = normal(70, 300), np.abs(normal(300, seed=1))

    def run(threads: int) -> np.ndarray:
        acc = start.copy()
        _kernels.column_sums(x, acc, threads)
        return acc

    expected = start.copy()
    for row in x:
        expected += row * row
    np.testing.assert_array_equal(on_every_level(run), expected)


def test_rows_are_added_in_order() -> None:
    acc, y, weights = normal(4, 130), normal(6, 130, seed=1), normal(6, seed=2)
    rows = np.array([3, 0, 3, 1, 0, 3], np.int32)

    def run(threads: int) -> np.ndarray:
        out = acc.copy()
        _kernels.add_rows(out, rows, weights, y, threads)
        return out

    expected = acc.copy()
    for row, weight, line in zip(rows, weights, y, strict=True):
        expected[row] += weight * line
    np.testing.assert_array_equal(on_every_level(run), expected)


@pytest.mark.parametrize("normalize", [False, True])
def test_top_k(normalize: bool) -> None:
    logits = normal(40, 17)
    logits[3] = 1  # all equal: the lowest indices

    def run(threads: int) -> np.ndarray:
        ids, weights = np.empty((40, 4), np.int32), np.empty((40, 4), np.float32)
        _kernels.top_k(logits, ids, weights, normalize, threads)
        return np.concatenate([ids.view(np.float32), weights], 1)

    found = on_every_level(run)
    ids, weights = found[:, :4].copy().view(np.int32), found[:, 4:]
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    expected = np.argsort(-p, 1, kind="stable")[:, :4]
    np.testing.assert_array_equal(ids, expected)
    chosen = np.take_along_axis(p, expected, 1)
    if normalize:
        chosen /= chosen.sum(1, keepdims=True)
    np.testing.assert_allclose(weights, chosen, rtol=2e-6)


@pytest.mark.parametrize("n", [*EDGES, 1000])
def test_nll_and_kld(n: int) -> None:
    base, logits = normal(6, n) * 10, normal(6, n, seed=1) * 10
    targets = np.arange(6, dtype=np.int32) % n

    def run(threads: int) -> np.ndarray:
        out, top, divergence = np.empty(6), np.empty(6, np.int32), np.empty(6)
        _kernels.nll(logits, targets, out, top, threads)
        _kernels.kld(base, logits, divergence, threads)
        return np.stack([out, top, divergence])

    nll, top, divergence = on_every_level(run)
    log_q, log_p = (a - np.log(np.exp(a - a.max(1, keepdims=True)).sum(1, keepdims=True)) - a.max(1, keepdims=True)
                    for a in (logits.astype(np.float64), base.astype(np.float64)))  # fmt: skip
    np.testing.assert_allclose(nll, -log_q[np.arange(6), targets], rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(top, logits.argmax(1))
    np.testing.assert_allclose(divergence, (np.exp(log_p) * (log_p - log_q)).sum(1), rtol=1e-12, atol=1e-13)


def test_the_first_of_equal_logits_is_the_top() -> None:
    logits = np.zeros((2, 40), np.float32)
    logits[0, [7, 9, 33]] = 5
    out, top = np.empty(2), np.empty(2, np.int32)
    _kernels.nll(logits, np.zeros(2, np.int32), out, top, 1)
    assert top.tolist() == [7, 0]


def test_a_logit_that_is_excluded_has_no_divergence() -> None:
    base = np.array([[1, -np.inf, 2]], np.float32)
    out = np.empty(1)
    _kernels.kld(base, base, out, 1)
    assert out[0] == 0


def gate_of(x: np.ndarray, threads: int) -> bytes:
    out = np.empty_like(x)
    _kernels.silu_mul(x, x, out, threads)
    return out.tobytes()


def test_calls_from_many_threads_do_not_meet() -> None:
    inputs = [normal(64, 2000, seed=seed) for seed in range(6)]
    expected = [gate_of(x, 1) for x in inputs]
    found: list[list[bytes]] = [[] for _ in inputs]

    def work(i: int) -> None:
        found[i] = [gate_of(inputs[i], 3) for _ in range(20)]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [[one] * 20 for one in expected]


def in_a_child(x: np.ndarray, expected: bytes) -> None:
    raise SystemExit(0 if gate_of(x, 3) == expected else 1)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # newer Pythons warn of what is tested here
def test_a_forked_child_has_threads_of_its_own() -> None:
    x = normal(64, 2000)
    expected = gate_of(x, 3)  # the parent's threads wait in a pool that the child has no threads in
    child = multiprocessing.get_context("fork").Process(target=in_a_child, args=(x, expected))
    child.start()
    child.join(60)
    assert child.exitcode == 0
