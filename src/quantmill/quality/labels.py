"""Where the names of a picture's points stand, so that none covers another or a point."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

SIZE = 10  # pixels of the letters, and of a line of them
_LETTER = 0.62  # of SIZE: the mean width of a letter of capitals, digits and underscores
_RADIUS = 5  # of a point, with some room
_TURNS = ((1, -1), (-1, 1), (1, 0), (-1, 0), (0, -1), (0, 1), (1, 1), (-1, -1))  # to the right is x, down is y
_RINGS = (0.0, 9.0, 20.0, 34.0, 50.0)  # pixels further away from the point
_BY_LINE = 8.0  # what crossing a line costs, in pixels


@dataclass(frozen=True)
class Box:
    """A rectangle: its left, upper, right and lower edge."""

    left: float
    top: float
    right: float
    bottom: float

    def shared(self, other: "Box") -> float:
        """The area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return wide * high if wide > 0 and high > 0 else 0.0

    @property
    def middle(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


def places(
    points: Sequence[tuple[float, float, str]], room: Box, line: Sequence[tuple[float, float]] = ()
) -> list[Box]:
    """A box for the name of each (x, y, name) within the room: the nearest to its point that covers no other name and
    no point, and if possible not the line."""
    dots = [Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y, _ in points]
    crossed = [dot for start, end in pairwise(line) for dot in _along(start, end)]
    found: dict[int, Box] = {}
    for at in sorted(range(len(points)), key=lambda at: points[at]):
        x, y, name = points[at]
        taken = [*dots, *found.values()]

        def cost(candidate: tuple[float, Box], taken: Sequence[Box] = taken) -> float:
            order, box = candidate
            outside = (box.right - box.left) * (box.bottom - box.top) - box.shared(room)
            covered = sum(map(box.shared, taken)) + outside
            return 100 * covered + order + _BY_LINE * any(box.shared(each) for each in crossed)

        found[at] = min(_candidates(x, y, len(name) * SIZE * _LETTER), key=cost)[1]
    return [found[at] for at in range(len(points))]


def _candidates(x: float, y: float, width: float) -> Iterator[tuple[float, Box]]:
    """Boxes around a point, each with what it costs to be so far away."""
    for ring in _RINGS:
        for turn, (right, down) in enumerate(_TURNS):
            away = _RADIUS + 1 + ring
            left = x - width / 2 + right * (width / 2 + away)
            top = y - SIZE / 2 + down * (SIZE / 2 + (away if right == 0 else away * 0.6))
            yield ring + turn / 10, Box(left, top, left + width, top + SIZE)


def _along(start: tuple[float, float], end: tuple[float, float]) -> Iterator[Box]:
    steps = max(1, int(max(abs(end[0] - start[0]), abs(end[1] - start[1])) // 4))
    for step in range(steps + 1):
        x, y = (a + (b - a) * step / steps for a, b in zip(start, end, strict=True))
        yield Box(x - 1, y - 1, x + 1, y + 1)
