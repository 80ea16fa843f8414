"""`quantmill doctor`: what this machine has for the work, and what keeps it from it."""

import argparse
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from quantmill import __version__
from quantmill.commands.common import project, say, say_json
from quantmill.errors import QuantmillError, one_line, sentence
from quantmill.units import disk_text, size_text

PROGRAMS = ("git", "llama-quantize", "llama-imatrix", "llama-bench")
EXTRAS = {"sign": ("securesystemslib", "cryptography"), "dask": ("dask", "distributed", "cryptography")}


class _Line(NamedTuple):
    """One line: `state` is "ok", "none" (it is not there, and need not be) or "wrong"."""

    name: str
    state: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--json", action="store_true", help="{name, state, text} of each line")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or 1 when something is wrong."""
    found = [fact for look in LOOKS for fact in _looked(look)]
    if options.json:
        say_json([fact._asdict() for fact in found])
    else:
        marks = {"ok": "+", "none": "-", "wrong": "!"}
        say(*(f"{marks[fact.state]} {fact.name:<15} {fact.text}" for fact in found))
    return int(any(fact.state == "wrong" for fact in found))


def _looked(look: Callable[[], Iterator[_Line]]) -> Iterator[_Line]:
    """The facts of a look; what it fails at is one of them."""
    name = look.__name__.strip("_").replace("_", " ")
    try:
        yield from look()
    except QuantmillError as error:
        yield _Line(name, "wrong", one_line(str(error)))
    except OSError as error:
        yield _Line(name, "wrong", sentence(error))
    except ImportError as error:
        yield _Line(name, "wrong", one_line(str(error)))


def _quantmill() -> Iterator[_Line]:
    yield _Line("quantmill", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")


def _processor() -> Iterator[_Line]:
    from quantmill.host import cpu_name, usable_threads

    yield _Line("processor", "ok", f"{cpu_name()}, {usable_threads()} of {os.cpu_count()} threads usable")


def _kernels() -> Iterator[_Line]:
    from quantmill._kernels import forward_levels, infer_isa, isa

    others = ", ".join(level for level in forward_levels() if level != isa())
    named = "" if "QUANTMILL_ISA" not in os.environ else ", as QUANTMILL_ISA names"
    yield _Line("kernels", "ok", f"{isa()}{named} (also {others}); for bench and generate {infer_isa()}")


def _memory() -> Iterator[_Line]:
    from quantmill.host import usable_memory

    memory = usable_memory()
    yield _Line("memory", "ok", f"{size_text(memory)} usable" if memory else "not known")


def _project() -> Iterator[_Line]:
    folder = project()
    names = sorted(path.stem for path in (folder / "recipes").glob("*.toml"))
    shown = f"{len(names)} recipes" if len(names) > 5 else ", ".join(names) or "no recipe; quantmill init writes one"
    yield _Line("project", "ok" if names else "none", f"{folder}: {shown}")


def _store() -> Iterator[_Line]:
    from quantmill.store.local import store_folder

    folder = store_folder(project())
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        yield _Line("store", "wrong", f"{folder}: {there} cannot be written to; name another by QUANTMILL_CACHE")
        return
    state = "" if there == folder else ", made by the first build"
    yield _Line("store", "ok", f"{folder}{state}; {disk_text(shutil.disk_usage(there).free)} free on its disk")


def _shared_store() -> Iterator[_Line]:
    from quantmill.store.local import store_folder
    from quantmill.store.remote.client import connect
    from quantmill.store.remote.settings import find

    settings = find(project())
    if settings is None:
        yield _Line("shared store", "none", "none is named in quantmill.toml or by QUANTMILL_STORE")
        return
    shared = connect(project(), store_folder(project()), lambda *event: None)
    assert shared is not None  # for it is named
    shared.registry.refresh()
    yield _Line("shared store", "ok", f"{shared.address} answers; {len(settings.keys)} keys are believed")


def _signing_key() -> Iterator[_Line]:
    from quantmill.store.remote.settings import signing

    keys = signing(project())
    if keys.sign is None:
        yield _Line("signing key", "none", "none in quantmill.toml or QUANTMILL_SIGN; releases are unsigned")
        return
    from quantmill.store.remote.trust import Signer

    yield _Line("signing key", "ok", f"{keys.sign}, id {Signer(keys.sign, keys.keys).id[:12]}")


def _extras() -> Iterator[_Line]:
    for name, packages in EXTRAS.items():
        try:
            text = ", ".join(f"{package} {version(package)}" for package in packages)
        except PackageNotFoundError as error:
            missing = f"{error.name} is not installed; pip install 'quantmill[{name}]' adds it"
            yield _Line(f"extra {name}", "none", missing)
        else:
            yield _Line(f"extra {name}", "ok", text)


def _toolchains() -> Iterator[_Line]:
    from quantmill.toolchain.installed import RECORD, VARIABLE, place, read

    if VARIABLE in os.environ:
        found = [place("")]
        if not (found[0] / RECORD).is_file():
            yield _Line("toolchain", "wrong", f"{found[0]}: {VARIABLE} names this folder, and no {RECORD} is in it")
            return
    else:
        found = sorted(path.parent for path in place("any").parent.glob(f"*/{RECORD}"))
    for folder in found:
        made = read(folder)
        has = (
            (["converter"] if made.python else []) + (["llama-imatrix"] if made.program else []) + sorted(made.programs)
        )
        yield _Line("toolchain", "ok", f"{made.tag} in {folder}: {', '.join(has) or 'sources alone'}")
    if not found:
        yield _Line("toolchain", "none", "none, which models that our own code does not know need")


def _programs() -> Iterator[_Line]:
    for name in PROGRAMS:
        path = shutil.which(name)
        yield _Line(name, "ok" if path else "none", path or "not on PATH")


def _hub() -> Iterator[_Line]:
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.constants import ENDPOINT, HF_HUB_OFFLINE
    from huggingface_hub.errors import HfHubHTTPError

    if HF_HUB_OFFLINE:
        yield _Line("hub", "none", "HF_HUB_OFFLINE is set; nothing is asked of it")
        return
    if get_token() is None:
        yield _Line("hub", "none", f"{ENDPOINT}: not logged in; hf auth login, for private bases and publish")
        return
    try:
        name = HfApi().whoami()["name"]
    except HfHubHTTPError as error:
        yield _Line("hub", "wrong", f"{ENDPOINT}: it does not take this machine's token ({one_line(str(error))})")
    except Exception as error:  # whatever its client raises without a network
        yield _Line("hub", "wrong", f"{ENDPOINT}: it cannot be asked ({type(error).__name__})")
    else:
        yield _Line("hub", "ok", f"{ENDPOINT}: logged in as {name}")


def _cache_of_the_hub() -> Iterator[_Line]:
    from huggingface_hub.constants import HF_HUB_CACHE

    there = next(path for path in (Path(HF_HUB_CACHE), *Path(HF_HUB_CACHE).parents) if path.exists())
    yield _Line("hub's cache", "ok", f"{HF_HUB_CACHE}; {disk_text(shutil.disk_usage(there).free)} free on its disk")


LOOKS = (
    *(_quantmill, _processor, _kernels, _memory, _project, _store, _shared_store, _signing_key, _extras, _toolchains),
    *(_programs, _hub, _cache_of_the_hub),
)
