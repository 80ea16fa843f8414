"""The one table of llama.cpp tags: which generation a tag belongs to, and which rules its llama-quantize has.

A generation is a span of tags whose quantizers write the same bytes. A tag is `b` and llama.cpp's build number. Only
spans whose tensor mix, header and arithmetic are all reproduced are offered: generation 2's arithmetic is known (and
tested against the libggml-python wheel of ggml 0.20.2), but which tags share its mix and header is not established, so
no tag names it yet.
"""

import re
from dataclasses import dataclass

from quantmill.errors import UsageError


@dataclass(frozen=True)
class Span:
    """The tags `b<first>` to `b<last>`, both included, of one generation."""

    first: int
    last: int
    generation: int

    def __str__(self) -> str:
        return f"b{self.first} to b{self.last}"


# ggml-quants.c did not change its arithmetic from 2025-03-04 to 2025-06-24. The mix, the order of tensors and the
# metadata are those of one source inside the span, early May 2025 (llama-cpp-python 0.3.9's), against which whole files
# are compared; that they are the same at both ends of the span was not checked against the sources of those tags.
SPANS: tuple[Span, ...] = (Span(4867, 5490, generation=1),)

# llama-quantize's --tensor-type came with llama.cpp pull request 12511; its issue 14996 names b5125 as the release. At
# first it took the names of a fixed list only; pull request 13033 (May 2025) opened it to any regular expression. How
# later tags of the span read several patterns for one tensor is not established, so the mix refuses where it matters.
FIRST_TENSOR_TYPE = 5125

# llama.cpp cuts a chunk into batches of 512 tokens (n_ubatch); llama-imatrix leaves out those below 16.
BATCH, LEAST_BATCH = 512, 16

_TAG = re.compile(r"b([1-9][0-9]{0,8})", re.ASCII)


def ends_whole(n_ctx: int) -> bool:
    """Whether llama-imatrix measures the last batch, too, of chunks of so many tokens."""
    return n_ctx >= LEAST_BATCH and not 0 < n_ctx % BATCH < LEAST_BATCH


def supported() -> str:
    """The supported spans in words, for messages."""
    return ", ".join(str(span) for span in SPANS)


def build(tag: str) -> int:
    """The build number of a supported tag; UsageError naming the supported spans otherwise."""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise UsageError(f"{tag!r} is not a llama.cpp tag such as b5490; supported are {supported()}")
    number = int(match[1])
    if not any(span.first <= number <= span.last for span in SPANS):
        raise UsageError(f"llama.cpp {tag} is not supported; supported are {supported()}")
    return number


def generation_of(tag: str) -> int:
    """The generation of a supported tag; UsageError naming the supported spans otherwise."""
    number = build(tag)
    return next(span.generation for span in SPANS if span.first <= number <= span.last)


def check_options(tag: str, *, tensor_types: bool) -> None:
    """UsageError when llama-quantize of this tag does not have what the caller uses."""
    if build(tag) < FIRST_TENSOR_TYPE and tensor_types:
        raise UsageError(
            f"llama-quantize of {tag} has no --tensor-type, which came with b{FIRST_TENSOR_TYPE}: "
            "remove the per-tensor types or choose a later tag"
        )
