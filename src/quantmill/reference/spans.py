"""The spans of llama.cpp's tags that are known, and which of them a tag belongs to.

A tag is `b` and llama.cpp's build number, or a version such as `v0.5.0`. A span reaches from the first build that was
compared with a library of it to the last one; tags between two spans are not offered.
"""

import re
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Literal

from quantmill.errors import UsageError
from quantmill.reference.admissions import TAG, Admission, own
from quantmill.reference.reference import Reference

OF_2025 = (5590, 6122, 6301, 6673, 6845, 7324)  # which have a folder of their own
BUILDS = (
    *(4867, *OF_2025, 7830, 8054, 8121, 8305, 8356, 8560, 8683, 8739, 9014, 9102, 9554),
    *(9842, 9982, 10068, 10236, 10715, 11227),
)  # the first of each span, by which its module is called; one is imported when it is first asked for

_ADMIT = "admit it with quantmill admit"


Proof = Literal["compared", "between", "team"]


def module_of(first: int) -> str:
    """The module of a span's record."""
    return f"quantmill.reference.llama_cpp.{'of_2025.' * (first in OF_2025)}b{first}"


@cache
def _span(first: int) -> Reference:
    """A span's record, with the tags that were admitted by its rules since it was written."""
    found: Reference = getattr(import_module(module_of(first)), f"B{first}")
    last = _reached(found, {admission.tag: admission.span for admission in own()})
    return found if last == found.last else replace(found, last=last)


def offered() -> tuple[Reference, ...]:
    """Every span that tags name, in the order of tags."""
    return tuple(map(_span, BUILDS))


def of_tag(
    tag: str, admissions: Iterable[Admission] = (), shared: Callable[[], Iterable[Admission]] = tuple
) -> Reference:
    """The reference of an offered tag, or of one that the team admitted, or between such ones; UsageError naming the
    nearest otherwise. `shared` gives further admissions, and is asked where the tag is not known without."""
    match, team = _match(tag), tuple(admissions)
    found = _known(match, team)
    if found is None:
        team = (*team, *shared())
        found = _known(match, team)
    if found is not None:
        return found
    spans = _admitted(team)
    if match[1] is None:
        versions = [*(name for reference in offered() for name in reference.names), *spans]
        names = ", ".join(dict.fromkeys(name for name in versions if name.startswith("v")))
        raise UsageError(f"llama.cpp {tag} is not supported; {_ADMIT}; supported versions are {names}")
    at = bisect(BUILDS, int(match[1]))
    below = [_reached(_span(first), spans) for first in BUILDS[max(at - 1, 0) : at]]
    near = " and ".join(f"b{build}" for build in (*below, *BUILDS[at : at + 1]))
    raise UsageError(f"llama.cpp {tag} is not supported; {_ADMIT}; the nearest tags that are: {near}")


def proof(tag: str) -> Proof:
    """What a supported tag stands on: its files were compared by quantmill's authors, or those of tags on both sides
    of it in one span, or the team admitted it or one such."""
    ends = {end for span in offered() for end in (f"b{span.first}", f"b{span.last}", *span.names)}
    if tag in ends or any(admission.tag == tag for admission in own()):
        return "compared"
    return "between" if _known(_match(tag), ()) else "team"


def _known(match: re.Match[str], team: Iterable[Admission]) -> Reference | None:
    spans = _admitted(team)
    if (tag := match[0]) in spans:
        return _span(spans[tag])
    if match[1] is None:
        return next((reference for reference in offered() if tag in reference.names), None)
    number = int(match[1])
    first = next((build for build in reversed(BUILDS) if build <= number), None)
    return _span(first) if first and number <= _reached(_span(first), spans) else None


def _admitted(team: Iterable[Admission]) -> dict[str, int]:
    """Span by admitted tag; quantmill's own count first."""
    return {admission.tag: admission.span for admission in (*team, *own()) if admission.span in BUILDS}


def newest() -> Reference:
    """What is followed where no tag is named: the last span that is offered."""
    return _span(BUILDS[-1])


def newest_tag(admissions: Iterable[Admission] = ()) -> str:
    """The newest tag with a build number that is offered, or that the team admitted: what `lock` writes."""
    admitted = [int(a.tag[1:]) for a in admissions if a.tag.startswith("b") and a.span in BUILDS]
    return f"b{max([newest().last, *admitted])}"


def _reached(span: Reference, spans: Mapping[str, int]) -> int:
    """The last tag that a span reaches to, with those that were admitted by its rules before the next span begins."""
    end = next((build for build in BUILDS if build > span.first), 10**9)
    admitted = (int(tag[1:]) for tag, first in spans.items() if first == span.first and tag.startswith("b"))
    return max(span.last, *(number for number in admitted if number < end), 0)


def _match(tag: str) -> re.Match[str]:
    match = TAG.fullmatch(tag)
    if match is None:
        raise UsageError(f"{tag!r} is not a llama.cpp tag such as {newest_tag()} or v0.5.0")
    return match


def candidates(tag: str) -> list[Reference]:
    """The offered references, the likeliest for a tag first; UsageError for what is no tag."""
    match = _match(tag)
    number = int(match[1]) if match[1] else newest().last
    return sorted(offered(), key=lambda span: (max(span.first - number, number - span.last, 0), -span.first))


def of_generation(number: int | None) -> Reference:
    """The reference that has the number in the keys of steps, b4867's for 0 or None; UsageError for any other."""
    if not number:
        return _span(BUILDS[0])
    if number in BUILDS:  # a generation is called by its first build, all but the oldest's
        return _span(number)
    found = next((reference for reference in offered() if reference.generation == number), None)
    if found is None:
        known = ", ".join(str(reference.generation) for reference in offered())
        raise UsageError(f"there is no generation {number}; known are {known}")
    return found


def check_options(tag: str, reference: Reference, *, tensor_types: bool) -> None:
    """UsageError when llama-quantize of this tag does not have what the caller uses."""
    first = reference.options["--tensor-type"]
    if tensor_types and tag.startswith("b") and int(tag[1:]) < first:
        raise UsageError(
            f"llama-quantize of {tag} has no --tensor-type, which came with b{first}: "
            "remove the per-tensor types or choose a later tag"
        )


def check_known(reference: Reference, options: Iterable[str]) -> None:
    """UsageError for an option that llama-quantize of the span does not have."""
    for option in options:
        if reference.last < (first := reference.options[option]):
            raise UsageError(f"{option} is not offered for llama.cpp {reference}; choose a tag from b{first} on")
