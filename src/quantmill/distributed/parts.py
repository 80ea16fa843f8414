"""A matrix of files cut into parts, so that several workers quantize one model, or one huge file, at the same time.

A part is some tensors in one type. Its step writes them into a small file of its own and lists them as the quant step
does (see quant/sharing.py), so that the quant step of each file finds them there and copies: the files' bytes and keys
are those of a build on one machine, and a part that is lost costs only its own time.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from quantmill.build.graph import Node
from quantmill.forecast.plan import Description
from quantmill.forecast.quantize_rates import rate
from quantmill.gguf.layout import Described
from quantmill.quant.file_plan import ImatrixFacts, PlannedFile, plan_file
from quantmill.quant.overrides import overrides_of
from quantmill.quant.sharing import CHEAP
from quantmill.reference.spans import of_generation

PARTS_FROM = 256 << 20  # bytes of a base from which on its matrix is cut into parts
LEAST_SECONDS = 0.5  # of a part on one thread: below it, sending costs more than it spares
FILES_A_WORKER = 4  # a file that takes more than such a share of a worker's time is cut
PARTS_A_WORKER = 8  # so that the last one to finish leaves the others idle for little

Pair = tuple[str, str]  # tensor, type


@dataclass(frozen=True)
class Part:
    """A step that quantizes some tensors to one type, in about `seconds` of one thread; `urgency`: with those of the
    longest step that waits for it."""

    node: Node
    pairs: frozenset[Pair]
    seconds: float
    urgency: float


def planned(node: Node, base: Description) -> PlannedFile:
    """The file of a quant node: its tensors' types."""
    imatrix = ImatrixFacts("", b"", 0, 0) if "imatrix_name" in node.params else None
    reference, overrides = of_generation(node.generation), overrides_of(node.params)
    return plan_file(reference, base.kvs, base.tensors, node.params["ftype"], imatrix=imatrix, overrides=overrides)


def pairs(file: PlannedFile) -> dict[Pair, Described]:
    """The tensors of a file that are worth sharing."""
    return {
        (name, type_.name): (name, shape, type_)
        for name, shape, type_ in file.tensors
        if file.sources[name] != type_ and type_.name not in CHEAP
    }


@dataclass(frozen=True)
class Cut:
    """What several quant nodes come to: `parts`, the most urgent first, and what is left to each node itself in seconds
    of one thread, by name."""

    parts: tuple[Part, ...]
    rest: Mapping[str, float]


def costs(quants: Mapping[str, Node], base: Description) -> tuple[dict[str, set[Pair]], dict[Pair, float]]:
    """What each file holds that is worth sharing, and the seconds of one thread that each such tensor takes here."""
    files = {name: pairs(planned(node, base)) for name, node in quants.items()}
    described = {pair: found for file in files.values() for pair, found in file.items()}
    guided = any(edge.name == "imatrix.dat" for node in quants.values() for edge in node.edges)
    rates = {type_: rate(type_, guided) for type_ in {type_ for _, type_ in described}}
    seconds = {pair: prod(shape) / rates[pair[1]] for pair, (_, shape, _) in described.items()}
    return {name: set(file) for name, file in files.items()}, seconds


def uncut(quants: Mapping[str, Node], base: Description) -> "Cut":
    """One worker's share of everything: each tensor is computed for the first file that holds it."""
    files, seconds = costs(quants, base)
    seen: set[Pair] = set()
    rest = {}
    for name, file in files.items():
        rest[name] = sum(seconds[pair] for pair in file - seen)
        seen |= file
    return Cut((), rest)


def cut(quants: Mapping[str, Node], base: Description, workers: int) -> Cut:
    """Cut the quant nodes of one recipe: what several files hold into parts, and of what one file alone holds so much
    that a worker would be left with it at the end."""
    files, seconds = costs(quants, base)
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
        "part",
        {"types": dict.fromkeys(names, type_)},
        quant.edges,
        quant.generation,
        where=quant.where,
    )
