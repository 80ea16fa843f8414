"""Which steps of a recipe llama.cpp's own programs run, and which llama.cpp: the lock's `tools`.

By step, `convert` or `imatrix`: the toolchain's facts (toolchain.installed), and in `why` what our own code says that
it cannot do, empty where the recipe asked for llama.cpp.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from quantmill.architectures.errors import ForwardError, ModelError
from quantmill.errors import UsageError
from quantmill.recipe.convert_table import AUTO, LLAMA_CPP, OWN
from quantmill.recipe.recipe import Recipe

Tools = Mapping[str, Mapping[str, Any]]


def resolve(recipe: Recipe, config: Mapping[str, Any] | None, unconverted: str | None) -> dict[str, dict[str, Any]]:
    """The tools of a recipe whose base has that config.json; `unconverted` is why our own converter does not make it,
    None where it does. UsageError where what is needed is not on this machine."""
    from quantmill.toolchain.installed import needed

    whys: dict[str, str] = {}
    if unconverted is not None:
        whys["convert"] = unconverted
    wanted = recipe.imatrix.tool if recipe.imatrix and recipe.calibration else OWN
    if wanted == LLAMA_CPP:
        whys["imatrix"] = ""
    elif wanted == AUTO and (why := _incomputable(recipe, config, unconverted)):
        whys["imatrix"] = why
    if "imatrix" in whys and (problem := several_texts(recipe)):
        raise UsageError(f"{recipe.path}: {problem}")
    found = {}
    for step, why in whys.items():
        try:
            found[step] = {**(needed(recipe.llama_cpp, step).facts(step) or {}), "why": why}
        except UsageError as error:
            raise UsageError(f"{why}, and {error}" if why else f"{recipe.path}: {error}") from None
    return found


def several_texts(recipe: Recipe) -> str:
    """What of a recipe's texts llama-imatrix cannot be given, in a sentence; empty where it can."""
    texts = recipe.calibration.texts if recipe.calibration else ()
    if len(texts) > 1 or any(text.weight is not None for text in texts):
        return "calibration.texts: llama-imatrix measures one text without a weight; give one by `text` or `url`"
    return ""


def _incomputable(recipe: Recipe, config: Mapping[str, Any] | None, unconverted: str | None) -> str:
    """Why our own engine does not measure the base, empty where it does."""
    from quantmill.architectures.hyperparameters import hyper, uncomputed

    if recipe.base.gguf is None:
        from quantmill.architectures.description import describe
        from quantmill.architectures.known import architecture

        try:
            if unconverted is not None:
                describe(config or {}, recipe.base.type)
            known = architecture(config) if config else None
        except ModelError as error:
            return str(error)
        return str(uncomputed("config.json", known.name)) if known and not known.is_computed else ""
    from quantmill import gguf
    from quantmill.architectures.tensor_check import check

    with gguf.read(recipe.base.gguf) as file:
        tensors = {name: (shape, type_) for name, shape, type_ in file.tensor_entries()}
        embeddings = tensors.get("token_embd.weight", ((), None))[0]
        try:
            model = hyper(recipe.base.gguf.name, file.metadata, embeddings[1] if len(embeddings) == 2 else 0)
            check(recipe.base.gguf.name, model, tensors)
        except ForwardError as error:
            return str(error)
    return ""


def drift(recipe: Recipe, tools: Tools) -> str | None:
    """What of the lock's tools is not as the recipe asks, or None."""
    measured = recipe.imatrix.tool if recipe.imatrix and recipe.calibration else OWN
    for step, wanted in (("convert", recipe.convert_with), ("imatrix", measured)):
        if (step in tools) != (wanted == LLAMA_CPP) and wanted != AUTO:
            return f"the recipe's {step} is with {wanted}, and the lock's is not"
        if step in tools and tools[step]["llama_cpp"] != recipe.llama_cpp:
            return f"its {step} is with llama.cpp {tools[step]['llama_cpp']}, the recipe's tag is {recipe.llama_cpp}"
    return None


def moved(tools: Tools) -> str | None:
    """In what this machine's toolchain, where there is one, differs from the lock's; or None."""
    if not tools:
        return None
    from quantmill.toolchain.installed import differences, find

    for step in tools:
        found = find(tools[step]["llama_cpp"])
        if found is not None and found.facts(step) not in (None, facts(tools, step)):
            return f"llama.cpp {found.tag} is another here: {differences(facts(tools, step), found, step)}"
    return None


def facts(tools: Tools, step: str) -> dict[str, Any]:
    """The toolchain's facts of a step, as its key has them."""
    return {key: value for key, value in tools[step].items() if key != "why"}


def read(data: Any) -> dict[str, dict[str, Any]]:
    """A lock's tools; ValueError for what is none."""
    shapes = {"convert": {"llama_cpp": str, "tree": str, "versions": dict, "why": str}}
    shapes["imatrix"] = {"llama_cpp": str, "program": str, "backends": list, "why": str}
    if not isinstance(data, dict) or not data.keys() <= shapes.keys():
        raise ValueError("its tools are no table of convert and imatrix")
    for step, found in data.items():
        shape = shapes[step]
        if not isinstance(found, dict) or found.keys() != shape.keys():
            raise ValueError(f"its tools say not what {step} is made with")
        if not all(isinstance(found[key], kind) for key, kind in shape.items()):
            raise ValueError(f"its tools say not what {step} is made with")
    return data


def materials(tools: Tools) -> Iterator[dict[str, Any]]:
    """What of llama.cpp a release was made with, as in-toto's resource descriptors."""
    for step, name in (("convert", "tree"), ("imatrix", "program")):
        if step in tools:
            described = facts(tools, step)
            digest = {"sha256": described.pop(name)}
            yield {"name": f"llama.cpp/{name}", "digest": digest, "annotations": described}
