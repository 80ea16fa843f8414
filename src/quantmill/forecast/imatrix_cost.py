"""What measuring a recipe's importance matrix will take: tokens, chunks, time by either arithmetic, memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from quantmill.gguf import KV
from quantmill.gguf.layout import Described
from quantmill.recipe import texts as calibration
from quantmill.recipe.calibration_table import ARITHMETICS, Calibration, Text
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.recipe.texts import FileFact

if TYPE_CHECKING:
    from quantmill.forecast.evaluation_rates import Work

BYTES_PER_TOKEN = 4  # of English, where the text or the tokenizer is not at hand


@dataclass(frozen=True)
class Measuring:
    """`exact`: tokens and chunks were counted, not estimated; 0 of both where nothing is known of the text yet.
    `seconds` by arithmetic at the speed of this machine now, over its threads; `memory` in bytes."""

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


def measuring(
    recipe: Recipe, lock: Lock, kvs: Sequence[KV], tensors: Sequence[Described], threads: int
) -> Measuring | None:
    """Of a recipe whose base has the metadata `kvs` and `tensors`; None when it computes no matrix. A TextError when a
    text at hand cannot be used."""
    said, how = recipe.calibration, recipe.imatrix
    if said is None or how is None:
        return None
    from quantmill.forecast.evaluation_rates import memory, seconds

    chunks, exact, work = amount(recipe, said, lock, kvs, tensors)
    tokens = chunks * said.n_ctx
    return Measuring(
        how.arithmetic,
        tokens,
        chunks,
        said.n_ctx,
        exact,
        {name: seconds(work, tokens, name, threads) for name in ARITHMETICS},
        memory(work, tokens, how.memory),
    )


def amount(
    recipe: Recipe, said: Calibration, lock: Lock, kvs: Sequence[KV], tensors: Sequence[Described]
) -> "tuple[int, bool, Work]":
    """What there is to measure: `chunk_count` of the calibration text, and the work of one of its tokens."""
    from quantmill.forecast.evaluation_rates import weigh

    texts = list(calibration.texts(recipe).values())
    chunks, exact = chunk_count(recipe, texts, lock.calibration, kvs, said.n_ctx, said.from_chunk, said.chunks)
    return chunks, exact, weigh(tensors, facts_of(kvs), said.n_ctx, said.perplexity)


def facts_of(kvs: Sequence[KV]) -> dict[str, Any]:
    """What a base's metadata say of the model's shape, without the architecture's name in front."""
    return {kv.key.partition(".")[2]: kv.value for kv in kvs if not kv.key.startswith(("tokenizer", "general."))}


def chunk_count(
    recipe: Recipe,
    texts: Sequence[Text],
    known: Mapping[str, FileFact],
    kvs: Sequence[KV],
    n_ctx: int,
    first: int,
    count: int | None,
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
        rows = chunks.tokenize(found, tokenizer, n_ctx, first=first, count=count, reference=recipe.reference)
        return len(rows), True
    facts = [known.get(text.name) for text in texts]
    total = sum(max(0, fact.size // BYTES_PER_TOKEN // n_ctx - first) for fact in facts if fact)
    return (min(total, count) if count and total else count or total), False
