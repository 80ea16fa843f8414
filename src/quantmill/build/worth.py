"""What making something here would take, by which a build tells for how long a shared store is worth waiting for."""

import threading
from collections.abc import Callable, Mapping

from quantmill.build.graph import Node
from quantmill.errors import QuantmillError
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.steps.step import Estimates

OUTSIDE = 4 << 20  # bytes a second from outside the team
Estimate = Callable[[Recipe, Lock], Estimates]  # quantmill.forecast.estimates


class Worths:
    """Seconds that tasks take, of the recipes that a build knows; estimated when the first of a recipe is asked for."""

    def __init__(self, estimate: Estimate | None = None) -> None:
        self._estimate = estimate
        self._recipes: dict[str, tuple[Recipe, Lock]] = {}
        self._known: dict[str, Estimates | None] = {}
        self._lock = threading.Lock()

    def know(self, recipe: Recipe, lock: Lock) -> None:
        """Tasks of this recipe may be asked for."""
        self._recipes[recipe.name] = recipe, lock

    def seconds(
        self, node: Node, nodes: Mapping[str, Node], has: Callable[[Node], bool], threads: int
    ) -> float | None:
        """Of a node on so many threads, with all that it needs and that is not here (`has`); None where nobody
        knows."""
        estimates = self._estimates(node.name.partition(":")[2].partition("/")[0])
        if estimates is None:
            return None
        seconds, seen, waiting = 0.0, {node.name}, [node]
        while waiting:
            one = waiting.pop()
            cost = one.step.cost(one, estimates)
            seconds += cost.seconds / threads + cost.downloads / OUTSIDE
            for name in {edge.node for edge in one.edges} - seen:
                seen.add(name)
                if not has(nodes[name]):
                    waiting.append(nodes[name])
        return seconds

    def _estimates(self, name: str) -> Estimates | None:
        with self._lock:
            if name not in self._known:
                self._known[name] = None
                if self._estimate is not None and name in self._recipes:
                    try:
                        self._known[name] = self._estimate(*self._recipes[name])
                    except (QuantmillError, OSError):  # what decides it is not known yet, or not here
                        return None
            return self._known[name]
