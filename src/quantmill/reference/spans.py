"""The spans of llama.cpp's tags that are known, and which of them a tag belongs to.

A tag is `b` and llama.cpp's build number, or a version such as `v0.5.0`. A span reaches from the first build that was
compared with a library of it to the last one; tags between two spans are not offered. A span that is known but not
offered has a number in the keys of steps, and no tag names it.
"""

import re
from collections.abc import Iterable

from quantmill.errors import UsageError
from quantmill.reference.admissions import Admission
from quantmill.reference.ggml_0_20_2 import GGML_0_20_2
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.reference.llama_cpp.b5590 import B5590
from quantmill.reference.llama_cpp.b6122 import B6122
from quantmill.reference.llama_cpp.b6301 import B6301
from quantmill.reference.llama_cpp.b6673 import B6673
from quantmill.reference.llama_cpp.b6845 import B6845
from quantmill.reference.llama_cpp.b7830 import B7830
from quantmill.reference.llama_cpp.b8054 import B8054
from quantmill.reference.llama_cpp.b8121 import B8121
from quantmill.reference.llama_cpp.b8305 import B8305
from quantmill.reference.llama_cpp.b8356 import B8356
from quantmill.reference.llama_cpp.b8560 import B8560
from quantmill.reference.llama_cpp.b8683 import B8683
from quantmill.reference.llama_cpp.b8739 import B8739
from quantmill.reference.llama_cpp.b9014 import B9014
from quantmill.reference.llama_cpp.b9102 import B9102
from quantmill.reference.llama_cpp.b9554 import B9554
from quantmill.reference.llama_cpp.b9842 import B9842
from quantmill.reference.llama_cpp.b9982 import B9982
from quantmill.reference.llama_cpp.b10068 import B10068
from quantmill.reference.llama_cpp.b10236 import B10236
from quantmill.reference.llama_cpp.b10715 import B10715
from quantmill.reference.llama_cpp.b11227 import B11227
from quantmill.reference.reference import Reference

OFFERED: tuple[Reference, ...] = (
    *(B4867, B5590, B6122, B6301, B6673, B6845, B7830, B8054, B8121, B8305, B8356, B8560, B8683, B8739, B9014, B9102),
    *(B9554, B9842, B9982, B10068, B10236, B10715, B11227),
)
KNOWN: tuple[Reference, ...] = (*OFFERED, GGML_0_20_2)

DEFAULT = B4867  # what is followed where no tag is named
DEFAULT_TAG = f"b{DEFAULT.last}"

_ADMIT = "admit it with quantmill admit"
_TAG = re.compile(r"b([1-9][0-9]{0,8})|v[0-9]+\.[0-9]+\.[0-9]+", re.ASCII)


def supported() -> str:
    """The offered spans in words, for messages."""
    return ", ".join(str(reference) for reference in OFFERED)


def of_tag(tag: str, admissions: Iterable[Admission] = ()) -> Reference:
    """The reference of an offered tag, or of one that the team admitted, or between such ones; UsageError naming the
    nearest otherwise."""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise UsageError(f"{tag!r} is not a llama.cpp tag such as {DEFAULT_TAG} or v0.5.0")
    admissions = list(admissions)
    if match[1] is None:
        known = {name: reference.first for reference in OFFERED for name in reference.names}
        known |= {admission.tag: admission.span for admission in admissions if not admission.tag.startswith("b")}
        first = known.get(tag)
        if first is None:
            raise UsageError(f"llama.cpp {tag} is not supported; {_ADMIT}; supported versions are {', '.join(known)}")
        return next(reference for reference in OFFERED if reference.first == first)
    number = int(match[1])
    ends = {reference.first: reference.last for reference in OFFERED}
    for admission in admissions:
        if admission.span in ends and admission.tag.startswith("b"):
            ends[admission.span] = max(ends[admission.span], int(admission.tag[1:]))
    found = next((reference for reference in OFFERED if reference.first <= number <= ends[reference.first]), None)
    if found is None:
        below = [f"b{last}" for last in ends.values() if last < number]
        above = [f"b{first}" for first in ends if first > number]
        near = " and ".join([*below[-1:], *above[:1]])
        raise UsageError(f"llama.cpp {tag} is not supported; {_ADMIT}; the nearest tags that are: {near}")
    return found


def newest_tag(admissions: Iterable[Admission] = ()) -> str:
    """The newest tag with a build number that is offered, or that the team admitted."""
    spans = {reference.first for reference in OFFERED}
    admitted = [int(a.tag[1:]) for a in admissions if a.tag.startswith("b") and a.span in spans]
    return f"b{max([OFFERED[-1].last, *admitted])}"


def candidates(tag: str) -> list[Reference]:
    """The offered references, the likeliest for a tag first; UsageError for what is no tag."""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise UsageError(f"{tag!r} is not a llama.cpp tag such as {DEFAULT_TAG} or v0.5.0")
    number = int(match[1]) if match[1] else OFFERED[-1].last
    return sorted(OFFERED, key=lambda span: (max(span.first - number, number - span.last, 0), -span.first))


def of_generation(number: int | None) -> Reference:
    """The reference that has the number in the keys of steps, b4867's for 0 or None; UsageError for any other."""
    if not number:
        return B4867
    found = next((reference for reference in KNOWN if reference.generation == number), None)
    if found is None:
        known = ", ".join(str(reference.generation) for reference in KNOWN)
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
