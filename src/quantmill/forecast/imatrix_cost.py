"""What measuring a recipe's importance matrix will take: tokens, chunks, time by either arithmetic, memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from quantmill.gguf import KV, model_facts
from quantmill.gguf.layout import TensorEntry
from quantmill.recipe import texts
from quantmill.recipe.calibration_table import ARITHMETICS, Calibration, TextSource
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.recipe.texts import FileFact

if TYPE_CHECKING:
    from quantmill.forecast.evaluation_rates import Work

BYTES_PER_TOKEN = 4  # of English, where the text or the tokenizer is not at hand


@dataclass(frozen=True)
class ImatrixCost:
    """What an importance matrix takes.

    `tokens`: 0 where nothing is known of the text yet
    `chunks`: 0 where nothing is known of the text yet
    `exact`: tokens and chunks were counted, not estimated
    `seconds`: by arithmetic, at the speed of this machine, over its threads
    `memory`: in bytes
    """

    arithmetic: str
    tokens: int
    chunks: int
    n_ctx: int
    exact: bool
    seconds: dict[str, float]
    memory: int

    @property
    def fastest(self) -> str:
        """The arithmetic that takes the least time here."""
        return min(self.seconds, key=lambda name: self.seconds[name])

    def data(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "arithmetic": self.arithmetic,
            "tokens": self.tokens,
            "chunks": self.chunks,
            "n_ctx": self.n_ctx,
            "exact": self.exact,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "fastest": self.fastest,
            "memory_bytes": self.memory,
        }


def imatrix_cost(
    recipe: Recipe, lock: Lock, kvs: Sequence[KV], tensors: Sequence[TensorEntry], threads: int
) -> ImatrixCost | None:
    """Of a recipe whose base has the metadata `kvs` and `tensors`; None when it computes no matrix.

    ForwardError when a text at hand cannot be used."""
    table, imatrix = recipe.calibration, recipe.imatrix
    if table is None or imatrix is None:
        return None
    from quantmill.forecast.evaluation_rates import memory, seconds

    chunks, exact, work = amount(recipe, table, lock, kvs, tensors)
    tokens = chunks * table.n_ctx
    return ImatrixCost(
        imatrix.arithmetic,
        tokens,
        chunks,
        table.n_ctx,
        exact,
        {name: seconds(work, tokens, name, threads) for name in ARITHMETICS},
        memory(work, tokens, imatrix.memory),
    )


def amount(
    recipe: Recipe, table: Calibration, lock: Lock, kvs: Sequence[KV], tensors: Sequence[TensorEntry]
) -> "tuple[int, bool, Work]":
    """What there is to measure: `chunk_count` of the calibration text, and the work of one of its tokens."""
    from quantmill.forecast.evaluation_rates import weigh

    named = list(texts.calibration(recipe).values())
    cut = (table.n_ctx, table.from_chunk, table.chunks, table.parse_special)
    chunks, exact = chunk_count(recipe, named, lock.calibration, kvs, *cut)
    return chunks, exact, weigh(tensors, facts_of(kvs), table.n_ctx, table.perplexity)


def facts_of(kvs: Sequence[KV]) -> dict[str, Any]:
    """What a base's metadata say of the model's shape, without the architecture's name in front."""
    facts = model_facts(entry for entry in kvs if not entry.key.startswith("general."))
    return {key.partition(".")[2]: value for key, value in facts.items()}


def chunk_count(
    recipe: Recipe,
    texts: Sequence[TextSource],
    known: Mapping[str, FileFact],
    kvs: Sequence[KV],
    n_ctx: int,
    first: int,
    count: int | None,
    parse_special: bool = False,
) -> tuple[int, bool]:
    """How many chunks of `n_ctx` tokens the texts have from chunk `first` on, at most `count`, and whether they were
    counted: that takes texts at hand and a vocabulary in `kvs`. Else it goes by the sizes that the lock knows; 0 where
    it knows none."""
    if all(text.path is not None for text in texts) and any(kv.key == "tokenizer.ggml.tokens" for kv in kvs):
        from quantmill.engine import chunks
        from quantmill.vocabulary.tokenizer import from_metadata

        tokenizer = from_metadata({kv.key: kv for kv in kvs}, str(recipe.path))
        found = [
            chunks.Text(
                text.name,
                chunks.read_text(text.path, text.name),
                None if text.weight is None else Fraction(text.weight),
            )
            for text in texts
            if text.path is not None
        ]
        rows = chunks.tokenize(
            found,
            tokenizer,
            n_ctx,
            first=first,
            count=count,
            parse_special=parse_special,
            reference=recipe.reference,
        )
        return len(rows), True
    facts = [known.get(text.name) for text in texts]
    total = sum(max(0, fact.size // BYTES_PER_TOKEN // n_ctx - first) for fact in facts if fact)
    return (min(total, count) if count and total else count or total), False
