"""What a person sees of a build: a line for each task that did something and why, progress by bytes on a terminal, and
one closing line. Up-to-date tasks are silent. Nothing heavy is imported before a task really runs.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from quantmill.build.workspace import FIRST
from quantmill.errors import printable


class Listener:
    """Where a build's events go: to the reporter of the run that is on, to nobody while there is none."""

    def __init__(self) -> None:
        self._reporter: Reporter | None = None
        self.flush: Callable[[bool], None] = lambda wait: None  # sends results that wait to be sent
        self.wrong: Callable[[], Iterable[str]] = tuple  # sentences of what then fails the build, though no task did
        self.end: Callable[[], None] = lambda: None  # called last, when all is told

    def hear(self, name: str, event: str, facts: Mapping[str, Any]) -> None:
        """A step's event, as Workspace tells it: "start" with a reason and what its progress counts, "hit" with a
        reason and the place of it, "progress" or "fetch" with done and total, "finding" with a text, "done".

        Of transfers to the shared store: "send" with bytes done and total, "told" with a line.
        """
        if self._reporter is not None:
            self._reporter.event(name, event, facts)

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

    desc = "quantmill: progress by bytes, reasons for rebuilds"

    def __init__(self, outstream: Any, listener: Listener) -> None:
        self._listener = listener
        self._out = outstream or _nowhere()  # a caller may have closed it
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._ran = self._hits = self._same = 0
        self._failures: list[str] = []
        self._bars: dict[str, Any] = {}
        self._progress: Any = None
        self._terminal = bool(getattr(outstream, "isatty", lambda: False)())

    def event(self, name: str, event: str, facts: Mapping[str, Any]) -> None:
        """What `Listener.hear` heard."""
        with self._lock:
            if event == "hit":
                self._hits += 1
                self._say(f"{name}: from {facts.get('place') or 'the store'}")
            elif event == "start":
                self._ran += 1
                self._say(f"{name}: {facts['reason']}" if facts["reason"] != FIRST else name)
                if self._terminal:
                    self._bars[name] = self._live().add_task(printable(name), total=None, in_bytes=facts["counts"] == "bytes")
            elif event in ("fetch", "send"):
                self._transfer(f"{name}: {event}", facts["done"], facts["total"])
            elif event == "told":
                self._say(f"  {name}: {facts['text']}")
            elif event == "finding":
                self._say(f"  note: {facts['text']}")
            elif name in self._bars and event == "progress":
                self._progress.update(self._bars[name], completed=facts["done"], total=facts["total"])
            elif name in self._bars:
                self._progress.remove_task(self._bars.pop(name))

    def _transfer(self, label: str, done: int, total: int) -> None:
        if self._terminal and label not in self._bars and done < total:
            self._bars[label] = self._live().add_task(printable(label), total=total, in_bytes=True)
        if label in self._bars:
            self._progress.update(self._bars[label], completed=done, total=total)
            if done >= total:
                self._progress.remove_task(self._bars.pop(label))

    def _live(self) -> Any:
        if self._progress is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                Task,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )
            from rich.text import Text

            class Amount(DownloadColumn):
                """Bytes, or the share of passes."""

                def render(self, task: Task) -> Text:
                    return super().render(task) if task.fields["in_bytes"] else Text(f"{task.percentage:.0f}%")

            class Speed(TransferSpeedColumn):
                """Bytes a second, where there are bytes."""

                def render(self, task: Task) -> Text:
                    return super().render(task) if task.fields["in_bytes"] else Text("")

            # With doit's threads sys.stdout is swapped now and then, so the console holds the stream itself.
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                Amount(),
                Speed(),
                TimeRemainingColumn(),
                console=Console(file=self._out),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._progress.start()
        return self._progress

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

    def get_status(self, task: Any) -> None:
        """A task is about to be checked."""

    def execute_task(self, task: Any) -> None:
        """A task is about to run; its own events say more."""

    def add_success(self, task: Any) -> None:
        """A task is done."""

    def skip_uptodate(self, task: Any) -> None:
        """A task had nothing to do."""
        self._same += 1

    def skip_ignore(self, task: Any) -> None:
        """A task is ignored at the person's wish (`doit ignore`)."""
        self._say(f"{task.name}: ignored")

    def add_failure(self, task: Any, fail: Any) -> None:
        """A task failed: its error's sentence; a traceback only for what nobody foresaw."""
        with self._lock:
            if task.name in self._bars:
                self._progress.remove_task(self._bars.pop(task.name))
            message = fail.get_msg().strip()
            self._failures.append(f"{task.name}: {message}" if fail.report else "")

    def cleanup_error(self, exception: Any) -> None:
        """doit could not clean up after a run."""
        _complain(exception.get_msg())

    def runtime_error(self, msg: str) -> None:
        """doit itself failed."""
        self._failures.append(msg)

    def teardown_task(self, task: Any) -> None:
        """No task of ours has a teardown."""

    def complete_run(self) -> None:
        """Everything has run or failed, or somebody wants it to end: what waits to be sent, and the closing lines."""
        self._listener.flush(sys.exc_info()[0] is None)
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        for failure in (*filter(None, self._failures), *self._listener.wrong()):
            _complain(f"quantmill: {failure}")
        seconds = time.monotonic() - self._began
        if not self._failures and not self._ran and not self._hits:
            self._say("nothing to do: everything is up to date")
        else:
            counts = f"{self._ran} run, {self._hits} from the store, {len(self._failures)} failed"
            self._say(f"{counts} in {seconds:.1f} s")
        if sys.exc_info()[0] is None:
            self._listener.end()


def _complain(message: str) -> None:
    """Write to stderr; only what nobody foresaw, a traceback, has several lines."""
    sys.stderr.write("".join(f"{printable(line)}\n" for line in message.splitlines()))


def _nowhere() -> Any:
    return open(os.devnull, "w")
