"""What a person sees of a build: a line for each task that did something and why, how many of all tasks are done, and one
closing line. On a terminal there is progress too, of each task in what it counts, and the time that is left. Up-to-date
tasks are silent. Nothing heavy is imported before a task really runs.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from quantmill.build.time_left import TimeLeft
from quantmill.build.why import FIRST
from quantmill.errors import QuantmillError, printable

OFTEN = 10.0  # seconds between two lines of how far a build is, where there is no terminal


class Listener:
    """Where a build's events go: to the reporter of the run that is on, to nobody while there is none."""

    def __init__(self) -> None:
        self._reporter: Reporter | None = None
        self.seconds: Callable[[], Mapping[str, float]] = dict  # what each task is thought to take
        self.flush: Callable[[bool], None] = lambda wait: None  # sends results that wait to be sent
        self.wrong: Callable[[], Iterable[str]] = tuple  # sentences of what then fails the build, though no task did
        self.look: Callable[[], list[str]] = list  # at what a run brought about, once more; what cannot be mended
        self.late: list[str] = []  # what it could not
        self.notes: Callable[[], Iterable[str]] = tuple  # what a person ought to know of the store
        self.codes: set[int] = set()  # of the tasks that failed, by their errors
        self.releases = ""  # the folder of releases, as it is told at the end; empty where that is to nobody's use
        self.end: Callable[[], None] = lambda: None  # called last, when all is told

    def hear(self, name: str, event: str, facts: Mapping[str, Any]) -> None:
        """A step's event, as Workspace tells it: "start" with a reason and what its progress counts, "hit" with a
        reason and the place of it, "progress" or "fetch" with done and total, "finding" with a text, "done".

        Of transfers to the shared store: "send" with bytes done and total, "told" with a line.
        """
        if self._reporter is not None:
            self._reporter.event(name, event, facts)

    def failed(self) -> list[str]:
        """Sentences of what fails the build though no task did."""
        return [*self.late, *self.wrong()]

    def code(self) -> int:
        """The exit code of what was built: that of errors of use where nothing else failed."""
        failed = self.codes | {QuantmillError.exit_code for _ in self.failed()}
        return min(failed, default=0)

    def reporter(self) -> type["Reporter"]:
        """The class that doit makes its reporter of, which hears this."""
        listener = self

        class Listening(Reporter):
            def __init__(self, outstream: Any, options: Mapping[str, Any]) -> None:
                super().__init__(outstream, listener)
                listener._reporter = self

            def complete_run(self) -> None:
                super().complete_run()
                listener._reporter = None

        return Listening


