"""The size by which shards were cut, found from which tensors each of them holds."""

from collections.abc import Iterable, Sequence

from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.shards import counted_bytes, plan_shards

USUAL = 50 * 10**9
_UNITS = tuple(10**n for n in range(9, -1, -1))


def split_size(files: Iterable[tuple[Sequence[TensorEntry], Sequence[int]]]) -> str | int | None:
    """A limit by which all files are cut as they are, the roundest; None where there is none. Of each file its tensors
    in order, and how many each shard has."""
    known = list(files)
    least, most = 1, None
    for tensors, counts in known:
        sizes, at = [counted_bytes(entry) for entry in tensors], 0
        for number, count in enumerate(counts):
            within = sum(sizes[at : at + count])
            if count > 1 or number == 0:  # a tensor that is larger than the limit has a shard of its own
                least = max(least, within)
            at += count
            if number < len(counts) - 1:
                most = min(most or within + sizes[at], within + sizes[at])
    if most is None and least <= USUAL:
        return "50GB"
    if most is not None and least >= most:
        return None
    limit = next(found for unit in _UNITS if (found := -(-least // unit) * unit) < (most or found + 1))
    for tensors, counts in known:
        if [len(shard.tensors) for shard in plan_shards((), tensors, max_size=limit)] != list(counts):
            return None
    units = {10**9: "GB", 10**6: "MB", 10**3: "KB"}
    return next((f"{limit // unit}{name}" for unit, name in units.items() if limit % unit == 0), limit)
