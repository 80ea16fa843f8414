"""What can be wrong with a GGUF file or a call about one.

`place` is the file as the user knows it. A sentence that several modules say stands here as a function that makes the
error; any other stands where it is raised.
"""

from quantmill.errors import QuantmillError, UsageError


def shown(text: str) -> str:
    """`text` quoted for a message: control characters escaped, at most 80 characters."""
    quoted = repr(text)
    return quoted if len(quoted) <= 80 else quoted[:60] + "…" + quoted[-16:]


class GGUFError(QuantmillError):
    """Something is wrong with a GGUF file."""


class GGUFUsageError(UsageError, GGUFError):
    """What was asked of a GGUF file cannot be done to it."""


def unreadable(place: str, reason: str) -> GGUFError:
    return GGUFError(f"{place}: cannot be read ({reason}); name an existing file that you may read")


def changed(place: str) -> GGUFError:
    return GGUFError(f"{place}: changed while it was read; run again when nothing writes to it")


def not_gguf(place: str, found: str) -> GGUFError:
    return GGUFUsageError(f"{place}: not a GGUF file but {found}")


def truncated_header(place: str, size: int, what: str) -> GGUFError:
    return GGUFError(f"{place}: ends after {size} bytes, inside {what}; it was cut short, fetch it again")


def truncated(place: str, size: int, expected: int) -> GGUFError:
    return GGUFError(
        f"{place}: {expected - size} bytes are missing ({size} of {expected} are there); "
        "it was cut short, fetch it again"
    )


def impossible_count(place: str, what: str, count: int, size: int) -> GGUFError:
    return GGUFError(
        f"{place}: {what} claims {count}, more than a file of {size} bytes can hold; "
        "it is damaged or was cut short, fetch it again"
    )


def beyond(place: str, what: str, count: int, most: int) -> GGUFError:
    return GGUFError(
        f"{place}: {what} are {count}, of which no model needs more than {most}; "
        "the file is damaged or hostile, fetch it from elsewhere"
    )


def invalid_text(place: str, what: str) -> GGUFError:
    return GGUFError(f"{place}: {what} is not UTF-8; GGUF allows no other text, make the file anew")


def invalid_name(place: str, what: str, why: str) -> GGUFError:
    return GGUFError(f"{place}: {what} {why}")


def duplicate_key(place: str, key: str) -> GGUFError:
    return GGUFError(f"{place}: the key {shown(key)} is there twice; every key may be there once")


def duplicate_tensor(place: str, tensor: str) -> GGUFError:
    return GGUFError(f"{place}: the tensor {shown(tensor)} is there twice; every tensor may be there once")


def invalid_alignment(place: str, alignment: str) -> GGUFError:
    return GGUFError(f"{place}: general.alignment is {alignment}; it must be a power of two stored as UINT32")


def invalid_shape(place: str, tensor: str, shape: str, why: str) -> GGUFError:
    return GGUFError(f"{place}: the tensor {shown(tensor)} has {shape}; {why}")


# Blocks interleaved in the file, of types that their ids no longer name; rows are interleaved in memory instead.
_WITHDRAWN = {31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8"}


def unknown_type(place: str, tensor: str, id: int) -> GGUFError:
    if old := _WITHDRAWN.get(id):
        return GGUFError(
            f"{place}: the tensor {shown(tensor)} has the type {old}, which llama.cpp withdrew in b4282; "
            f"use {old[:-4]}, which is repacked when it is loaded"
        )
    return GGUFError(
        f"{place}: the tensor {shown(tensor)} has the unknown type {id}; "
        "the file is damaged, or its type is newer than this version or was withdrawn from ggml"
    )


def wrong_byte_count(place: str, tensor: str, given: int, expected: int) -> GGUFError:
    """The writer was handed too many or too few bytes: a mistake of its caller, never of a file."""
    return GGUFError(f"{place}: the tensor {shown(tensor)} was given {given} bytes; it takes {expected}")


def write_failed(place: str, reason: str) -> GGUFError:
    return GGUFError(f"{place}: cannot be written ({reason}); name a place where you may write")
