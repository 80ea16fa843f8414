"""A plan as text: the table of files, what would run and why, what it takes. As wide as its words everywhere."""

from collections import Counter
from collections.abc import Iterator

from quantmill import listing
from quantmill.build.workspace import FIRST
from quantmill.distributed.simulation import Simulation
from quantmill.forecast.imatrix_cost import Measuring
from quantmill.forecast.plan import Preview
from quantmill.forecast.quality_cost import Evaluating


def plan_text(plan: Preview) -> str:
    """A plan for a person."""
    return "\n".join(_lines(plan))


def _lines(plan: Preview) -> Iterator[str]:
    release = f"release {plan.release_tag}" if plan.release_tag else "a release whose tag its lock will decide"
    yield f"{plan.recipe}, llama.cpp {plan.tag}, {release}"
    rows = [("file", "ftype", "size", "bits/weight", "split")]
    for row in plan.files:
        split = f"{row.shards} files" if row.shards > 1 else ""
        rows.append((row.name, row.ftype, size(row.bytes), f"{row.bits_per_weight:.2f}", split))
    name, ftype, bytes_, bits, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    for r in rows:
        yield f"{r[0]:{name}}  {r[1]:{ftype}}  {r[2]:>{bytes_}}  {r[3]:>{bits}}  {r[4]}".rstrip()
    if plan.inexact:
        yield f"Sizes are within a few MB: {plan.inexact}."
    yield from (f"note: {finding}" for finding in plan.findings)
    yield ""
    for task, status in plan.tasks.items():
        if status.state == "run":
            yield task if status.reason == FIRST else f"{task}: {status.reason}"
    states = Counter(status.state for status in plan.tasks.values())
    words = {"run": "to run", "after": "after these", "hit": "from the store", "up to date": "up to date"}
    yield ", ".join(f"{states[state]} {text}" for state, text in words.items() if states[state])
    share = plan.shared_weights / max(plan.computed_weights + plan.shared_weights, 1)
    yield (
        f"{plan.computed_weights / 1e9:.2f} G weights to quantize from nothing, {share:.0%} of the matrix shared "
        f"between its files, about {_duration(plan.seconds)} on this machine"
    )
    if plan.measuring:
        yield _measuring(plan.measuring)
    if plan.evaluating:
        yield _evaluating(plan.evaluating, plan.threads)
    if plan.bench_seconds is not None:
        yield f"bench: about {_duration(plan.bench_seconds)}"
    yield f"disk {size(plan.disk_bytes)} for everything, memory {size(plan.memory_bytes)} for a quantize step"


def _measuring(work: Measuring) -> str:
    about = "" if work.exact else "about "
    if not work.chunks:
        return "importance matrix: the text is not known yet; 'quantmill lock' fetches it"
    other = next(name for name in work.seconds if name != work.arithmetic)
    pace = f"about {_duration(work.seconds[work.arithmetic])} by {work.arithmetic}"
    return (
        f"importance matrix: {about}{work.tokens} tokens in {work.chunks} chunks, {pace} "
        f"({_duration(work.seconds[other])} by {other}; {work.fastest} is faster here), memory {size(work.memory)}"
    )


def _evaluating(work: Evaluating, threads: int) -> str:
    if not work.chunks:
        return "quality: the text is not known yet; 'quantmill lock' fetches it"
    about, files = "" if work.exact else "about ", len(work.files)
    return (
        f"quality: {about}{work.tokens} tokens in {work.chunks} chunks, about {_duration(work.base / threads)} for the "
        f"base and {_duration(sum(work.files.values()) / threads)} for {files} file{'s' if files != 1 else ''}"
    )


def simulation_text(found: Simulation) -> str:
    """What came of a simulation, for a person."""
    team = f"{found.workers} workers" if found.workers > 1 else "one worker"
    return "\n".join(
        [
            f"{found.recipes} recipes, {found.tasks} tasks, {team} of {found.threads} threads",
            f"time     {_duration(found.seconds)}; {_duration(found.least_seconds)} with any number of workers",
            f"work     {_duration(found.thread_seconds)} of one thread; workers are busy {found.busy:.0%} of the time",
            f"network  {size(found.hub_bytes)} from the Hub, {size(found.sent_bytes)} to the remote store, "
            f"{size(found.fetched_bytes)} from it, at {size(int(found.bandwidth))}/s for each worker",
            f"store    {size(found.store_bytes)} in all, up to {size(found.worker_bytes)} on one worker; "
            f"releases {size(found.release_bytes)}",
        ]
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 200 * 3600:
        return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:,.0f} days"


def size(count: int) -> str:
    """Bytes in GB of 10^9 with two digits, in MB below one, in TB from 10,000 GB on."""
    if count >= 1e13:
        return f"{count / 1e12:,.2f} TB"
    return listing.size(count)
