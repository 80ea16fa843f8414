"""The bars of a build on a terminal: one for all tasks, and one for each that runs."""

from typing import Any

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

from quantmill.units import duration_text

TASKS = "tasks"  # what the bar of the whole build counts


class Amount(DownloadColumn):
    """How much of how much, in what the task counts."""

    def render(self, task: Task) -> Text:
        if task.fields["counts"] == "bytes":
            return super().render(task)
        of = "?" if task.total is None else f"{task.total:.0f}"
        return Text(f"{task.completed:.0f} of {of} {task.fields['counts']}")


class Speed(TransferSpeedColumn):
    """Bytes a second, where there are bytes."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.fields["counts"] == "bytes" else Text("")


class Remaining(TimeRemainingColumn):
    """The time that is left: of the whole build what its field `left` says, for its tasks are not alike."""

    def render(self, task: Task) -> Text:
        if task.fields["counts"] != TASKS:
            return super().render(task)
        left = task.fields.get("left")
        return Text("" if left is None else f"about {duration_text(left)} left")


def bars(out: Any) -> Progress:
    """The bars, not started yet, on a stream. Each has a field `counts`."""
    # With doit's threads sys.stdout is swapped now and then, so the console holds the stream itself.
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        Amount(),
        Speed(),
        Remaining(),
        console=Console(file=out),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
