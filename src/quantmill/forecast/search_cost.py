"""What searching for the types of a recipe's targets will take: one measurement for all of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from quantmill.build.step_params import searched_texts
from quantmill.forecast.imatrix_cost import chunk_count, facts_of
from quantmill.gguf import KV
from quantmill.gguf.layout import TensorEntry
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.reference.ftypes import COMMON_TYPES
from quantmill.reference.tensor_order import layer_of


@dataclass(frozen=True)
class SearchCost:
    """What the search takes: `probes` tensors are measured one by one, on `tokens` in `chunks`, in `seconds` of one
    thread and `memory` bytes."""

    probes: int
    tokens: int
    chunks: int
    n_ctx: int
    seconds: float
    memory: int

    def data(self, threads: int) -> dict[str, Any]:
        """As plain JSON, with seconds over so many threads."""
        return {
            "probes": self.probes,
            "tokens": self.tokens,
            "chunks": self.chunks,
            "n_ctx": self.n_ctx,
            "seconds": round(self.seconds / threads, 1),
            "memory_bytes": self.memory,
        }


def search_cost(
    recipe: Recipe,
    lock: Lock,
    kvs: Sequence[KV],
    tensors: Sequence[TensorEntry],
    speed: Callable[[str], float],
    quantizing: Callable[[Mapping[str, int]], float],
    compared: Callable[[], float],
    otherwise: int = 0,
) -> SearchCost | None:
    """Of a recipe whose base has the metadata `kvs` and `tensors`; None without targets. `quantizing` gives the seconds
    of so many weights by type; `otherwise` is the number of tokens where nothing is known of the text."""
    table = recipe.search
    if table is None:
        return None
    from quantmill.forecast.evaluation_rates import BESIDE, memory, weigh

    known, named = {**lock.calibration, **lock.search}, list(searched_texts(recipe).values())
    chunks, _ = chunk_count(recipe, named, known, kvs, table.n_ctx, 0, None)
    chunks = min(chunks or otherwise // table.n_ctx, table.chunks)
    facts, tokens = facts_of(kvs), chunks * table.n_ctx
    whole, inside = (weigh(tensors, facts, table.n_ctx, output) for output in (True, False))
    layers = 1 + max((layer for name, _, _ in tensors if (layer := layer_of(name)) is not None), default=0)
    probed = [entry for entry in tensors if len(entry.shape) > 1 and not entry.name.endswith("_norm.weight")]
    # A tensor's change passes the layers from its own on; the output's, and the embedding's, all or none.
    passes = layers + sum(layers - _place(entry.name, layers) for entry in probed)
    products = inside.products * passes / layers + (whole.products - inside.products) * (len(probed) + 1)
    vocabulary = next((shape[1] for name, shape, _ in tensors if name == "token_embd.weight"), 0)
    logits = chunks * (table.n_ctx - 1 - table.n_ctx // 2) * vocabulary * len(probed)
    weights = sum(prod(entry.shape) for entry in probed)
    spent = BESIDE * products * tokens / speed("f32") + logits * compared()
    spent += quantizing(dict.fromkeys(COMMON_TYPES, weights))
    most = memory(whole, (len(probed) + 1) * table.n_ctx, table.memory, 2)
    return SearchCost(len(probed), tokens, chunks, table.n_ctx, spent, most)


def _place(name: str, layers: int) -> int:
    layer = layer_of(name)
    return layer if layer is not None else layers if name == "output.weight" else 0
