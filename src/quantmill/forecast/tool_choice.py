"""Which program each step of a recipe uses, and why: our own code, or the llama.cpp of the tag."""

from collections.abc import Iterator, Mapping
from typing import Any

from quantmill.architectures.known import architecture
from quantmill.recipe import locked_tools
from quantmill.recipe.convert_table import AUTO, OWN
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe

ASKED = "the recipe asks for it"
PROGRAMS = {"imatrix": "llama-imatrix", "evaluation": "llama-perplexity", "bench": "llama-bench"}
OURS = {"bench": "our own kernels, which run this architecture"}
ENGINE = "our own engine, which computes with this architecture"
LEFT_OUT = (
    "quality and speeds are left out: our engine is not known to compute with this architecture; [evaluation] and "
    "[bench] may ask llama.cpp for them (`with`)"
)
NOT_TOLD = (
    "quality: what llama-perplexity of the tag does not tell (at some the median and tails of KLD, and the change of "
    "probabilities) is left out; its time is not known before"
)


def tool_choice(recipe: Recipe, lock: Lock) -> Iterator[str]:
    """A sentence for each step that a recipe lets llama.cpp run, or may; nothing for one that speaks of none."""
    for step, tool in locked_tools.asked(recipe).items():
        if tool != OWN:
            said = _program(lock, step) if step in PROGRAMS else _converter(lock, step)
            yield f"{step}: {said}{_why(tool, lock.tools[step]) if step in lock.tools else ''}"
    if "evaluation" in lock.tools:
        yield NOT_TOLD
    unknown = any(lock.tools[step]["why"] for step in ("convert", *PROGRAMS) if step in lock.tools)
    computes = locked_tools.asked(recipe)["imatrix"] == AUTO and "imatrix" not in lock.tools
    if unknown and not (recipe.evaluation or recipe.bench or computes):
        yield LEFT_OUT


def _converter(lock: Lock, step: str) -> str:
    if step not in lock.tools:
        return f"our own converter, which knows {architecture(lock.config or {}).name}"
    facts = lock.tools[step]
    versions = [f"{name} {facts['versions'][name]}" for name in ("torch", "transformers") if name in facts["versions"]]
    made = ", ".join([f"the sources {facts['tree'][:8]}…", *versions])
    return f"convert_hf_to_gguf.py of llama.cpp {facts['llama_cpp']} ({made})"


def _program(lock: Lock, step: str) -> str:
    if step not in lock.tools:
        return OURS.get(step, ENGINE)
    facts = lock.tools[step]
    said = f"{PROGRAMS[step]} of llama.cpp {facts['llama_cpp']}"
    if "program" not in facts:
        return said
    made = ", ".join([f"the program {facts['program'][:8]}…", *facts["backends"]])
    return f"{said} ({made})"


def _why(asked: str, facts: Mapping[str, Any]) -> str:
    return f", for ours does not: {facts['why']}" if asked == AUTO else f", for {ASKED}"
