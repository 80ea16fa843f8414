"""A build's timeline as one page of HTML that needs no network: plan against fact, by task and by step."""

from collections.abc import Iterator, Sequence
from html import escape

from quantmill.build.local.timings import TaskTime

COLORS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0")
WIDTH, ROW, NAMES = 900, 18, 260  # of the picture: its bars, one of them, the names beside them
STYLE = """body{font:14px sans-serif;margin:2em;color:#222;background:#fff}table{border-collapse:collapse;margin:1em 0}
td,th{padding:2px 12px 2px 0;text-align:right}td:first-child,th:first-child{text-align:left}
svg text{font:11px sans-serif}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}svg text{fill:#ddd}}"""


def timings_page(title: str, tasks: Sequence[TaskTime], seconds: float) -> str:
    """The page of a build that took so long. `tasks` are in the order in which they began."""
    return "\n".join([
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{len(tasks)} tasks ran in {seconds:.1f} s; {sum(task.took for task in tasks):.1f} s of tasks.</p>",
        *_picture(tasks, seconds),
        "<h2>By step</h2>",
        *_table(("step", "tasks", "took, s", "planned, s", "took / planned"), _steps(tasks)),
        "<h2>By task</h2>",
        *_table(("task", "began, s", "took, s", "planned, s", "took / planned"), map(_task, tasks)),
        "</body></html>",
        "",
    ])  # fmt: skip


def _picture(tasks: Sequence[TaskTime], seconds: float) -> Iterator[str]:
    """A bar a task in its step's color, and what was planned as a line below it; how many ran at once under them."""
    scale = WIDTH / max(seconds, 1e-9)
    steps = list(dict.fromkeys(task.step for task in tasks))
    height = ROW * (len(tasks) + 4)
    yield f'<svg role="img" width="{NAMES + WIDTH + 80}" height="{height}"><title>Timeline</title>'
    for at, task in enumerate(tasks):
        y, left, width = at * ROW, NAMES + task.began * scale, max(task.took * scale, 1)
        yield f'<text x="0" y="{y + 12}">{escape(task.name)}</text>'
        color = COLORS[steps.index(task.step) % len(COLORS)]
        said = f"{task.name}: {task.began:.1f} s to {task.ended:.1f} s" + _said(task)
        yield (
            f'<rect x="{left:.1f}" y="{y + 2}" width="{width:.1f}" height="{ROW - 6}" fill="{color}">'
            f"<title>{escape(said)}</title></rect>"
        )
        if task.planned is not None:
            end = min(left + task.planned * scale, NAMES + WIDTH + 70)
            line = f'x1="{left:.1f}" x2="{end:.1f}" y1="{y + ROW - 3}" y2="{y + ROW - 3}"'
            yield f'<line {line} stroke="currentColor" stroke-width="1.5"/>'
        yield f'<text x="{left + width + 4:.1f}" y="{y + 12}">{task.took:.1f}</text>'
    yield from _at_once(tasks, scale, height)
    yield "</svg>"


def _at_once(tasks: Sequence[TaskTime], scale: float, height: int) -> Iterator[str]:
    changes = sorted([(task.began, 1) for task in tasks] + [(task.ended, -1) for task in tasks])
    running, most, points = 0, 1, [(0.0, 0)]
    for moment, change in changes:
        points += [(moment, running), (moment, running + change)]
        running += change
        most = max(most, running)
    shown = " ".join(f"{NAMES + x * scale:.1f},{height - 4 - y * ROW * 2.5 / most:.1f}" for x, y in points)
    yield f'<text x="0" y="{height - 20}">tasks at once (at most {most})</text>'
    yield f'<polyline points="{shown}" fill="none" stroke="{COLORS[0]}" stroke-width="1.5"/>'


def _said(task: TaskTime) -> str:
    return "" if task.planned is None else f", planned {task.planned:.1f} s"


def _steps(tasks: Sequence[TaskTime]) -> Iterator[tuple[str, ...]]:
    for step in sorted({task.step for task in tasks}, key=lambda s: -sum(t.took for t in tasks if t.step == s)):
        own = [task for task in tasks if task.step == step]
        took, known = sum(task.took for task in own), [task.planned for task in own if task.planned is not None]
        yield step, str(len(own)), f"{took:.1f}", *_against(took, sum(known) if known else None)


def _task(task: TaskTime) -> tuple[str, ...]:
    return task.name, f"{task.began:.1f}", f"{task.took:.1f}", *_against(task.took, task.planned)


def _against(took: float, planned: float | None) -> tuple[str, str]:
    return ("", "") if planned is None else (f"{planned:.1f}", f"{took / planned:.2f}")


def _table(head: Sequence[str], rows: "Iterator[tuple[str, ...]] | map[tuple[str, ...]]") -> Iterator[str]:
    yield "<table><tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"
    yield from ("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    yield "</table>"
