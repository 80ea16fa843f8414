"""Which program each step of a recipe uses, and why: our own code, or the llama.cpp of the tag."""

from collections.abc import Iterator, Mapping
from typing import Any

from quantmill.architectures.known import architecture
from quantmill.recipe.convert_table import AUTO, OWN
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe

ASKED = "the recipe asks for it"


def tool_choice(recipe: Recipe, lock: Lock) -> Iterator[str]:
    """A sentence for each step that a recipe lets llama.cpp run, or may; nothing for one that speaks of none."""
    if recipe.convert_with != OWN:
        yield f"convert: {_converter(recipe, lock)}"
    if recipe.imatrix and recipe.calibration and recipe.imatrix.tool != OWN:
        yield f"imatrix: {_imatrix(recipe, lock)}"
    if "convert" in lock.tools and lock.tools["convert"]["why"] and not (recipe.evaluation or recipe.bench):
        yield "quality and speeds are left out: our engine is not known to compute with this architecture"


def _converter(recipe: Recipe, lock: Lock) -> str:
    if "convert" not in lock.tools:
        return f"our own converter, which knows {architecture(lock.config or {}).name}"
    facts = lock.tools["convert"]
    versions = [f"{name} {facts['versions'][name]}" for name in ("torch", "transformers") if name in facts["versions"]]
    made = ", ".join([f"the sources {facts['tree'][:8]}…", *versions])
    return f"convert_hf_to_gguf.py of llama.cpp {facts['llama_cpp']} ({made}), for {_why(recipe.convert_with, facts)}"


def _imatrix(recipe: Recipe, lock: Lock) -> str:
    if "imatrix" not in lock.tools:
        return "our own engine, which computes with this architecture"
    facts, tool = lock.tools["imatrix"], recipe.imatrix.tool if recipe.imatrix else OWN
    made = ", ".join([f"the program {facts['program'][:8]}…", *facts["backends"]])
    return f"llama-imatrix of llama.cpp {facts['llama_cpp']} ({made}), for {_why(tool, facts)}"


def _why(asked: str, facts: Mapping[str, Any]) -> str:
    return f"ours does not: {facts['why']}" if asked == AUTO else ASKED
