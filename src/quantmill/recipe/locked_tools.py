"""Which steps of a recipe llama.cpp's own programs run, and which llama.cpp: the lock's `tools`.

By step, `convert`, `imatrix`, `evaluation`, `bench` or `mmproj`: the toolchain's facts (toolchain.installed), and in
`why` what our own code says that it cannot do, empty where the recipe asked for llama.cpp.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantmill.architectures.errors import ForwardError, ModelError
from quantmill.errors import UsageError
from quantmill.recipe.base_files import base_words, requested_base
from quantmill.recipe.convert_table import AUTO, LLAMA_CPP, OWN
from quantmill.recipe.recipe import Recipe

if TYPE_CHECKING:
    from quantmill.toolchain.installed import Toolchain

PERPLEXITY = "llama-perplexity"
Tools = Mapping[str, Mapping[str, Any]]


def asked(recipe: Recipe) -> dict[str, str]:
    """By whom each step is to be done that llama.cpp may do, as convert_table.tool."""
    return {
        "convert": recipe.convert_with,
        "imatrix": recipe.imatrix.tool if recipe.imatrix and recipe.calibration else OWN,
        "evaluation": recipe.evaluation.tool if recipe.evaluation else OWN,
        "bench": recipe.bench.tool if recipe.bench else OWN,
        "mmproj": LLAMA_CPP if recipe.projectors else OWN,
    }


def resolve(recipe: Recipe, config: Mapping[str, Any] | None, unconverted: str | None) -> dict[str, dict[str, Any]]:
    """The tools of a recipe whose base has that config.json; `unconverted` is why our own converter does not make it,
    None where it does. UsageError where what is needed is not on this machine."""
    from quantmill.toolchain.installed import needed

    wanted = asked(recipe)
    whys = {step: "" for step, tool in wanted.items() if tool == LLAMA_CPP and step != "convert"}
    if unconverted is not None:
        whys["convert"] = unconverted
    if AUTO in [tool for step, tool in wanted.items() if step != "convert"]:
        why = _incomputable(recipe, config, unconverted)
        whys |= {step: why for step, tool in wanted.items() if why and tool == AUTO and step != "convert"}
    if "imatrix" in whys and (problem := several_texts(recipe)):
        raise UsageError(f"{recipe.path}: {problem}")
    found = {}
    for step in filter(whys.__contains__, wanted):
        try:
            toolchain = needed(recipe.llama_cpp, step)
            if step == "convert":
                _check_known(toolchain, config or {})
            made_by = toolchain.facts(step) or {}
        except UsageError as error:
            where = base_words(requested_base(recipe)) if whys[step] else recipe.path
            raise UsageError(f"{where}: {whys[step]}{', and ' * bool(whys[step])}{error}") from None
        # Speeds are of the program that this machine has: which it is belongs to them, and not to what decides bytes.
        found[step] = {**({"llama_cpp": made_by["llama_cpp"]} if step == "bench" else made_by), "why": whys[step]}
    return found


def _check_known(toolchain: "Toolchain", config: Mapping[str, Any]) -> None:
    from quantmill.toolchain.convert_script import unknown

    if strange := unknown(toolchain, config):
        raise UsageError(
            f"the converter of llama.cpp {toolchain.tag} does not know {strange}; give a tag whose converter does, or "
            "as the base a GGUF file that another made"
        )


def bench_program(recipe: Recipe) -> tuple[Path, str] | None:
    """The llama-bench of the tag's toolchain on this machine and its digest; None where there is none."""
    from quantmill.toolchain.installed import BENCH, find

    try:
        found = find(recipe.llama_cpp)
    except UsageError:  # whoever needs it says so
        return None
    digest = found.programs.get(BENCH) if found and found.tools else None
    return (Path(found.tools) / BENCH, digest) if found and digest else None


def lacks(recipe: Recipe, step: str) -> str:
    """What this machine lacks for a step, in a sentence that says how to have it; empty where it lacks nothing."""
    from quantmill.toolchain.installed import needed

    try:
        needed(recipe.llama_cpp, step)
    except UsageError as error:
        return str(error)
    return ""


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
    for step, wanted in asked(recipe).items():
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
        found = find(tools[step]["llama_cpp"]) if step != "bench" else None
        if found is not None and found.facts(step) not in (None, facts(tools, step)):
            return f"llama.cpp {found.tag} is another here: {differences(facts(tools, step), found, step)}"
    return None


def facts(tools: Tools, step: str) -> dict[str, Any]:
    """The toolchain's facts of a step, as its key has them."""
    return {key: value for key, value in tools[step].items() if key != "why"}


def read(data: Any) -> dict[str, dict[str, Any]]:
    """A lock's tools; ValueError for what is none."""
    program = {"llama_cpp": str, "program": str, "backends": list, "why": str}
    converter = {"llama_cpp": str, "tree": str, "versions": dict, "why": str}
    shapes = {"convert": converter, "mmproj": converter, "imatrix": program}
    shapes |= {"evaluation": program, "bench": {"llama_cpp": str, "why": str}}
    if not isinstance(data, dict) or not data.keys() <= shapes.keys():
        raise ValueError(f"its tools are no table of {', '.join(shapes)}")
    for step, found in data.items():
        shape = shapes[step]
        if not isinstance(found, dict) or found.keys() != shape.keys():
            raise ValueError(f"its tools say not what {step} is made with")
        if not all(isinstance(found[key], kind) for key, kind in shape.items()):
            raise ValueError(f"its tools say not what {step} is made with")
    return data


def materials(tools: Tools) -> Iterator[dict[str, Any]]:
    """What of llama.cpp a release was made with, as in-toto's resource descriptors."""
    names = {"convert": ("tree", "tree"), "imatrix": ("program", "program"), "evaluation": ("program", PERPLEXITY)}
    if "convert" not in tools:
        names = {"mmproj": ("tree", "tree"), **names}
    for step, (key, name) in names.items():
        if step in tools:
            described = facts(tools, step)
            digest = {"sha256": described.pop(key)}
            yield {"name": f"llama.cpp/{name}", "digest": digest, "annotations": described}
