"""The spans of llama.cpp's tags that are known, and which of them a tag belongs to.

A tag is `b` and llama.cpp's build number. Only spans whose tensor mix, header and arithmetic are all reproduced are
offered. A span that is known but not offered has a number in the keys of steps, and no tag names it.
"""

import re

from quantmill.errors import UsageError
from quantmill.reference.b4867 import B4867
from quantmill.reference.ggml_0_20_2 import GGML_0_20_2
from quantmill.reference.reference import Reference

OFFERED: tuple[Reference, ...] = (B4867,)
KNOWN: tuple[Reference, ...] = (*OFFERED, GGML_0_20_2)

NEWEST = OFFERED[-1]  # what is followed where no tag is named
NEWEST_TAG = f"b{NEWEST.last}"

_TAG = re.compile(r"b([1-9][0-9]{0,8})", re.ASCII)


def supported() -> str:
    """The offered spans in words, for messages."""
    return ", ".join(str(reference) for reference in OFFERED)


def build(tag: str) -> int:
    """The build number of an offered tag; UsageError naming the offered spans otherwise."""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise UsageError(f"{tag!r} is not a llama.cpp tag such as {NEWEST_TAG}; supported are {supported()}")
    number = int(match[1])
    if not any(reference.first <= number <= reference.last for reference in OFFERED):
        raise UsageError(f"llama.cpp {tag} is not supported; supported are {supported()}")
    return number


def of_tag(tag: str) -> Reference:
    """The reference of an offered tag; UsageError naming the offered spans otherwise."""
    number = build(tag)
    return next(reference for reference in OFFERED if reference.first <= number <= reference.last)


def of_generation(number: int | None) -> Reference:
    """The reference that has the number in the keys of steps, b4867's for 0 or None; UsageError for any other."""
    if not number:
        return B4867
    found = next((reference for reference in KNOWN if reference.generation == number), None)
    if found is None:
        known = ", ".join(str(reference.generation) for reference in KNOWN)
        raise UsageError(f"there is no generation {number}; known are {known}")
    return found


def check_options(tag: str, *, tensor_types: bool) -> None:
    """UsageError when llama-quantize of this tag does not have what the caller uses."""
    first = of_tag(tag).options["--tensor-type"]
    if build(tag) < first and tensor_types:
        raise UsageError(
            f"llama-quantize of {tag} has no --tensor-type, which came with b{first}: "
            "remove the per-tensor types or choose a later tag"
        )
