"""The patterns of tensors' names: what Python's re finds, and an end where it has none."""

import re
import subprocess
import sys
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantmill.errors import UsageError
from quantmill.reference.tensor_pattern import LENGTH, tensor_pattern

NAMES = [
    "token_embd.weight",
    "output.weight",
    *(f"blk.{n}.ffn_{part}_exps.weight" for n in (0, 7, 31) for part in ("up", "down")),
]
ATOMS = st.sampled_from(
    ["a", "b", ".", r"\.", "1", r"\d", r"\w", r"\s", "[ab]", "[^a]", r"[\d_-]", "^", "$", r"\b", "", "(?!)"]
)
TIMES = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "+?", "??", "{0}", "{0,1}"])
LOOKS = st.sampled_from(["?=", "?!", "?<=", "?<!", "?:", ""])


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})")
        | st.tuples(inner, TIMES).map(lambda two: f"(?:{two[0]}){two[1]}")
        | st.tuples(LOOKS, inner).map(lambda two: f"({two[0]}{two[1]})")
    )


@settings(max_examples=1000, deadline=None)
@given(pattern=st.recursive(ATOMS, larger, max_leaves=8), names=st.lists(st.text("aB.1\n_", max_size=7), max_size=4))
def test_it_finds_what_re_finds(pattern: str, names: list[str]) -> None:
    with warnings.catch_warnings(action="ignore"):
        try:
            known = re.compile(pattern.lower(), re.ASCII)
        except re.error:
            with pytest.raises(UsageError, match="is not a regular expression for tensor names"):
                tensor_pattern(pattern)
            return
        found = tensor_pattern(pattern)
    for name in names:
        assert found.search(name) == (known.search(name) is not None), (pattern, name)


@pytest.mark.parametrize(
    "pattern",
    [
        r"blk\.(0|1[0-9]|31)\.ffn_(up|down)",
        ".*ffn.*exps.*",
        "^output",
        r"EXPS\.WEIGHT$",
        r"blk\.\d+\.(?!ffn_up)",
        "x{2,}",
    ],
)
def test_ordinary_patterns(pattern: str) -> None:
    known = re.compile(pattern.lower(), re.ASCII)
    assert [tensor_pattern(pattern).search(name) for name in NAMES] == [bool(known.search(name)) for name in NAMES]


@pytest.mark.parametrize(
    "pattern", ["^([a-z0-9_.]+)+$!", "(a|a)" * 40 + "!", ".?" * 60 + "!", ".*" * 12 + "!", "(.{0,9}){0,9}!"]
)
def test_a_pattern_that_re_has_no_end_with(pattern: str) -> None:
    program = "import sys; from quantmill.reference.tensor_pattern import tensor_pattern as t; t(sys.argv[1])"
    program += ".search('a' * 63)"
    subprocess.run([sys.executable, "-c", program, pattern], check=True, timeout=60)


def test_steps_are_counted() -> None:
    with pytest.raises(UsageError, match=r"^'\^.*' takes more than 100000 steps to match the tensor 'a+'; write it"):
        tensor_pattern("^" + "(" * 20 + ".?" + "){40}" * 20 + "!$").search("a" * 63)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a{99999999999}", "the repetition number is too large"),
        ("(" * 5000 + ")" * 5000, "maximum recursion depth exceeded"),
        ("(?u)a", "ASCII and UNICODE flags are incompatible"),
        ("(?i)a", "inline flags"),
        ("(?i:a)", "inline flags"),
        (r"(a)\1", "a back reference"),
        ("(?>a)", "an atomic group or a condition"),
        ("a++", "an atomic group or a condition"),
        ("(a)?(?(1)b)", "an atomic group or a condition"),
        ("a" * (LENGTH + 1), f"it has {LENGTH + 1} characters"),
    ],
)
def test_what_is_no_pattern_of_a_name(pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        tensor_pattern(pattern)
    assert len(str(error.value)) < 300
