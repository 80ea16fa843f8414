"""Which llama.cpp tags are supported, and what a refusal says."""

from itertools import pairwise

import pytest

from quantmill.errors import UsageError
from quantmill.reference.spans import OFFERED, check_options, of_tag


@pytest.mark.parametrize("tag", ["b4867", "b4978", "b5200", "b5432", "b5490"])
def test_tags_of_generation_1(tag: str) -> None:
    assert of_tag(tag).generation == 1


@pytest.mark.parametrize("tag", ["b4866", "b5491", "b9999"])
def test_a_tag_outside_every_span_names_the_spans(tag: str) -> None:
    with pytest.raises(UsageError) as error:
        of_tag(tag)
    assert str(error.value) == f"llama.cpp {tag} is not supported; supported are b4867 to b5490"


@pytest.mark.parametrize("tag", ["master", "5490", "b", "b05490", "B5490", "b5490 ", "b\u0665"])
def test_what_is_no_tag_names_the_spans(tag: str) -> None:
    with pytest.raises(UsageError) as error:
        of_tag(tag)
    assert str(error.value) == f"{tag!r} is not a llama.cpp tag such as b5490; supported are b4867 to b5490"


def test_spans_do_not_overlap() -> None:
    for before, after in pairwise(OFFERED):
        assert before.last < after.first
    assert all(span.first <= span.last for span in OFFERED)


def test_tensor_types_need_a_tag_that_has_them() -> None:
    check_options("b5125", tensor_types=True)
    check_options("b4867", tensor_types=False)
    with pytest.raises(UsageError) as error:
        check_options("b5124", tensor_types=True)
    assert str(error.value) == (
        "llama-quantize of b5124 has no --tensor-type, which came with b5125: "
        "remove the per-tensor types or choose a later tag"
    )
