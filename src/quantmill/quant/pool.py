"""Work in threads, results in order, and never more of them in memory than the threads need to stay busy."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Job = TypeVar("Job")
Result = TypeVar("Result")


def ordered(work: Callable[[Job], Result], jobs: Iterable[Job], threads: int) -> Iterator[Result]:
    """`work(job)` for every job, in the jobs' order; at most 2 * threads results wait. One thread starts none.

    The first error is raised where its result was due; jobs that have not begun by then are dropped.
    """
    if threads <= 1:
        yield from map(work, jobs)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="quantize") as pool:
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class Buffers:
    """Memory that threads use again: what comes fresh from the system costs a page fault every few kilobytes."""

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []

    def take(self, count: int) -> "NDArray[np.uint8]":
        """An array of `count` bytes of any value; one that is too small for it is let go, so that all grow alike."""
        try:
            found = self._free.pop()
        except IndexError:
            found = np.empty(count, np.uint8)
        return (found if found.size >= count else np.empty(count, np.uint8))[:count]

    def give(self, array: "NDArray[Any]") -> None:
        """Back comes what `take` returned, in whatever shape and type; nobody may use it afterwards."""
        if array.base is not None:  # the whole, of which `take` returned a slice
            self._free.append(array.base)
