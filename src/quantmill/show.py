"""A plan on the terminal: the table of files, what would run and why, what it takes."""

from collections import Counter

from rich.console import Console
from rich.table import Table

from quantmill.build import FIRST
from quantmill.preview import Preview


def show_plan(plan: Preview, console: Console | None = None) -> None:
    """Print a plan for a person."""
    console = console or Console(highlight=False)
    table = Table(title=f"{plan.recipe}, llama.cpp {plan.tag}", box=None, header_style="bold", title_justify="left")
    for name, side in (("file", "left"), ("ftype", "left"), ("size", "right"), ("bits/weight", "right")):
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    table.add_column("split")
    for row in plan.files:
        split = f"{row.shards} files" if row.shards > 1 else ""
        table.add_row(row.name, row.ftype, size(row.bytes), f"{row.bits_per_weight:.2f}", split)
    console.print(table)
    if not plan.exact:
        console.print("Sizes are within a few MB: the lock does not know the tokenizer yet.")
    for finding in plan.findings:
        console.print(f"note: {finding}", soft_wrap=True, markup=False)
    console.print()
    for name, status in plan.tasks.items():
        if status.state == "run":
            reason = "" if status.reason == FIRST else f": {status.reason}"
            console.print(f"{name}{reason}", soft_wrap=True, markup=False)
    states = Counter(status.state for status in plan.tasks.values())
    words = {"run": "to run", "after": "after these", "hit": "from the store", "up to date": "up to date"}
    console.print(", ".join(f"{states[state]} {text}" for state, text in words.items() if states[state]))
    share = plan.shared_weights / max(plan.computed_weights + plan.shared_weights, 1)
    console.print(
        f"{plan.computed_weights / 1e9:.2f} G weights to quantize from nothing, {share:.0%} of the matrix shared "
        f"between its files, about {_duration(plan.seconds)} on this machine",
        soft_wrap=True,
    )
    console.print(f"disk {size(plan.disk_bytes)} for everything, memory {size(plan.memory_bytes)} for a quantize step")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: int) -> str:
    """Bytes in GB of 10^9 with two digits, in MB below one."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
