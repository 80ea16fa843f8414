"""What measuring a recipe's importance matrix will take: tokens, chunks, time by either arithmetic, memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from quantmill import calibration
from quantmill.gguf import KV
from quantmill.gguf.layout import Described
from quantmill.lock import Lock
from quantmill.recipe import Recipe
from quantmill.recipe_calibration import ARITHMETICS

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
    from quantmill.model.pace import memory, seconds, weigh

    chunks, exact = _chunks(recipe, lock, kvs)
    facts = {kv.key.partition(".")[2]: kv.value for kv in kvs if not kv.key.startswith(("tokenizer", "general."))}
    work = weigh(tensors, facts, said.n_ctx)
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


def _chunks(recipe: Recipe, lock: Lock, kvs: Sequence[KV]) -> tuple[int, bool]:
    said = recipe.calibration
    assert said is not None
    at_hand = all(text.path is not None for text in said.texts)
    if at_hand and any(kv.key == "tokenizer.ggml.tokens" for kv in kvs):
        from quantmill.model.chunks import Text, read_text, tokenize
        from quantmill.model.tokenizer import from_metadata

        tokenizer = from_metadata({kv.key: kv for kv in kvs}, str(recipe.path))
        texts = [
            Text(text.name, read_text(text.path, text.name), None if text.weight is None else Fraction(text.weight))
            for text in said.texts
            if text.path is not None
        ]
        return len(tokenize(texts, tokenizer, said.n_ctx, first=said.from_chunk, count=said.chunks)), True
    facts = [lock.calibration.get(text.name) for text in calibration.texts(recipe).values()]
    found = sum(max(0, fact.size // BYTES_PER_TOKEN // said.n_ctx - said.from_chunk) for fact in facts if fact)
    return (min(found, said.chunks) if said.chunks and found else said.chunks or found), False
