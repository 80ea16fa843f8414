"""Threads that take whole chunks through a layer: order where it matters, an end when one fails, the same sums."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from forward_helpers import LEVELS, normal
from forward_models import MODELS, chunks, write
from quantmill import _kernels
from quantmill.engine.budget import budget
from quantmill.engine.evaluation import ARITHMETICS, Run, collect, open_model
from quantmill.engine.workers import Turns, share


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_pieces_add_up_in_order_whoever_is_late(threads: int) -> None:
    added: list[int] = []
    told: list[int] = []
    delays = np.random.default_rng(threads).random(12) / 200

    def work(piece: int, thread: int, turns: Turns) -> None:
        assert 0 <= thread < threads
        time.sleep(delays[piece])
        turns.wait("sum", piece)
        added.append(piece)
        turns.done("sum", piece)

    share(12, threads, work, told.append)
    assert added == list(range(12))
    assert told == sorted(told)
    assert told[-1] == 12


def test_who_finds_nothing_left_says_how_many_are_busy() -> None:
    busy: list[int] = []
    told = threading.Event()

    def fewer(left: int) -> None:
        busy.append(left)
        if left == 1:
            told.set()

    def work(piece: int, thread: int, turns: Turns) -> None:
        if piece == 0:  # until both others have come to their end
            assert told.wait(30)

    share(5, 3, work, lambda done: None, fewer)
    assert busy == [2, 1]


def test_what_is_told_always_grows() -> None:
    for _ in range(50):
        told: list[int] = []
        second = threading.Event()

        def work(piece: int, thread: int, turns: Turns, second: threading.Event = second) -> None:
            if piece == 1:
                second.set()
            elif piece == 0 and thread:  # the caller's own piece is done before the first
                second.wait(1)
                time.sleep(0.002)

        share(4, 2, work, told.append)
        assert told == sorted(set(told))
        assert told[0] > 0
        assert told[-1] == 4


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_all_end_when_one_fails(where: str) -> None:
    """The others wait for a turn that will not come."""
    begun = threading.active_count()

    def work(piece: int, thread: int, turns: Turns) -> None:
        if (thread == 0) == (where == "here"):
            raise KeyboardInterrupt(where)
        turns.wait("never", 1)

    with pytest.raises(KeyboardInterrupt, match=where):
        share(3, 3 if where == "here" else 2, work, lambda done: None)
    assert threading.active_count() == begun


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("count", [1, 5])
def test_sums_without_perplexity_are_those_with_it(count: int, arithmetic: str, tmp_path: Path) -> None:
    path = write(MODELS["llama-bias"], tmp_path / "model.gguf")
    tokens = chunks(MODELS["llama-bias"], length=48, count=count)
    with open_model(path) as model:
        assert (budget(model, Run(arithmetic, 2), count, 48).piece > 0) == (count > 1)
        expected = collect(model, tokens, Run(arithmetic, 1))
        alone = collect(model, tokens, Run(arithmetic, 2), perplexity=False)
    assert alone.nll is None
    assert alone.sums.keys() == expected.sums.keys()
    for name, sums in expected.sums.items():
        assert alone.sums[name].tobytes() == sums.tobytes()
        assert alone.calls[name] == expected.calls[name]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_products_of_one_input_are_those_of_each(arithmetic: str, level: str) -> None:
    before = _kernels.isa()
    _kernels.set_isa(level)
    try:
        x, weights = normal(37, 100), [normal(rows, 100, seed=rows) for rows in (1, 70, 32)]
        panels = [
            _kernels.pack("F32", w.view(np.uint8).reshape(-1), *w.shape, arithmetic, 1)  # type: ignore[arg-type]
            for w in weights
        ]
        expected, outs = ([np.zeros((37, len(w)), np.float32) for w in weights] for _ in range(2))
        for panel, out in zip(panels, expected, strict=True):
            _kernels.matmul(x, panel, out, 1)
        _kernels.matmuls(x, panels, outs, 2)
        assert [out.tobytes() for out in outs] == [out.tobytes() for out in expected]
        half = weights[0].astype(np.float16)
        _kernels.repack(panels[1], "F16", half.view(np.uint8).reshape(-1), 1, 100, 2)
        _kernels.matmul(x, panels[1], outs[0], 1)
        fresh = _kernels.pack("F16", half.view(np.uint8).reshape(-1), 1, 100, arithmetic, 1)  # type: ignore[arg-type]
        _kernels.matmul(x, fresh, expected[0], 1)
        assert (panels[1].rows, outs[0].tobytes()) == (1, expected[0].tobytes())
    finally:
        _kernels.set_isa(before)


def test_products_that_cannot_be() -> None:
    def packed(rows: int, columns: int, arithmetic: str) -> _kernels.Panels:
        return _kernels.pack("F32", np.zeros(rows * columns * 4, np.uint8), rows, columns, arithmetic, 1)  # type: ignore[arg-type]

    one, x, out = packed(4, 8, "f32"), np.zeros((2, 8), np.float32), np.zeros((2, 4), np.float32)
    cases = [
        ([], [], "ws must be one or more and as many as outs, not 0 and 0"),
        ([one], [out, out], "ws must be one or more and as many as outs, not 1 and 2"),
        ([one, packed(4, 9, "f32")], [out, out.copy()], "ws must be equally wide, not 8 and 9"),
        ([one, packed(4, 8, "bf16x2")], [out, out.copy()], "ws must be of one arithmetic"),
        ([one, one], [out, out], "out and another must not overlap"),
        ([one], [out[:, :3].copy()], "out must have 4 in dimension 1, not 3"),
    ]
    for ws, outs, message in cases:
        with pytest.raises(ValueError, match=f"^{message}$"):
            _kernels.matmuls(x, ws, outs, 1)