class Reporter:
    """doit's reporter, which hears the steps' events too."""

    desc = "quantmill: progress, reasons for rebuilds"

    def __init__(self, outstream: Any, listener: Listener) -> None:
        self._listener = listener
        # doit's is sys.stdout as it was when doit was imported; a caller may have closed either, or exchanged it since.
        streams = [stream for stream in (outstream, sys.stdout) if stream and not getattr(stream, "closed", False)]
        self._out = streams[0] if streams else _nowhere()
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._ran = self._hits = self._same = 0
        self._failures: list[str] = []
        self._bars: dict[str, Any] = {}
        self._progress: Any = None
        self._of = self._ended = 0  # tasks
        self._told = self._began
        self._left: TimeLeft | None = None
        self._names: set[str] = set()  # of the tasks that have ended
        self._released: set[str] = set()  # recipes whose release was made
        self._running: dict[str, float] = {}  # since when
        self._terminal = bool(getattr(self._out, "isatty", lambda: False)())

    def event(self, name: str, event: str, facts: Mapping[str, Any]) -> None:
        """What `Listener.hear` heard."""
        with self._lock:
            if event in ("hit", "start") and name.startswith("release:"):
                self._released.add(name.removeprefix("release:"))
            if event == "hit":
                self._hits += 1
                self._say(f"{name}: from {facts.get('place') or 'the store'}")
            elif event == "start":
                self._ran += 1
                self._say(name if facts["reason"] in ("", FIRST) else f"{name}: {facts['reason']}")
                if self._terminal:
                    self._bars[name] = self._live().add_task(printable(name), total=None, counts=facts["counts"])
                    self._running[name] = time.monotonic()
                    if self._left:
                        self._left.begin(name, self._running[name])
            elif event in ("fetch", "send"):
                self._transfer(f"{name}: {event}", facts["done"], facts["total"])
            elif event == "told":
                self._say(f"  {name}: {facts['text']}")
            elif event == "finding":
                self._say(f"  note: {facts['text']}")
            elif name in self._bars and event == "progress":
                self._progress.update(self._bars[name], completed=facts["done"], total=facts["total"])
                if self._left:
                    self._left.advance(name, facts["done"] / max(facts["total"], 1))
                self._show()
            elif name in self._bars:
                self._progress.remove_task(self._bars.pop(name))

    def _transfer(self, label: str, done: int, total: int) -> None:
        if self._terminal and label not in self._bars and done < total:
            self._bars[label] = self._live().add_task(printable(label), total=total, counts="bytes")
        if label in self._bars:
            self._progress.update(self._bars[label], completed=done, total=total)
            if done >= total:
                self._progress.remove_task(self._bars.pop(label))

    def _live(self) -> Any:
        if self._progress is None:
            from quantmill.build.bars import TASKS, bars

            self._progress = bars(self._out)
            self._progress.start()
            self._whole = self._progress.add_task("build", total=self._of, completed=self._ended, counts=TASKS, left=None)
            threading.Thread(target=self._estimate, name="time left", daemon=True).start()
        return self._progress

    def _estimate(self) -> None:
        """In a thread of its own, for it may take seconds: what the tasks will take."""
        try:
            left = TimeLeft(self._listener.seconds())
        except (QuantmillError, OSError, ImportError):  # the task that meets it says so
            return
        with self._lock:
            for name in self._names:
                left.end(name, 0.0)
            for name, began in self._running.items():
                left.begin(name, began)
            self._left = left

    def _count(self, name: str) -> None:
        """A task has ended, whether it ran or not."""
        with self._lock:
            now = time.monotonic()
            self._ended += 1
            self._names.add(name)
            self._running.pop(name, None)
            if self._left:
                self._left.end(name, now)
            if self._progress is not None:
                self._show()
            elif not self._terminal and now - self._told >= OFTEN and self._ran:
                self._told = now
                self._say(f"  {self._ended} of {self._of} tasks")

    def _show(self) -> None:
        left = self._left.left(time.monotonic()) if self._left else None
        self._progress.update(self._whole, completed=self._ended, total=self._of, left=left)

    def _say(self, text: str) -> None:
        line = printable(text)
        if self._progress is not None:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        try:
            self._out.write(f"{line}\n")
            self._out.flush()
        except OSError:  # whoever read our lines has left, or the log's disk is full; the build goes on
            self._out = _nowhere()

    # What doit calls.

    def initialize(self, tasks: Any, selected_tasks: Any) -> None:
        """The tasks are known, nothing has run."""
        wanted, seen = list(selected_tasks), set()
        while wanted:
            if (name := wanted.pop()) not in seen and name in tasks:
                seen.add(name)
                wanted += tasks[name].task_dep
        self._of = sum(1 for name in seen if tasks[name].actions)

    def get_status(self, task: Any) -> None:
        """A task is about to be checked."""

    def execute_task(self, task: Any) -> None:
        """A task is about to run; its own events say more."""

    def add_success(self, task: Any) -> None:
        """A task is done."""
        self._count(task.name)

    def skip_uptodate(self, task: Any) -> None:
        """A task had nothing to do."""
        self._same += 1
        self._count(task.name)

    def skip_ignore(self, task: Any) -> None:
        """A task is ignored at the person's wish (`doit ignore`)."""
        self._say(f"{task.name}: ignored")

    def add_failure(self, task: Any, fail: Any) -> None:
        """A task failed: its error's sentence; a traceback only for what nobody foresaw."""
        self._count(task.name)
        with self._lock:
            if task.name in self._bars:
                self._progress.remove_task(self._bars.pop(task.name))
            if fail.report:  # else it only waited for one that failed
                self._listener.codes.add(getattr(fail, "exit_code", QuantmillError.exit_code))
            message = fail.get_msg().strip().removeprefix(f"{task.name}: ")
            self._failures.append(f"{task.name}: {message}" if fail.report else "")

    def cleanup_error(self, exception: Any) -> None:
        """doit could not clean up after a run."""
        _complain(exception.get_msg())

    def runtime_error(self, msg: str) -> None:
        """doit itself failed."""
        self._listener.codes.add(QuantmillError.exit_code)
        self._failures.append(msg)

    def teardown_task(self, task: Any) -> None:
        """No task of ours has a teardown."""

    def complete_run(self) -> None:
        """Everything has run or failed, or somebody wants it to end: what waits to be sent, and the closing lines."""
        whole = sys.exc_info()[0] is None
        self._listener.flush(whole)
        if whole and not self._failures and (did := self._ran + self._hits):
            self._listener.late = self._listener.look()
            if self._ran + self._hits > did:
                self._listener.flush(whole)
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        for failure in (*filter(None, self._failures), *self._listener.failed()):
            _complain(f"quantmill: {failure}")
        for note in self._listener.notes():
            self._say(f"  note: {note}")
        seconds = time.monotonic() - self._began
        if self._listener.releases and len(self._released) == 1 and not self._failures and not self._listener.late:
            self._say(f"the release is in {self._listener.releases}/{min(self._released)}")
        if not self._failures and not self._ran and not self._hits:
            self._say("nothing to do: everything is up to date")
        else:
            counts = f"{self._ran} run, {self._hits} from the store, {len(self._failures) + len(self._listener.late)} failed"
            self._say(f"{counts} in {seconds:.1f} s")
        if whole:
            self._listener.end()


def _complain(message: str) -> None:
    """Write to stderr; only what nobody foresaw, a traceback, has several lines."""
    sys.stderr.write("".join(f"{printable(line)}\n" for line in message.splitlines()))


def _nowhere() -> Any:
    return open(os.devnull, "w")
