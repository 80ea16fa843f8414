"""Names of a picture's points: none covers another, or a point."""

import itertools
import random

import pytest

from quantmill.quality.labels import Box, places


@pytest.mark.parametrize("seed", range(20))
def test_names_cover_nothing(seed: int) -> None:
    """Thirty files in a third of the picture: more than any release has there."""
    draw = random.Random(seed)
    points = [(draw.uniform(300, 560), draw.uniform(150, 350), f"IQ{n}_K_XL") for n in range(30)]
    room = Box(0, 0, 860, 520)
    found = places(points, room, sorted(point[:2] for point in points[:5]))
    assert sum(a.shared(b) > 0 for a, b in itertools.combinations(found, 2)) == 0
    for box in found:
        assert box.shared(room) == pytest.approx((box.right - box.left) * (box.bottom - box.top))
    assert places(points, room, sorted(point[:2] for point in points[:5])) == found


def test_points_on_one_place_have_a_name_each() -> None:
    found = places([(5.0, 5.0, "A"), (5.0, 5.0, "B")], Box(0, 0, 400, 400))
    assert found[0].shared(found[1]) == 0
