"""Threads that take whole chunks through a layer, each with buffers of its own, and meet only where order matters.

Sums over a text are chains in the order of its chunks. So a chunk's part of a sum waits until the chunk before has
added its own; all else goes on side by side, and a thread that is held up holds nobody up until then.
"""

import threading
from collections.abc import Callable, Hashable

from quantmill.engine.buffers import Floats
from quantmill.engine.importance import Importance


class Stopped(Exception):
    """Another thread has failed; nothing that waits for it will come."""


class Turns:
    """Whose turn it is, by what is to be done: 0 for each thing at first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next: dict[Hashable, int] = {}
        self._stopped = False

    def wait(self, what: Hashable, turn: int) -> None:
        """Returns when `done` was called for all turns before; raises Stopped when that will not be."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._next.get(what, 0) == turn)
            if self._stopped:
                raise Stopped

    def done(self, what: Hashable, turn: int) -> None:
        with self._changed:
            self._next[what] = turn + 1
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class InTurn:
    """The importance as one piece of the text sees it: the piece `turn` adds to each sum after all before it."""

    def __init__(self, importance: Importance, turns: Turns, turn: int) -> None:
        self._importance, self._turns, self._turn = importance, turns, turn

    def dense(self, names: tuple[str, ...], x: Floats) -> None:
        self._turns.wait(names, self._turn)
        self._importance.dense(names, x, threads=1)
        self._turns.done(names, self._turn)


def share(
    count: int,
    threads: int,
    work: Callable[[int, int, Turns], None],
    after: Callable[[int], None],
    fewer: Callable[[int], None] = lambda busy: None,
) -> None:
    """Calls work(piece, thread, turns) for the pieces 0 to `count` - 1, taken in order by `threads` threads; this is 0.

    `after(n)` is called here, now and then, when the first n pieces are done, with a larger n each time; `fewer(n)`, by
    any thread, when no piece is left to begin and n threads are still busy. What any thread raises is raised, once all
    have come to an end.
    """
    turns, lock = Turns(), threading.Lock()
    left, finished, failures = iter(range(count)), set[int](), list[BaseException]()
    first = told = 0
    busy = min(threads, count)

    def take(thread: int) -> None:
        nonlocal first, told, busy
        try:
            while not failures:
                with lock:
                    piece = next(left, None)
                    if piece is None:
                        busy -= 1
                        if busy:
                            fewer(busy)
                        return
                work(piece, thread, turns)
                with lock:
                    finished.add(piece)
                    while first in finished:
                        first += 1
                    done = first
                if thread == 0 and done > told:
                    told = done
                    after(done)
        except Stopped:
            pass
        except BaseException as error:  # an interrupt too must end the others
            failures.append(error)
            turns.stop()

    others = [threading.Thread(target=take, args=(thread,)) for thread in range(1, busy)]
    for other in others:
        other.start()
    try:
        take(0)
        for other in others:
            other.join()
    finally:  # where this thread was interrupted as it waited, nobody goes on
        if first < count:
            turns.stop()
        for other in others:
            other.join()
    if failures:
        raise failures[0]
    if told < count:
        after(count)
