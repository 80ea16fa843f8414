"""A text as the chunks that llama-imatrix and llama-perplexity push through a model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantmill.architectures.errors import ForwardError
from quantmill.engine.errors import TextError
from quantmill.reference.reference import Reference
from quantmill.reference.spans import newest
from quantmill.vocabulary.tokenizer import Tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Text:
    """`name` is what errors and reports call it; of several texts, `weight` says in which proportion their chunks are
    taken, None: all of them."""

    name: str
    content: str
    weight: Fraction | None = None


def read_text(path: Path, name: str | None = None) -> str:
    """The file's text without one final line end, as llama.cpp's `-f` reads it; TextError when it is no UTF-8, or
    empty. `name` is what errors call it."""
    place = name or str(path)
    try:
        found = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise TextError(f"{place}: not UTF-8: byte {error.start} begins no character; save the text as UTF-8") from None
    except OSError as error:
        raise TextError(f"{place}: cannot be read ({error.strerror}); give the path of a text in UTF-8") from None
    found = found.removesuffix("\n")
    if not found:
        raise TextError(f"{place}: the text is empty; give one of at least two chunks")
    return found


def check_length(text: str, least: int, name: str) -> None:
    """TextError when the text is too short for `least` tokens whatever the tokenizer: none makes more tokens than
    there are bytes, but for a space in front and a token that begins a text."""
    size = len(text.encode())
    if size + 2 < least:
        raise TextError(f"{name}: its {size} bytes are too few; at least {least} tokens are needed")


def check_vocabulary(tokenizer: Tokenizer, rows: int, place: str) -> None:
    """ForwardError when the model has another number of embedding rows than the tokenizer has tokens."""
    if tokenizer.size != rows:
        raise ForwardError(
            f"{place}: its tokenizer has {tokenizer.size} tokens and its embedding {rows} rows; they are not of one "
            "model, convert it anew"
        )


def check_size(reference: Reference, n_ctx: int) -> None:
    """TextError for a chunk whose last batch llama-imatrix would leave out."""
    rules = reference.imatrix
    if not rules.ends_whole(n_ctx):
        raise TextError(
            f"chunks of {n_ctx} tokens end in a batch of fewer than {rules.least_batch}, which llama-imatrix leaves "
            f"out; choose {rules.batch} or another multiple of {rules.least_batch}"
        )


def chunks(
    tokens: Sequence[int],
    n_ctx: int,
    bos: int | None,
    *,
    first: int = 0,
    count: int | None = None,
    name: str = "the text",
) -> "NDArray[np.int32]":
    """int32 (chunks, n_ctx): `tokens` from chunk `first` on, at most `count` chunks of them, what is left over unused.

    With `bos`, it takes the place of each chunk's first token. As the tools do, refuse (TextError) fewer than two
    chunks, and a `first` that leaves two or fewer.
    """
    if first > 0 and (first + 2) * n_ctx >= len(tokens):
        raise TextError(
            f"{name}: {len(tokens)} tokens are too few to begin at chunk {first}: "
            f"more than {(first + 2) * n_ctx} are needed, for chunks of {n_ctx}"
        )
    rest = len(tokens) - first * n_ctx
    if rest < 2 * n_ctx:
        raise TextError(
            f"{name}: its {rest} tokens are too few; at least {2 * n_ctx} are needed, two chunks of {n_ctx}"
        )
    number = rest // n_ctx if count is None else min(count, rest // n_ctx)
    found = np.array(tokens[first * n_ctx : (first + number) * n_ctx], np.int32).reshape(number, n_ctx)
    if bos is not None:
        found[:, 0] = bos
    return found


def tokenize(
    texts: Sequence[Text],
    tokenizer: Tokenizer,
    n_ctx: int,
    *,
    first: int = 0,
    count: int | None = None,
    parse_special: bool = False,
    reference: Reference | None = None,
) -> "NDArray[np.int32]":
    """The chunks of all texts, each text cut on its own from its chunk `first` on, then taken in turns (`turns`).
    `parse_special`: what is written like a control token is one."""
    check_size(reference or newest(), n_ctx)
    if tokenizer.add_eos:
        raise TextError("the tokenizer puts an end token behind a text, with which llama-imatrix measures nothing")
    bos = tokenizer.bos if tokenizer.add_bos else None
    ids = [tokenizer.encode(text.content, parse_special=parse_special) for text in texts]
    cut = [chunks(ids_, n_ctx, bos, first=first, name=text.name) for ids_, text in zip(ids, texts, strict=True)]
    order = list(turns([len(rows) for rows in cut], [text.weight for text in texts]))
    taken = [0] * len(cut)
    rows = []
    for index in order[:count]:
        rows.append(cut[index][taken[index]])
        taken[index] += 1
    return np.stack(rows)


def turns(counts: Sequence[int], weights: Sequence[Fraction | None]) -> Iterator[int]:
    """Which text each chunk is taken from: the one that after it would have had the fewest chunks for its weight, of
    equals the first. Ends when that one has none left. Without a weight, a text weighs what it has chunks, so that
    all of them are taken."""
    shares = [Fraction(count) if weight is None else weight for count, weight in zip(counts, weights, strict=True)]
    taken = [0] * len(counts)
    while True:
        index = min(range(len(counts)), key=lambda i: (taken[i] + 1) / shares[i])
        if taken[index] == counts[index]:
            return
        taken[index] += 1
        yield index
