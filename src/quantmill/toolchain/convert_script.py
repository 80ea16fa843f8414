"""A model in Hugging Face layout → GGUF, by the converter of a llama.cpp."""

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from quantmill import gguf
from quantmill.errors import UsageError
from quantmill.gguf.errors import GGUFError
from quantmill.gguf.kinds import check_kind
from quantmill.toolchain import source_tree
from quantmill.toolchain.installed import Toolchain, same
from quantmill.toolchain.source_tree import CONVERTER
from quantmill.toolchain.subprogram import ToolFailed, last_words, run

INDEX = "model.safetensors.index.json"
_REGISTERED = "register("  # how a converter is told of a class
_WRITTEN = re.compile(r"Writing:\s+(\d+)%\|")


def convert(
    facts: Mapping[str, Any],
    files: Mapping[str, Path],
    out: Path,
    type_: str,
    name: str,
    work: Path,
    progress: Callable[[int, int], None],
    *,
    projector: bool = False,
) -> None:
    """Write the new file `out` of a model's files by name, as the type BF16, F16 or F32; of a
    `projector`, which is made instead of the model, also Q8_0.

    `facts` are the lock's of the toolchain; `name` is the model's, by which its folder is called; `work` is an empty
    folder. UsageError where the toolchain is not here; ToolFailed where it fails or writes what is no model.
    """
    toolchain = same(facts, "mmproj" if projector else "convert")
    if source_tree.digest(toolchain.sources) != toolchain.tree:
        raise UsageError(
            f"{toolchain.sources}: its files are not those that were taken in; make it anew: quantmill toolchain "
            f"{toolchain.tag} --from …"
        )
    called = name.rstrip("/").rpartition("/")[2]
    model = work / "model" / (called if called.strip(".") else "model")  # it names what nothing else does by its folder
    for file, path in files.items():
        place = model / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path.resolve())  # objects of the store have no names
    size = sum(path.stat().st_size for path in files.values())

    def heard(said: str) -> None:
        if found := _WRITTEN.findall(said):
            progress(size * int(found[-1]) // 100, size)

    told = f"{CONVERTER} of llama.cpp {toolchain.tag}"
    script = [toolchain.python, "-s", "-B", str(toolchain.sources / CONVERTER)]
    made = work / f"mmproj-{out.name}" if projector else out  # as some tags would call it otherwise
    command = [*script, str(model.absolute()), "--outtype", type_.lower(), "--outfile", str(made.absolute())]
    command += ["--mistral-format"] * _mistral(files) + ["--mmproj"] * projector
    said = run(command, told, work, heard)
    if not made.is_file():
        raise ToolFailed(f"{told} wrote no file: {last_words(said)}")
    _check(made, out.name, type_, told, projector)
    if projector:
        made.replace(out)
    shutil.rmtree(work)
    progress(size, size)


def unknown(toolchain: Toolchain, config: Mapping[str, Any]) -> str:
    """What a config.json says of its model that is not named in a toolchain's converter; empty where all is."""
    sources = [toolchain.sources / CONVERTER, *sorted((toolchain.sources / "conversion").glob("*.py"))]
    text = "".join(path.read_text(errors="replace") for path in sources if path.is_file())
    if _REGISTERED not in text:
        return ""

    def is_named(name: str) -> bool:
        return f'"{name}"' in text or f"'{name}'" in text

    classes = [
        _first(table.get("architectures"))
        for table in (config, config.get("text_config"))
        if isinstance(table, Mapping)
    ]
    classes = [name for name in classes if name]
    if classes and not any(map(is_named, classes)):
        return f"the class {classes[0]!r}"
    packed = config.get("quantization_config") or config.get("quantization")
    method = packed.get("quant_method") if isinstance(packed, Mapping) else None
    if packed and not is_named(str(method or "mlx")):
        return f"weights that are quantized already ({method or 'MLX'})"
    return ""


def _first(names: Any) -> str:
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""


def _mistral(files: Mapping[str, Path]) -> bool:
    """Whether a model is laid out as Mistral lays its own out."""
    others = "params.json" in files and INDEX not in files
    return others and not any(name.startswith("model") and name.endswith(".safetensors") for name in files)


def _check(path: Path, place: str, type_: str, told: str, projector: bool) -> None:
    """ToolFailed unless the file is a whole model, or a projector, of that type."""
    try:
        with gguf.read(path, place) as file:
            facts = gguf.model_facts(file.metadata.values())
            kind = (facts.get("general.type"), facts.get("general.architecture"))
            if not projector:
                check_kind(place, facts)
            elif kind[0] != "mmproj" and kind[1] != "clip":
                raise ToolFailed(f"{told} wrote what is no projector: it is a {kind[0] or kind[1] or 'nothing'}")
            types = {found.name for _, shape, found in file.tensor_entries() if len(shape) > 1}
    except GGUFError as error:
        raise ToolFailed(f"{told} wrote what is no whole model: {error}") from None
    if not facts.get("general.architecture") or not types:
        raise ToolFailed(f"{told} wrote a file without an architecture or without tensors; see what it supports")
    if type_ not in types:
        key = "[mmproj] types" if projector else "[base] type"
        raise ToolFailed(f"{told} wrote {', '.join(sorted(types))}, and {type_} was asked for; set `{key}`")
