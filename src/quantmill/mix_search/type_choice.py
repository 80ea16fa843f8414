"""Types for a size: the least predicted divergence whose bytes fit.

Along the convex hull of each tensor's choices, what gains most for a byte is taken first. What is left of the size is
filled by single changes and by pairs of them, until none gains. Of equals the first in the tensors' order is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

_MOST_MOVES = 2500  # of which all pairs are looked at; in larger models a single one fills the size as well


@dataclass(frozen=True)
class TypeChoice:
    """A type that a tensor may have, its bytes with padding, and the divergence that is predicted of it."""

    type: str
    bytes: int
    cost: float


def choose_types(choices: Mapping[str, Sequence[TypeChoice]], room: int) -> dict[str, TypeChoice] | None:
    """A choice for each tensor, together at most `room` bytes; None where even the smallest are more."""
    names = list(choices)
    useful = {name: _useful(choices[name]) for name in names}
    now = {name: useful[name][0] for name in names}
    left = room - sum(choice.bytes for choice in now.values())
    if left < 0:
        return None
    steps = []
    for order, name in enumerate(names):
        hull = _hull(useful[name])
        for at, (low, high) in enumerate(pairwise(hull)):
            slope = (low.cost - high.cost) / (high.bytes - low.bytes)
            steps.append((-slope, order, at, name, high))
    for *_, name, high in sorted(steps, key=lambda step: step[:3]):
        more = high.bytes - now[name].bytes
        if more > left:
            break
        left -= more
        now[name] = high
    _refine(useful, now, left)
    return now


def _useful(choices: Sequence[TypeChoice]) -> list[TypeChoice]:
    """By size, each better than all smaller ones."""
    found: list[TypeChoice] = []
    for choice in sorted(choices, key=lambda choice: (choice.bytes, choice.cost, choice.type)):
        if not found or choice.cost < found[-1].cost:
            found.append(choice)
    return found


def _hull(choices: Sequence[TypeChoice]) -> list[TypeChoice]:
    """Those on the lower convex hull."""
    found: list[TypeChoice] = []
    for choice in choices:
        while len(found) > 1 and _above(found[-2], found[-1], choice):
            found.pop()
        found.append(choice)
    return found


def _above(a: TypeChoice, b: TypeChoice, c: TypeChoice) -> bool:
    return (a.cost - b.cost) * (c.bytes - a.bytes) <= (a.cost - c.cost) * (b.bytes - a.bytes)


def _refine(useful: Mapping[str, Sequence[TypeChoice]], now: dict[str, TypeChoice], left: int) -> None:
    """Changes `now` by one change, or two of different tensors, as long as one gains within the bytes left."""
    order = {name: index for index, name in enumerate(useful)}
    while True:
        moves = [(name, choice) for name, all_ in useful.items() for choice in all_ if choice != now[name]]
        if not moves:
            return
        more = np.array([choice.bytes - now[name].bytes for name, choice in moves])
        gain = np.array([now[name].cost - choice.cost for name, choice in moves])
        alone = np.where(more <= left, gain, -np.inf)
        taken = [int(np.argmax(alone))]
        best = alone[taken[0]]
        if len(moves) <= _MOST_MOVES:
            of = np.array([order[name] for name, _ in moves])
            both = gain[:, None] + gain[None, :]
            both[(more[:, None] + more[None, :] > left) | (of[:, None] == of[None, :])] = -np.inf
            pair = int(np.argmax(both))
            if both.flat[pair] > best:
                taken, best = list(divmod(pair, len(moves))), both.flat[pair]
        if best <= 1e-12 * sum(choice.cost for choice in now.values()):
            return
        for index in taken:
            name, choice = moves[index]
            left -= choice.bytes - now[name].bytes
            now[name] = choice
