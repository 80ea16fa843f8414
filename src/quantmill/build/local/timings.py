"""When each task of a build ran and for how long, beside what it was thought to take."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from quantmill.build.workspace import Report


class TaskTime(NamedTuple):
    """Seconds since the build began; `planned` is what the task was thought to take, None where nobody knows."""

    name: str
    began: float
    ended: float
    planned: float | None = None

    @property
    def step(self) -> str:
        """The first part of the name."""
        return self.name.partition(":")[0]

    @property
    def took(self) -> float:
        return self.ended - self.began


@dataclass
class Timings:
    """Hears a workspace's events. Tasks that had nothing to do, or came from a store, are not in it."""

    clock: Callable[[], float] = time.monotonic
    tasks: list[TaskTime] = field(default_factory=list)
    _running: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._began = self.clock()

    def before(self, report: Report) -> Report:
        """A report that tells this one first."""

        def hear(name: str, event: str, facts: Mapping[str, Any]) -> None:
            with self._lock:
                now = self.seconds()
                if event == "start":
                    self._running[name] = now
                elif event == "done" and name in self._running:
                    self.tasks.append(TaskTime(name, self._running.pop(name), now))
            report(name, event, facts)

        return hear

    def seconds(self) -> float:
        """Since the build began."""
        return self.clock() - self._began

    def planned(self, seconds: Mapping[str, float], threads: int) -> list[TaskTime]:
        """The tasks in the order in which they began, with `seconds` of one thread over so many threads."""
        found = {name: one / threads for name, one in seconds.items() if one > 0}
        return [task._replace(planned=found.get(task.name)) for task in sorted(self.tasks, key=lambda t: t.began)]
