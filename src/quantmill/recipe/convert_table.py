"""What a recipe says of who converts and measures its base: our own code, or the llama.cpp of its tag."""

from collections.abc import Callable, Sequence
from typing import Any

from quantmill.errors import Unfit

KEYS: dict[str, str] = {"convert.with": "string", "mmproj.types": "list"}
PROJECTORS = ("F32", "F16", "BF16", "Q8_0")  # types that llama.cpp's converter makes a projector as
OWN, LLAMA_CPP, AUTO = "own", "llama.cpp", "auto"


def tool(get: Callable[[str], Any], key: str) -> str:
    """OWN, LLAMA_CPP or, for llama.cpp only where our own code cannot, AUTO. Raises Unfit."""
    found = get(key) or OWN
    if found not in (OWN, LLAMA_CPP, AUTO):
        raise Unfit(key, f"{found!r} is not one of {OWN}, {LLAMA_CPP} and {AUTO}")
    return str(found)


def tool_of(get: Callable[[str], Any], table: str, program: str, own: Sequence[str], taken: Sequence[str]) -> str:
    """Who does what a table asks for that `program` of a llama.cpp's may do, by its `with` and `args`; `own` are keys
    that are for our engine alone, `taken` the options that other keys decide. Raises Unfit."""
    found, args = tool(get, f"{table}.with"), get(f"{table}.args")
    if found == OWN and args is not None:
        raise Unfit(f"{table}.args", f'they are {program}\'s; write with = "llama.cpp" beside them, or remove them')
    for key in own:
        if found == LLAMA_CPP and get(f"{table}.{key}") is not None:
            raise Unfit(f"{table}.{key}", f"{program} is not told of it; remove it, or give its own options by args")
    if given := [word for word in args or () if word.partition("=")[0] in taken]:
        raise Unfit(f"{table}.args", f"{given[0]} is given by the recipe's other keys; remove it here")
    return found


def converter(get: Callable[[str], Any]) -> str:
    """Who converts, by the [convert] of a recipe. Raises Unfit."""
    found = tool(get, "convert.with")
    if get("convert") is not None and get("base.gguf") is not None:
        raise Unfit("convert", "a GGUF base is not converted; remove it")
    if found == LLAMA_CPP and get("base.pre_tokenizer") is not None:
        raise Unfit("base.pre_tokenizer", "llama.cpp's own converter is not told of it; remove it")
    return found


def projectors(get: Callable[[str], Any]) -> tuple[str, ...]:
    """The types of the projector files that llama.cpp's converter makes, by the [mmproj] of a recipe. Raises Unfit."""
    if get("mmproj") is None:
        return ()
    if get("base.gguf") is not None:
        raise Unfit("mmproj", "a GGUF base has no projector in it; give the model it was made of, or remove this")
    found = tuple(name.upper() for name in get("mmproj.types") or ())
    if not found:
        raise Unfit("mmproj.types", f"this key is missing; give a list of {', '.join(PROJECTORS)}")
    for name in found:
        if name not in PROJECTORS:
            raise Unfit("mmproj.types", f"{name!r} is not one of {', '.join(PROJECTORS)}")
        if found.count(name) > 1:
            raise Unfit("mmproj.types", f"{name} is listed twice; once is enough")
    return found
