"""Byte pair merging: of all neighbours that may become one, the first in rank is merged, until none is left."""

import heapq
from collections.abc import Callable


def merge(symbols: list[str], rank: Callable[[str, str], float | None]) -> list[str]:
    """`symbols` merged. `rank(left, right)` is None for two that stay apart; the lowest goes first, of equals the
    leftmost. Takes time in n log n, so that a word of a million characters is no trap."""
    if len(symbols) < 2:
        return symbols
    texts: list[str] = list(symbols)
    after = [*range(1, len(texts)), -1]
    before = list(range(-1, len(texts) - 1))
    queue: list[tuple[float, int, int, int]] = []

    def offer(left: int, right: int) -> None:
        if left >= 0 <= right and (found := rank(texts[left], texts[right])) is not None:
            heapq.heappush(queue, (found, left, right, len(texts[left]) + len(texts[right])))

    for index in range(len(texts) - 1):
        offer(index, index + 1)
    while queue:
        _, left, right, size = heapq.heappop(queue)
        if not texts[left] or not texts[right] or len(texts[left]) + len(texts[right]) != size:
            continue  # one of the two has been merged since
        texts[left] += texts[right]
        texts[right] = ""
        after[left] = after[right]
        if after[right] >= 0:
            before[after[right]] = left
        offer(before[left], left)
        offer(left, after[left])
    return [text for text in texts if text]
