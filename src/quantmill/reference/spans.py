"""The spans of llama.cpp's tags that are known, and which of them a tag belongs to.

A tag is `b` and llama.cpp's build number, or a version such as `v0.5.0`. A span reaches from the first build that was
compared with a library of it to the last one; tags between two spans are not offered. A span that is known but not
offered has a number in the keys of steps, and no tag names it.
"""

import re
from bisect import bisect
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from quantmill.errors import UsageError
from quantmill.reference.admissions import Admission
from quantmill.reference.ggml_0_20_2 import GGML_0_20_2
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.reference.reference import Reference

BUILDS = (
    *(4867, 5590, 6122, 6301, 6673, 6845, 7830, 8054, 8121, 8305, 8356, 8560, 8683, 8739, 9014, 9102, 9554, 9842),
    *(9982, 10068, 10236, 10715, 11227),
)  # the first of each span, by which its module is called; one is imported when it is first asked for
if TYPE_CHECKING:
    OFFERED: tuple[Reference, ...]
    KNOWN: tuple[Reference, ...]

DEFAULT = B4867  # what is followed where no tag is named
DEFAULT_TAG = f"b{DEFAULT.last}"

_ADMIT = "admit it with quantmill admit"
_TAG = re.compile(r"b([1-9][0-9]{0,8})|v[0-9]+\.[0-9]+\.[0-9]+", re.ASCII)


def __getattr__(name: str) -> Any:
    if name not in ("OFFERED", "KNOWN"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    offered = tuple(map(_span, BUILDS))
    globals().update(OFFERED=offered, KNOWN=(*offered, GGML_0_20_2))
    return globals()[name]


def _span(first: int) -> Reference:
    found: Reference = getattr(import_module(f"quantmill.reference.llama_cpp.b{first}"), f"B{first}")
    return found


def _offered() -> tuple[Reference, ...]:
    found: tuple[Reference, ...] = globals().get("OFFERED") or __getattr__("OFFERED")
    return found


def supported() -> str:
    """The offered spans in words, for messages."""
    return ", ".join(str(reference) for reference in _offered())


def of_tag(tag: str, admissions: Iterable[Admission] = ()) -> Reference:
    """The reference of an offered tag, or of one that the team admitted, or between such ones; UsageError naming the
    nearest otherwise."""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise UsageError(f"{tag!r} is not a llama.cpp tag such as {DEFAULT_TAG} or v0.5.0")
    admissions = list(admissions)
    if match[1] is None:
        known = {name: reference.first for reference in _offered() for name in reference.names}
        known |= {admission.tag: admission.span for admission in admissions if not admission.tag.startswith("b")}
        first = known.get(tag)
        if first not in BUILDS:
            raise UsageError(f"llama.cpp {tag} is not supported; {_ADMIT}; supported versions are {', '.join(known)}")
        return _span(first)
    number = int(match[1])
    at = bisect(BUILDS, number)
    if at and number <= _last(_span(BUILDS[at - 1]), admissions):
        return _span(BUILDS[at - 1])
    near = [f"b{_last(_span(BUILDS[at - 1]), admissions)}"] if at else []
    near += [f"b{first}" for first in BUILDS[at : at + 1]]
    raise UsageError(f"llama.cpp {tag} is not supported; {_ADMIT}; the nearest tags that are: {' and '.join(near)}")


def newest_tag(admissions: Iterable[Admission] = ()) -> str:
    """The newest tag with a build number that is offered, or that the team admitted."""
    spans = {reference.first for reference in _offered()}
    admitted = [int(a.tag[1:]) for a in admissions if a.tag.startswith("b") and a.span in spans]
    return f"b{max([_offered()[-1].last, *admitted])}"


def _last(reference: Reference, admissions: Iterable[Admission]) -> int:
    """The last tag of a span, with those that were admitted."""
    own = (admission for admission in admissions if admission.span == reference.first and admission.tag[0] == "b")
    return max(reference.last, *(int(admission.tag[1:]) for admission in own), 0)


def candidates(tag: str) -> list[Reference]:
    """The offered references, the likeliest for a tag first; UsageError for what is no tag."""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise UsageError(f"{tag!r} is not a llama.cpp tag such as {DEFAULT_TAG} or v0.5.0")
    number = int(match[1]) if match[1] else _offered()[-1].last
    return sorted(_offered(), key=lambda span: (max(span.first - number, number - span.last, 0), -span.first))


def of_generation(number: int | None) -> Reference:
    """The reference that has the number in the keys of steps, b4867's for 0 or None; UsageError for any other."""
    if not number:
        return B4867
    if number in BUILDS:
        return _span(number)
    known_references = (*_offered(), GGML_0_20_2)
    found = next((reference for reference in known_references if reference.generation == number), None)
    if found is None:
        known = ", ".join(str(reference.generation) for reference in known_references)
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
