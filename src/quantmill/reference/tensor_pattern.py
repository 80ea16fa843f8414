"""The regular expressions of --tensor-type, matched in steps that no expression makes exponential.

Python's own matcher tries one way after another, so that `([a-z]+)+$!` keeps it for years with a single name. Here all
ways are gone at once: the places in the name that they have come to are the bits of one number. The syntax is what
Python's parser makes of it, without back references, inline flags, atomic groups and conditions.
"""

import importlib
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from quantmill.errors import UsageError
from quantmill.gguf.errors import shown

LENGTH = 20_000  # characters: each of a model's 600 tensors, listed by its name
STEPS = 100_000  # for one name, some 30 ms; a list of 600 names takes 10,000
_CLASSES = {"CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s", "CATEGORY_WORD": r"\w"}


class _Name:
    """A name to be searched: bit `i` of a number stands for the place before character `i`."""

    def __init__(self, text: str) -> None:
        self.text, self.end, self.steps = text, 1 << len(text), 0
        self.places: dict[str, int] = {}  # before each letter
        for index, letter in enumerate(text):
            self.places[letter] = self.places.get(letter, 0) | 1 << index

    def before(self, accepts: Callable[[str], bool]) -> int:
        return sum(places for letter, places in self.places.items() if accepts(letter))


# What leads from the places where it may begin to those where it may end.
_Part = Callable[[_Name, int], int]


class _Refused(Exception):
    pass


class TensorPattern:
    """`pattern` is the expression in small letters, as llama-quantize takes it; UsageError where it is none."""

    def __init__(self, text: str) -> None:
        self.pattern = text.lower()
        self._known: dict[str, bool] = {}
        try:
            if len(text) > LENGTH:
                raise _Refused(f"it has {len(text)} characters, at most {LENGTH} are read")
            re.compile(self.pattern, re.ASCII)  # more of what can be wrong than the parser finds
            self._part = _sequence(importlib.import_module("re._parser").parse(self.pattern, re.ASCII))
        except (re.error, ValueError, OverflowError, RecursionError, _Refused) as error:
            raise UsageError(f"{shown(text)} is not a regular expression for tensor names: {error}") from None

    def search(self, name: str) -> bool:
        """Whether it matches anywhere in the name; UsageError when that would take more than `STEPS`."""
        found = self._known.get(name)
        if found is None:
            try:
                found = self._known[name] = self._part(_Name(name), (2 << len(name)) - 1) != 0
            except (_Refused, RecursionError):
                raise UsageError(
                    f"{shown(self.pattern)} takes more than {STEPS} steps to match the tensor {shown(name)}; "
                    "write it with fewer repetitions within repetitions"
                ) from None
        return found


@lru_cache(maxsize=1024)
def tensor_pattern(text: str) -> TensorPattern:
    """The pattern of that text, which knows the names that it was asked for."""
    return TensorPattern(text)


def _sequence(items: Any) -> _Part:
    if items.state.flags & ~re.ASCII.value:
        raise _Refused("inline flags, which llama-quantize has not")
    parts = [_part(kind.name, value) for kind, value in items]

    def ends(name: _Name, at: int) -> int:
        for part in parts:
            name.steps += 1
            if name.steps > STEPS:
                raise _Refused
            at = part(name, at)
            if not at:
                break
        return at

    return ends


def _part(kind: str, value: Any) -> _Part:
    if kind == "LITERAL":
        own = chr(value)
        return lambda name, at: (at & name.places.get(own, 0)) << 1
    if kind in ("NOT_LITERAL", "ANY", "IN"):
        accepts = lru_cache(maxsize=256)(lambda letter: _accepts(kind, value, letter))
        return lambda name, at: (at & name.before(accepts)) << 1
    if kind == "BRANCH":
        return _branch([_sequence(items) for items in value[1]])
    if kind in ("MAX_REPEAT", "MIN_REPEAT"):
        low, high, items = value
        return _repeat(int(low), int(high), _sequence(items))
    if kind in ("ASSERT", "ASSERT_NOT"):
        direction, items = value
        return _look(_sequence(items), items.getwidth()[0] if direction < 0 else None, kind == "ASSERT")
    if kind == "SUBPATTERN" and not value[1] and not value[2]:
        return _sequence(value[3])
    if kind == "AT":
        return lambda name, at: at & _position(value.name, name)
    if kind == "FAILURE":
        return lambda name, at: 0
    what = {"GROUPREF": "a back reference", "SUBPATTERN": "inline flags"}.get(kind, "an atomic group or a condition")
    raise _Refused(f"{what}, which no pattern of a tensor's name needs")


def _accepts(kind: str, value: Any, letter: str) -> bool:
    if kind == "IN":
        negated = bool(value[0][0].name == "NEGATE")
        return any(_accepts(part.name, inner, letter) for part, inner in value[negated:]) != negated
    if kind == "RANGE":
        return bool(value[0] <= ord(letter) <= value[1])
    if kind == "CATEGORY":
        return re.fullmatch(_CLASSES[value.name], letter, re.ASCII) is not None
    return letter != "\n" if kind == "ANY" else bool(ord(letter) == value) == (kind == "LITERAL")


def _branch(choices: list[_Part]) -> _Part:
    def ends(name: _Name, at: int) -> int:
        found = 0
        for choice in choices:
            found |= choice(name, at)
        return found

    return ends


def _repeat(low: int, high: int, body: _Part) -> _Part:
    def ends(name: _Name, at: int) -> int:
        for _ in range(min(low, len(name.text) + 1)):  # after so many, one more leads to the same places
            at = body(name, at)
        found, left = at, high - low
        while at and left:
            at = body(name, at) & ~found
            found, left = found | at, left - 1
        return found

    return ends


def _look(body: _Part, behind: int | None, wanted: bool) -> _Part:
    def holds(name: _Name, place: int) -> bool:
        if behind is None:
            return body(name, place) != 0
        return bool(place >> behind) and body(name, place >> behind) & place != 0

    return lambda name, at: sum(place for place in _bits(at) if holds(name, place) == wanted)


def _position(kind: str, name: _Name) -> int:
    if kind == "AT_BEGINNING":
        return 1
    if kind == "AT_END":
        return name.end | (name.end >> 1 if name.text.endswith("\n") else 0)
    words = name.before(lambda letter: re.match(r"\w", letter, re.ASCII) is not None)
    return words ^ words << 1  # AT_BOUNDARY


def _bits(number: int) -> Iterator[int]:
    while number:
        yield number & -number
        number &= number - 1
