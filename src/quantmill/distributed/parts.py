"""A matrix of files cut into parts, so that several workers quantize one model, or one huge file, at the same time.

A part is some tensors in one type. Its step writes them into a small file of its own and lists them as the quant step
does (see quant/sharing.py). The quant step of each file finds them there and copies. So the files' bytes and keys are
those of a build on one machine, and a part that is lost costs only its own time.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from quantmill.build.graph import Node
from quantmill.forecast.base_file import Description
from quantmill.forecast.costs import Pair, quantize_costs
from quantmill.steps import STEPS

PARTS_FROM = 256 << 20  # bytes of a base from which on its matrix is cut into parts
LEAST_SECONDS = 0.5  # of a part on one thread: below it, sending costs more than it spares
FILES_A_WORKER = 4  # a file that takes more than such a share of a worker's time is cut
SAME = ("zero_as_one", "allow_requantize")  # of a quant step's params, what its parts have too
PARTS_A_WORKER = 8  # so that the last one to finish leaves the others idle for little


@dataclass(frozen=True)
class Part:
    """A step that quantizes some tensors to one type, in about `seconds` of one thread; `urgency`: with those of the
    longest step that waits for it."""

    node: Node
    pairs: frozenset[Pair]
    seconds: float
    urgency: float


@dataclass(frozen=True)
class Cut:
    """What several quant nodes come to: `parts`, the most urgent first, and what is left to each node itself in seconds
    of one thread, by name."""

    parts: tuple[Part, ...]
    rest: Mapping[str, float]


def uncut(quants: Mapping[str, Node], base: Description) -> "Cut":
    """One worker's share of everything: each tensor is computed for the first file that holds it."""
    files, seconds = quantize_costs(quants, base)
    seen: set[Pair] = set()
    rest = {}
    for name, file in files.items():
        rest[name] = sum(seconds[pair] for pair in file - seen)
        seen |= file
    return Cut((), rest)


def cut(quants: Mapping[str, Node], base: Description, workers: int) -> Cut:
    """Cut the quant nodes of one recipe: what several files hold into parts, and of what one file alone holds so much
    that a worker would be left with it at the end."""
    files, seconds = quantize_costs(quants, base)
    holders = Counter(pair for file in files.values() for pair in file)
    any_node = next(iter(quants.values()))
    total = sum(seconds.values())
    wanted = {pair for pair, count in holders.items() if count > 1}
    rest = {}
    for name, file in files.items():
        alone = [pair for pair in file if pair not in wanted]
        rest[name] = sum(seconds[pair] for pair in alone)
        if rest[name] > total / (workers * FILES_A_WORKER):
            wanted |= set(alone)
            rest[name] = 0.0
    by_type: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for (name, type_), spent in seconds.items():
        if (name, type_) in wanted:
            by_type[type_].append((name, spent))
    share = max(LEAST_SECONDS, total / (workers * PARTS_A_WORKER))
    parts: list[Part] = []
    for type_, found in by_type.items():
        for names, spent in _shares(found, share):
            held = frozenset((name, type_) for name in names)
            after = max((rest[name] for name, file in files.items() if file & held), default=0.0)
            parts.append(Part(_part(any_node, type_, names, len(parts)), held, spent, spent + after))
    return Cut(tuple(sorted(parts, key=lambda part: -part.urgency)), rest)


def _shares(found: list[tuple[str, float]], share: float) -> Iterator[tuple[list[str], float]]:
    """The tensors in runs that each take `share` seconds or a little more."""
    names: list[str] = []
    spent = 0.0
    for name, seconds in found:
        names.append(name)
        spent += seconds
        if spent >= share or name == found[-1][0]:
            yield names, spent
            names, spent = [], 0.0


def _part(quant: Node, type_: str, names: list[str], number: int) -> Node:
    recipe = quant.name.partition(":")[2].partition("/")[0]
    return Node(
        f"part:{recipe}/{type_}.{number}",
        STEPS["part"],
        {"types": dict.fromkeys(names, type_), **{key: True for key in SAME if quant.params.get(key)}},
        quant.edges,
        quant.generation,
        where=quant.where,
    )
