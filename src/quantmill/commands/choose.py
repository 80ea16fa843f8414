"""`quantmill choose`: which file of a release to take, on this machine or another."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantmill.commands.common import positive, project, recipe_file, say, say_json, words
from quantmill.errors import UsageError
from quantmill.store.remote.settings import signing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quantmill.choose.choice import Advice, Choice
    from quantmill.choose.machine import Machine
    from quantmill.choose.shape import Shape
    from quantmill.release.remote_offer import CandidateSet

CONTEXT = 8192  # tokens; half an hour's talk, or a long file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "release", type=words, help="a recipe, a release's folder, or a Hub repository like someone/model-GGUF"
    )
    parser.add_argument("--vram", type=words, metavar="SIZE", help="graphics memory: 24GB, 2x80GB, 0 (this machine's)")
    parser.add_argument("--ram", type=words, metavar="SIZE", help="main memory (this machine's)")
    parser.add_argument(
        "--backend", type=words, metavar="NAME", help="cuda, rocm, vulkan, metal, cpu-avx2, cpu-avx512 or arm"
    )
    parser.add_argument("--context", type=positive, default=CONTEXT, metavar="N", help=f"tokens of context ({CONTEXT})")
    parser.add_argument("--goal", default="speed", choices=("speed", "quality"), help="speed, or quality")
    parser.add_argument("--flash-attention", action="store_true", help="llama.cpp is to run with -fa")
    text = "a projector lies beside the file: the release's of that type (its smallest)"
    parser.add_argument("--mmproj", nargs="?", const="", metavar="TYPE", help=text)
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.choose.choice import choose

    machine = _machine(options)
    found = _release(options.release)
    projector, size = _projector(found.projectors, options)
    advice = choose(
        found.candidates,
        found.shape,
        machine.beside(size),
        options.goal,
        options.context,
        flash=options.flash_attention,
        bench=found.bench,
    )
    audits = {"audits": list(found.audits)} if found.audits else {}
    if options.json:
        data = _data(advice, found.shape, machine, options) | audits
        say_json(data | ({"projector": {"file": projector, "bytes": size}} if projector else {}))
    else:
        say(*_lines(advice, found.shape, machine, options))
        if found.audits is not None:
            say("", *(found.audits or ["no statement of an audit lies beside the files (quantmill audit makes one)"]))
        if projector:
            from quantmill.units import size_text

            say("", f"beside it: {projector}  {size_text(size)} (--mmproj), its own buffers not counted")
    return 0


def _projector(projectors: "Mapping[str, int]", options: argparse.Namespace) -> tuple[str, int]:
    """The projector's name and bytes; an empty name where none is asked for."""
    if options.mmproj is None:
        return "", 0
    kind = options.mmproj.lower()
    fits = {name: size for name, size in projectors.items() if name.lower().endswith(f"{kind}.gguf")}
    if not fits:
        there = f"has {', '.join(projectors)}" if projectors else "has no projector (mmproj-….gguf)"
        raise UsageError(f"{options.release}: it {there}; leave out --mmproj, or name a release with one of that type")
    name = min(fits, key=lambda name: (fits[name], name))
    if not fits[name]:
        raise UsageError(f"{options.release}: the size of {name} is known once it is made (quantmill build)")
    return name, fits[name]


def _machine(options: argparse.Namespace) -> "Machine":
    from quantmill.choose.detect import detect
    from quantmill.choose.machine import GPUS, machine, memories, memory

    here = detect() if None in (options.backend, options.vram, options.ram) else None
    try:
        ram = memory(options.ram) if options.ram is not None else here.ram if here else 0
    except ValueError as error:
        raise UsageError(f"--ram: {error}") from None
    vram = memories(options.vram) if options.vram is not None else None
    backend = options.backend or (here.backend if here else "cpu-avx2")
    if options.backend is None and vram and backend not in GPUS:
        backend = "cuda"
    if options.backend is None and vram == () and backend in GPUS and here:
        from quantmill.choose.detect import processor
        from quantmill.host import PROC

        backend = processor(PROC)
    if vram is None:
        vram = here.vram if here and here.backend == backend and options.ram is None else ()
        vram = here.vram if here and here.vram and backend in GPUS and backend != "metal" else vram
    return machine(backend, vram, ram)


def _release(name: str) -> "CandidateSet":
    from quantmill.recipe.lock import path_of
    from quantmill.recipe.recipe import load
    from quantmill.release.offer import of_recipe
    from quantmill.release.remote_offer import CandidateSet, of_folder, of_hub

    path = Path(name)
    if path.is_dir():
        return of_folder(path)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not path.exists() and not name.endswith(".toml"):
        return of_hub(name, signing(project()).keys)
    if path.suffix == ".gguf" and path.is_file():
        raise UsageError(f"{name}: a model and no recipe or release; give the folder that holds it and others")
    recipe = load(recipe_file(name))
    offer = of_recipe(recipe, project())
    if offer.shape is None:
        raise UsageError(f"{path_of(recipe)}: it does not say how many layers and heads the model has; lock it again")
    projectors = {one.name: one.bytes for one in offer.projectors}
    return CandidateSet(offer.candidates, offer.shape, offer.bench, projectors=projectors)


def _lines(advice: "Advice", shape: "Shape", machine: "Machine", options: argparse.Namespace) -> list[str]:
    from quantmill.units import size_text

    memory = " + ".join(f"{amount / 1e9:.1f}" for amount in machine.vram)
    kind = "of which Metal may use" if machine.unified else "graphics memory"
    cards = f", {kind} {memory} GB" if machine.vram else ""
    lines = [
        f"{machine.backend}{cards}, main memory {machine.ram / 1e9:.1f} GB, {options.context} tokens of context, "
        f"for {options.goal}",
        "",
        f"{advice.best.file.name}  {size_text(advice.best.file.bytes)}",
        *(f"  {sentence}" for sentence in advice.why),
        f"  {_placement(advice.best, shape, machine)}",
    ]
    if shape.context and options.context > shape.context:
        lines.append(f"  The model was made for {shape.context} tokens of context.")
    if advice.next:
        lines += ["", f"next best: {advice.next.file.name}  {size_text(advice.next.file.bytes)}"]
    return lines


def _placement(choice: "Choice", shape: "Shape", machine: "Machine") -> str:
    from quantmill.units import size_text

    placement = choice.placement
    if not machine.vram or not placement.layers:
        return (
            f"All on the processor (-ngl 0): {size_text(placement.ram)} of main memory, context and buffers included."
        )
    count = "All layers" if placement.full else f"{placement.layers} of {shape.layers} layers"
    return (
        f"{count} on the GPU (-ngl {placement.layers}): {size_text(placement.vram)} there and "
        f"{size_text(placement.ram)} in main memory, context and buffers included."
    )


def _data(advice: "Advice", shape: "Shape", machine: "Machine", options: argparse.Namespace) -> dict[str, Any]:
    def of(choice: "Choice | None") -> dict[str, Any] | None:
        if choice is None:
            return None
        placement, file = choice.placement, choice.file
        return {
            "file": file.name,
            "ftype": file.ftype,
            "bytes": file.bytes,
            "gpu_layers": placement.layers,
            "full": placement.full,
            "vram_bytes": placement.vram,
            "ram_bytes": placement.ram,
        }

    return {
        "machine": {"backend": machine.backend, "vram": list(machine.vram), "ram": machine.ram},
        "goal": options.goal,
        "context": options.context,
        "layers": shape.layers,
        "choice": of(advice.best),
        "why": list(advice.why),
        "next": of(advice.next),
    }
