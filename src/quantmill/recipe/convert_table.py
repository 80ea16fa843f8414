"""What a recipe says of who converts and measures its base: our own code, or the llama.cpp of its tag."""

from collections.abc import Callable
from typing import Any

from quantmill.errors import Unfit

KEYS: dict[str, str] = {"convert.with": "string"}
OWN, LLAMA_CPP, AUTO = "own", "llama.cpp", "auto"


def tool(get: Callable[[str], Any], key: str) -> str:
    """OWN, LLAMA_CPP or, for llama.cpp only where our own code cannot, AUTO. Raises Unfit."""
    found = get(key) or OWN
    if found not in (OWN, LLAMA_CPP, AUTO):
        raise Unfit(key, f"{found!r} is not one of {OWN}, {LLAMA_CPP} and {AUTO}")
    return str(found)


def converter(get: Callable[[str], Any]) -> str:
    """Who converts, by the [convert] of a recipe. Raises Unfit."""
    found = tool(get, "convert.with")
    if get("convert") is not None and get("base.gguf") is not None:
        raise Unfit("convert", "a GGUF base is not converted; remove it")
    if found == LLAMA_CPP and get("base.pre_tokenizer") is not None:
        raise Unfit("base.pre_tokenizer", "llama.cpp's own converter is not told of it; remove it")
    return found
