"""Work in threads, results in order, and never more of them in memory than the threads need to stay busy."""

from collections.abc import Callable, Iterable
from threading import Condition, Lock, Thread, local
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_turn(work: Callable[[Job], Result], jobs: Iterable[Job], finish: Callable[[Result], None], threads: int) -> None:
    """`finish(work(job))` for every job; the calling thread is one of the `threads`, and with one there is no other.

    Jobs are worked on side by side, and finished in their order and never two at once, by whichever thread has the one
    that is due. No thread is only there to write what others computed, and none sleeps while there is work. At most 2
    * threads jobs are begun and not finished. After an error no job begins; that of the first job that has one is
    raised, when those before it are finished and every thread has come to its end.
    """
    turns = _Turns(work, jobs, finish, 2 * max(1, threads))
    others = [Thread(target=turns.take_part, name=f"quantize_{number}") for number in range(1, threads)]
    started = []
    try:
        for thread in others:
            thread.start()
            started.append(thread)
        turns.take_part()
    except BaseException:  # an interrupt between two jobs
        turns.stop()
        raise
    finally:
        for thread in started:
            thread.join()
    if turns.error is not None:
        raise turns.error


class _Turns(Generic[Job, Result]):
    """What the threads of `in_turn` share. `error` is the first in the order of jobs, once all threads are done."""

    def __init__(
        self, work: Callable[[Job], Result], jobs: Iterable[Job], finish: Callable[[Result], None], ahead: int
    ) -> None:
        self.error: BaseException | None = None
        self._work, self._jobs, self._finish, self._ahead = work, iter(jobs), finish, ahead
        self._asking = Lock()  # held by who asks for the next job, which may take a while
        self._changed = Condition()  # guards what follows
        self._begun = self._due = 0  # jobs begun, jobs finished
        self._waiting: dict[int, tuple[Result] | BaseException] = {}  # what became of jobs that are not finished yet
        self._finishing = self._stopped = False

    def take_part(self) -> None:
        """Work on jobs, and finish those that are due, until there are no more."""
        while True:
            with self._asking:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or self._begun - self._due < self._ahead)
                    if self._stopped:
                        return
                    number, self._begun = self._begun, self._begun + 1
                try:
                    job = next(self._jobs)
                except StopIteration:
                    self.stop()
                    return
                except BaseException as error:
                    self._hand_in(number, error)
                    return
            try:
                result = self._work(job)
            except BaseException as error:
                self._hand_in(number, error)
            else:
                self._hand_in(number, (result,))

    def stop(self) -> None:
        """No further job begins."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _hand_in(self, number: int, outcome: tuple[Result] | BaseException) -> None:
        """Finish the job when it is due, and those that wait for it; who finishes already takes it over."""
        if isinstance(outcome, BaseException):
            self.stop()
        with self._changed:
            self._waiting[number] = outcome
            if self._finishing:
                return
            self._finishing = True
        while (due := self._take_due()) is not None:
            try:
                if isinstance(due, BaseException):
                    raise due
                self._finish(*due)
            except BaseException as error:
                self.error = error
                self.stop()
                return  # still as who finishes: nobody does after an error
            with self._changed:
                self._due += 1
                self._changed.notify_all()

    def _take_due(self) -> tuple[Result] | BaseException | None:
        with self._changed:
            self._finishing = self._due in self._waiting
            return self._waiting.pop(self._due) if self._finishing else None


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


class Scratch(local):
    """A thread's own memory, used again for each of its jobs: what another thread wrote to is in that one's cache."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[np.uint8]] = {}

    def take(self, name: str, count: int) -> "NDArray[np.uint8]":
        """An array of `count` bytes of any value; what was taken by the name before may be the same memory."""
        if name not in self._held or self._held[name].size < count:
            self._held[name] = np.empty(count, np.uint8)
        return self._held[name][:count]
