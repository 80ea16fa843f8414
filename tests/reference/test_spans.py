"""Which llama.cpp tags are supported, and what a refusal says."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from quantmill.errors import UsageError
from quantmill.reference import spans
from quantmill.reference.admissions import FILE, Admission, add, of_folder, own
from quantmill.reference.spans import candidates, check_options, of_generation, of_tag, offered, proof


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
    assert (
        str(error.value)
        == f"llama.cpp {tag} is not supported; admit it with quantmill admit; the nearest tags that are: {near}"
    )


def test_a_version_that_is_not_known_names_those_that_are() -> None:
    assert of_tag("v0.5.0") is of_tag("b11739")
    assert of_tag("v0.4.0") is of_tag("b11067")
    with pytest.raises(UsageError) as error:
        of_tag("v0.9.0")
    assert (
        str(error.value)
        == "llama.cpp v0.9.0 is not supported; admit it with quantmill admit; supported versions are v0.4.0, v0.5.0"
    )


@pytest.mark.parametrize("tag", ["master", "5490", "b", "b05490", "B5490", "b5490 ", "b\u0665", "v0.5", "0.5.0"])
def test_what_is_no_tag_is_named(tag: str) -> None:
    with pytest.raises(UsageError) as error:
        of_tag(tag)
    assert str(error.value) == f"{tag!r} is not a llama.cpp tag such as b11739 or v0.5.0"


def test_spans_do_not_overlap() -> None:
    for before, after in pairwise(offered()):
        assert before.last < after.first
    assert all(span.first <= span.last for span in offered())


def test_tensor_types_need_a_tag_that_has_them() -> None:
    check_options("b5125", of_tag("b5125"), tensor_types=True)
    check_options("b4867", of_tag("b4867"), tensor_types=False)
    with pytest.raises(UsageError) as error:
        check_options("b5124", of_tag("b5124"), tensor_types=True)
    assert str(error.value) == (
        "llama-quantize of b5124 has no --tensor-type, which came with b5125: "
        "remove the per-tensor types or choose a later tag"
    )


def admission(tag: str, span: int) -> Admission:
    return Admission(tag, span, "0" * 16, "0" * 64, "2026-11-30", 1, 0)


def test_a_team_s_admissions_reach_to_the_tags_between() -> None:
    admitted = [admission("b12000", 11227), admission("v0.6.0", 11227), admission("b6700", 6673)]
    admitted += [admission("b13000", 10715), admission("b12500", 99)]
    newest = of_tag("b11739")
    assert of_tag("b12000", admitted) is of_tag("b11800", admitted) is of_tag("v0.6.0", admitted) is newest
    assert of_tag("b6680", admitted) is of_tag("b6673")
    # One by the rules of an earlier span is taken, and reaches no further than the span that came between.
    assert of_tag("b13000", admitted) is of_tag("b10715")
    for tag, near in (
        ("b11100", "b11067 and b11227"),
        ("b12001", "b12000"),
        ("b12500", "b12000"),
        ("b12999", "b12000"),
    ):
        with pytest.raises(UsageError, match=f"the nearest tags that are: {near}$"):
            of_tag(tag, admitted)


def test_admissions_are_entered_and_read(tmp_path: Path) -> None:
    assert of_folder(tmp_path) == ()
    for tag in ("b12000", "b12001", "b12000"):
        add(tmp_path / FILE, admission(tag, 11227))
    assert [found.tag for found in of_folder(tmp_path)] == ["b12001", "b12000"]
    whole = (tmp_path / FILE).read_text()
    odd = (whole.replace("b12001", "bx"), whole.replace("[", "[1,", 1), whole.replace("11227", '"11227"'))
    for text in ("", "[{}]", "{}", "[" * 100_000, '[{"tag": 1}]', *odd):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(UsageError, match=r"admissions\.json: not a file of admissions; remove it"):
            of_folder(tmp_path)


def test_what_a_tag_stands_on() -> None:
    assert [proof(tag) for tag in ("b11227", "b11739", "v0.5.0", "b4867")] == ["compared"] * 4
    assert [proof(tag) for tag in ("b11700", "b4868", "b9200")] == ["between"] * 3
    assert [proof(tag) for tag in ("b12000", "b11100", "v0.9.0")] == ["team"] * 3


def test_quantmill_s_own_admissions_are_of_known_spans() -> None:
    assert len({found.tag for found in own()}) == len(own())
    for found in own():
        span = of_tag(found.tag)
        assert found.span == span.first
        assert re.fullmatch("[0-9a-f]{16}", found.questions)
        assert re.fullmatch("[0-9a-f]{64}", found.oracle)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", found.date)
        assert found.files > 0
        assert proof(found.tag) == "compared"


def test_a_span_reaches_to_what_quantmill_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (*own(), admission("b12000", 11227), admission("v0.6.0", 11227))
    monkeypatch.setattr(spans, "own", lambda: rows)
    spans._span.cache_clear()
    try:
        assert offered()[-1].last == 12000
        assert of_tag("b11900") is of_tag("b12000") is of_tag("v0.6.0") is of_generation(11227)
        tags = ("b12000", "v0.6.0", "b11900", "b12001")
        assert [proof(tag) for tag in tags] == ["compared", "compared", "between", "team"]
        # A team's row of the same tag does not count against it.
        assert of_tag("b12000", [admission("b12000", 10715)]) is offered()[-1]
    finally:
        spans._span.cache_clear()


def test_the_likeliest_span_is_tried_first() -> None:
    assert candidates("b12000")[0] is candidates("v9.0.0")[0] is offered()[-1]
    assert candidates("b9000")[:2] == [of_tag("b9014"), of_tag("b8943")]
    assert set(map(id, candidates("b1"))) == set(map(id, offered()))
