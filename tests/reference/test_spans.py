"""Which llama.cpp tags are supported, and what a refusal says."""

from itertools import pairwise

import pytest

from quantmill.errors import UsageError
from quantmill.reference.spans import OFFERED, check_options, of_tag


@pytest.mark.parametrize("tag", ["b4867", "b4978", "b5200", "b5432", "b5490"])
def test_tags_of_generation_1(tag: str) -> None:
    assert of_tag(tag).generation == 1


@pytest.mark.parametrize(
    ("tag", "near"),
    [("b4866", "b4867"), ("b5491", "b5490 and b5590"), ("b6700", "b6673 and b6845"), ("b99999", "b11739")],
)
def test_a_tag_outside_every_span_names_the_nearest(tag: str, near: str) -> None:
    with pytest.raises(UsageError) as error:
        of_tag(tag)
    assert str(error.value) == f"llama.cpp {tag} is not supported; the nearest tags that are: {near}"


def test_a_version_that_is_not_known_names_those_that_are() -> None:
    assert of_tag("v0.5.0") is of_tag("b11739")
    with pytest.raises(UsageError) as error:
        of_tag("v0.9.0")
    assert str(error.value) == "llama.cpp v0.9.0 is not supported; supported versions are v0.5.0"


@pytest.mark.parametrize("tag", ["master", "5490", "b", "b05490", "B5490", "b5490 ", "b\u0665", "v0.5", "0.5.0"])
def test_what_is_no_tag_is_named(tag: str) -> None:
    with pytest.raises(UsageError) as error:
        of_tag(tag)
    assert str(error.value) == f"{tag!r} is not a llama.cpp tag such as b5490 or v0.5.0"


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
