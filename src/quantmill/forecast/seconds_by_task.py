"""What each task of a recipe is thought to take, for a build that tells how long it will be."""

from collections.abc import Mapping

from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe


def seconds_by_task(recipe: Recipe, lock: Lock) -> Mapping[str, float]:
    """Seconds of one thread by task, each tensor that files share counted once."""
    from quantmill.build import graph  # what is heavy is imported by a build that works, and not by a no-op
    from quantmill.forecast.base_file import describe
    from quantmill.forecast.costs import Costs, Pair, Rates, quantize_costs
    from quantmill.forecast.files import TOKENS, file_of, file_row

    base, nodes = describe(recipe, lock), graph.graph(recipe, lock)
    quants = {node.name: node for node in nodes.values() if node.step.divides == "tensors"}
    files = {name: file_of(node, base) for name, node in quants.items()}
    held, seconds = quantize_costs(quants, base)
    seen: set[Pair] = set()
    quantized = {}
    for name, pairs in held.items():
        quantized[name] = (sum(seconds[pair] for pair in pairs - seen), files[name].n_bytes)
        seen |= pairs
    by_label = {node.label: files[name] for name, node in quants.items()}
    rows = {label: file_row(recipe, label, by_label.get(label), base) for label in graph.labels(recipe)}
    costs = Costs(recipe, lock, base, by_label, Rates(), tokens=TOKENS, rows=rows, quantized=quantized)
    return {name: node.step.cost(node, costs).seconds for name, node in nodes.items()}
