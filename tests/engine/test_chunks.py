"""Chunks are llama-imatrix's, and a text that cannot be used is refused in one sentence."""

from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantmill.architectures.errors import ForwardError
from quantmill.engine.chunks import Text, check_size, check_vocabulary, chunks, read_text, tokenize, turns
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.vocabulary.tokenizer import load
from tokenizer_cases import CALIBRATION, TINY

TOKENS = list(range(100, 200))


def test_whole_chunks_and_the_rest_unused() -> None:
    found = chunks(TOKENS, 32, None)
    assert found.dtype == np.int32
    assert found.tolist() == [TOKENS[0:32], TOKENS[32:64], TOKENS[64:96]]


def test_bos_takes_the_place_of_each_first_token() -> None:
    found = chunks(TOKENS, 32, 7)
    assert found[:, 0].tolist() == [7, 7, 7]
    assert found[:, 1:].tolist() == chunks(TOKENS, 32, None)[:, 1:].tolist()


def test_a_count_and_a_first_chunk() -> None:
    assert chunks(TOKENS, 16, None, count=2).tolist() == [TOKENS[0:16], TOKENS[16:32]]
    assert chunks(TOKENS, 16, None, first=3, count=1).tolist() == [TOKENS[48:64]]
    assert len(chunks(TOKENS, 16, None, count=99)) == 6


@pytest.mark.parametrize("first", [5, 6, 99])
def test_a_first_chunk_that_leaves_too_little(first: int) -> None:
    with pytest.raises(
        ForwardError, match=f"100 tokens are too few to begin at chunk {first}: more than {(first + 2) * 16}"
    ):
        chunks(TOKENS, 16, None, first=first)


def test_the_last_first_chunk_that_is_taken() -> None:
    assert chunks(TOKENS, 16, None, first=4).tolist() == [TOKENS[64:80], TOKENS[80:96]]


@pytest.mark.parametrize("count", [0, 1, 63])
def test_a_text_of_less_than_two_chunks(count: int) -> None:
    with pytest.raises(
        ForwardError, match=f"poem: its {count} tokens are too few; at least 64 are needed, two chunks of 32"
    ):
        chunks(TOKENS[:count], 32, None, name="poem")


@pytest.mark.parametrize(
    ("n_ctx", "good"), [(15, False), (16, True), (512, True), (513, False), (527, False), (528, True)]
)
def test_batches_that_the_tool_leaves_out(n_ctx: int, good: bool) -> None:
    if good:
        check_size(B4867, n_ctx)
        return
    with pytest.raises(ForwardError, match=f"chunks of {n_ctx} tokens end in a batch of fewer than 16"):
        check_size(B4867, n_ctx)


def test_the_files_last_line_end_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("\ufeffé\r\n\n\n".encode())
    assert read_text(path) == "\ufeffé\r\n\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "text: the text is empty"),
        (b"\n", "text: the text is empty"),
        (b"abc\xff\xfe", "text: not UTF-8: byte 3 begins no character"),
        ("half".encode("utf-16"), "text: not UTF-8: byte 0"),
        (b"\xed\xa0\x80", "text: not UTF-8: byte 0"),
        (None, "text: cannot be read \\(No such file"),
    ],
)
def test_a_text_that_cannot_be_read(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "text"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ForwardError, match=message):
        read_text(path)


def test_a_vocabulary_of_another_model() -> None:
    tokenizer = load(TINY)
    check_vocabulary(tokenizer, 2048, "tiny")
    with pytest.raises(ForwardError, match="tiny: its tokenizer has 2048 tokens and its embedding 2049 rows"):
        check_vocabulary(tokenizer, 2049, "tiny")


def test_texts_take_turns_by_weight() -> None:
    weights = [Fraction(2), Fraction(1)]
    assert list(islice(turns([10, 10], weights), 6)) == [0, 0, 1, 0, 0, 1]
    assert list(turns([2, 10], weights)) == [0, 0, 1]  # the first has none left
    assert list(turns([4, 2], [None, None])) == [0, 0, 1, 0, 0, 1]  # all of both


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.data())
def test_turns_keep_the_proportion(counts: list[int], data: st.DataObject) -> None:
    weights = [data.draw(st.none() | st.fractions("1/9", 9)) for _ in counts]
    order = list(turns(counts, weights))
    taken = [order.count(index) for index in range(len(counts))]
    shares = [weight or Fraction(count) for weight, count in zip(weights, counts, strict=True)]
    assert all(part <= count for part, count in zip(taken, counts, strict=True))
    assert any(part == count for part, count in zip(taken, counts, strict=True))
    for index, share in enumerate(shares):  # none is more than one chunk ahead of another's share
        assert all((taken[index] - 1) / share <= (other + 1) / s for other, s in zip(taken, shares, strict=True))
    if not any(weights):
        assert taken == counts


def test_two_texts_of_the_tiny_model() -> None:
    tokenizer = load(TINY)
    content = CALIBRATION.read_text()
    first, second = Text("first", content[:20000], Fraction(3)), Text("second", content[20000:], Fraction(1))
    found = tokenize([first, second], tokenizer, 128, count=8)
    ids = [np.array(tokenizer.encode(text.content)[: 128 * 8]).reshape(-1, 128) for text in (first, second)]
    wanted = [ids[0][0], ids[0][1], ids[0][2], ids[1][0], ids[0][3], ids[0][4], ids[0][5], ids[1][1]]
    assert (found == np.array(wanted)).all()
