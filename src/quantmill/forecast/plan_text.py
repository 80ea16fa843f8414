"""A plan as text: the table of files, what would run and why, what it takes. As wide as its words everywhere."""

from collections import Counter
from collections.abc import Iterator

from quantmill.build.why import FIRST
from quantmill.forecast.imatrix_cost import ImatrixCost
from quantmill.forecast.plan import Plan
from quantmill.forecast.quality_cost import QualityCost
from quantmill.forecast.search_cost import SearchCost
from quantmill.released import LARGE
from quantmill.units import disk_text, duration_text


def plan_text(plan: Plan) -> Iterator[str]:
    """The lines of a plan for a person."""
    release = f"release {plan.release_tag}" if plan.release_tag else "a release whose tag its lock will decide"
    yield f"{plan.recipe}, llama.cpp {plan.tag}, {release}"
    rows = [("file", "ftype", "size", "bits/weight", "other types", "split")]
    for row in plan.files:
        split = f"{row.shards} files" if row.shards > 1 else ""
        others = f"{row.others:.0%}" if row.others > LARGE else ""
        size, weight = (disk_text(row.bytes), f"{row.bits_per_weight:.2f}") if row.bytes else ("?", "?")
        size, weight = (f"≤ {size}", f"≤ {weight}") if row.bound else (size, weight)
        rows.append((row.name, row.ftype, size, weight, others, split))
    sizes = {name: disk_text(made) if made else _bound(plan, name) for name, (_, made) in plan.projectors.items()}
    rows += [(path, plan.projectors[path][0], told_size, "", "", "") for path, told_size in sizes.items()]
    told = any(row.others > LARGE for row in plan.files)
    name, ftype, bytes_, bits, other, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    for r in rows:
        column = f"  {r[4]:>{other}}" if told else ""
        yield f"{r[0]:{name}}  {r[1]:{ftype}}  {r[2]:>{bytes_}}  {r[3]:>{bits}}{column}  {r[5]}".rstrip()
    if not plan.files[0].bytes:
        yield f"note: {plan.inexact}"
    elif plan.inexact:
        yield f"Sizes are within a few MB: {plan.inexact}."
    yield from (f"note: {finding}" for finding in plan.findings)
    yield from plan.tools
    yield ""
    for task, status in plan.tasks.items():
        if status.state == "run":
            yield task if status.reason == FIRST else f"{task}: {status.reason}"
    states = Counter(status.state for status in plan.tasks.values())
    words = {"run": "to run", "after": "after these", "hit": "from the store", "up to date": "up to date"}
    yield ", ".join(f"{states[state]} {text}" for state, text in words.items() if states[state])
    if not plan.files[0].bytes:
        yield _memory(plan)
        return
    share = plan.shared_weights / max(plan.computed_weights + plan.shared_weights, 1)
    yield (
        f"{plan.computed_weights / 1e9:.2f} G weights to quantize from nothing, {share:.0%} of the matrix shared "
        f"between its files, about {duration_text(plan.seconds)} on this machine"
    )
    if plan.imatrix:
        yield _imatrix(plan.imatrix)
    if plan.quality:
        yield _quality(plan.quality, plan.threads)
    if plan.search:
        yield _search(plan.search, plan.threads)
    if plan.bench_seconds is not None:
        yield f"bench: about {duration_text(plan.bench_seconds)}"
    disk = f"disk {disk_text(plan.disk_bytes)} for everything"
    if plan.as_built and plan.disk_peak is not None:
        disk = f"disk {disk_text(plan.disk_peak)} at most, as files go when they are published"
    yield f"{disk}, memory {disk_text(plan.memory_bytes)} for a quantize step"
    yield _memory(plan)


def _bound(plan: Plan, name: str) -> str:
    return f"≤ {disk_text(plan.bounds[name])}" if name in plan.bounds else "?"


def _memory(plan: Plan) -> str:
    most = sorted(plan.memory.items(), key=lambda step: -step[1])
    least = {step: "at least " if step in plan.at_least else "" for step in plan.memory}
    return f"memory by step: {', '.join(f'{step} {least[step]}{disk_text(size)}' for step, size in most)}"


def _imatrix(work: ImatrixCost) -> str:
    about = "" if work.exact else "about "
    if not work.chunks:
        return "importance matrix: the text is not known yet; 'quantmill lock' fetches it"
    other = next(name for name in work.seconds if name != work.arithmetic)
    pace = f"about {duration_text(work.seconds[work.arithmetic])} by {work.arithmetic}"
    return (
        f"importance matrix: {about}{work.tokens} tokens in {work.chunks} chunks, {pace} "
        f"({duration_text(work.seconds[other])} by {other}; {work.fastest} is faster here), "
        f"memory {disk_text(work.memory)}"
    )


def _search(work: SearchCost, threads: int) -> str:
    if not work.chunks:
        return "search: the text is not known yet; 'quantmill lock' fetches it"
    return (
        f"search: {work.probes} tensors one by one on {work.tokens} tokens in {work.chunks} chunks, "
        f"about {duration_text(work.seconds / threads)} for all targets"
    )


def _quality(work: QualityCost, threads: int) -> str:
    if not work.chunks:
        return "quality: the text is not known yet; 'quantmill lock' fetches it"
    about, files = "" if work.exact else "about ", len(work.files)
    base, each = duration_text(work.base / threads), duration_text(sum(work.files.values()) / threads)
    return (
        f"quality: {about}{work.tokens} tokens in {work.chunks} chunks, "
        f"about {base} for the base and {each} for {files} file{'s' if files != 1 else ''}"
    )
