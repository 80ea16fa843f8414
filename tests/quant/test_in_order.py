"""Jobs side by side, finished in turn: order, bounds, and which error is told."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from quantmill.quant.in_order import Buffers, in_turn

THREADS = pytest.mark.parametrize("threads", [0, 1, 2, 5])


@THREADS
def test_jobs_are_finished_in_order_one_at_a_time(threads: int) -> None:
    delays = np.random.default_rng(threads).exponential(0.001, 200)
    begun = finished = 0
    one_at_a_time = threading.Lock()
    order: list[int] = []
    who: set[int] = set()
    ahead = []

    def jobs() -> Iterator[int]:
        nonlocal begun
        for number in range(len(delays)):
            ahead.append(begun - finished)
            begun += 1
            yield number

    def work(number: int) -> int:
        who.add(threading.get_ident())
        time.sleep(delays[number])
        return number

    def finish(number: int) -> None:
        nonlocal finished
        assert one_at_a_time.acquire(blocking=False)
        order.append(number)
        time.sleep(delays[-number])
        finished += 1
        one_at_a_time.release()

    in_turn(work, jobs(), finish, threads)
    assert order == list(range(len(delays)))
    assert len(who) == max(1, threads)
    assert threading.get_ident() in who
    assert max(ahead) < 2 * max(1, threads)


@THREADS
@pytest.mark.parametrize("where", ["work", "finish", "jobs"])
def test_the_first_error_in_the_order_of_jobs_is_raised(threads: int, where: str) -> None:
    """Job 9 fails long before job 7 does; job 7 is due first."""
    worked: list[int] = []
    finished: list[int] = []

    def jobs() -> Iterator[int]:
        yield from range(7)
        if where == "jobs":
            raise ValueError("job 7 in jobs")
        yield from range(7, 1000)

    def work(number: int) -> int:
        worked.append(number)
        if where == "work" and number == 7:
            time.sleep(0.01)
            raise ValueError("job 7 in work")
        if number == 9:
            raise ValueError("job 9")
        return number

    def finish(number: int) -> None:
        if where == "finish" and number == 7:
            time.sleep(0.01)
            raise ValueError("job 7 in finish")
        finished.append(number)

    with pytest.raises(ValueError, match=f"^job 7 in {where}$"):
        in_turn(work, jobs(), finish, threads)
    assert finished == list(range(7))
    assert len(worked) <= 7 + 2 * max(1, threads)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("quantize")]


def test_an_interrupt_ends_all_threads() -> None:
    def finish(number: int) -> None:
        if number == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_turn(lambda number: number, range(1000), finish, 3)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("quantize")]


def test_buffers_are_used_again() -> None:
    buffers = Buffers()
    first = buffers.take(100)
    buffers.give(first.view(np.float32).reshape(5, 5))
    again = buffers.take(60)
    assert again.size == 60
    assert np.shares_memory(first, again)
    assert not np.shares_memory(again, buffers.take(60))
