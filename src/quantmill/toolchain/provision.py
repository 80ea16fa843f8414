"""Making a llama.cpp of a tag usable: its sources, an environment for its converter, its tools."""

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from quantmill.errors import UsageError
from quantmill.host import usable_threads
from quantmill.toolchain import cmake, installed, source_tree
from quantmill.toolchain.installed import BENCH, IMATRIX, PERPLEXITY, Toolchain, program_digest
from quantmill.toolchain.source_tree import CONVERTER
from quantmill.toolchain.subprogram import ToolFailed, run

PROGRAMS = (IMATRIX, "llama-quantize")
OTHERS = (PERPLEXITY, BENCH)  # which ready tools may lack
REQUIREMENTS = ("requirements/requirements-convert_hf_to_gguf.txt", "requirements.txt")
CMAKE = ("BUILD_SHARED_LIBS=OFF",)
LOG = "cmake.log"
# Packages of the converter's environment that decide what it writes.
PACKAGES = (
    *("torch", "transformers", "numpy", "safetensors", "sentencepiece", "tokenizers", "tiktoken", "mistral-common"),
    "protobuf",
)
_VERSIONS = """
import importlib.metadata, json, platform
found = {"python": platform.python_version()}
for name in NAMES:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Wanted:
    """What a toolchain is made of: `source` is a folder, an archive or an address; `python` and `tools` are ready ones;
    `cmake` are further definitions of its build, such as GGML_CUDA=ON."""

    source: str
    converter: bool = True
    programs: bool = True
    python: Path | None = None
    tools: Path | None = None
    cmake: Sequence[str] = ()


def provision(tag: str, folder: Path, wanted: Wanted, say: Callable[[str], None]) -> Toolchain:
    """Make the toolchain of a tag in `folder`; one of the same sources keeps what is not asked for again. `say` is told
    what begins. UsageError or ToolFailed for whatever lacks."""
    _check_programs(wanted)
    with _folder(folder), tempfile.TemporaryDirectory(prefix="new-", dir=folder) as temporary:
        work = Path(temporary)
        say(f"sources from {wanted.source}")
        digest = source_tree.take(wanted.source, tag, work / "tree", work)
        found = _known(folder, tag, digest)
        if found is None:
            found = Toolchain(tag, digest, folder=folder)
            _begin(folder)
            source_tree.remove(folder / "tree")
            (work / "tree").chmod(0o755)  # a folder that is moved is written to
            (work / "tree").rename(folder / "tree")
            (folder / "tree").chmod(0o555)
        if wanted.converter:
            found = _with_converter(found, wanted.python, work, say)
        if wanted.programs:
            found = _with_tools(found, wanted, work, say)
        found.write()
        source_tree.remove(work)
        work.mkdir()  # which it takes away itself
    return found


@contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """The folder is there; where nothing came into it, it and those above that were made for it are gone again."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # it is not empty, as a rule
            for one in made:
                one.rmdir()


def _begin(folder: Path) -> None:
    """From here on, what is in the folder is not whole."""
    (folder / installed.RECORD).unlink(missing_ok=True)


def _check_programs(wanted: Wanted) -> None:
    """UsageError for what lacks, before anything is fetched."""
    if wanted.converter and wanted.python is not None and not wanted.python.is_file():
        raise UsageError(f"{wanted.python}: there is no such interpreter; give the python of a virtual environment")
    if not wanted.programs:
        return
    if wanted.tools is not None:
        lacking = [name for name in PROGRAMS if not (wanted.tools / name).is_file()]
        if lacking:
            raise UsageError(f"{wanted.tools}: there is no {lacking[0]} in it; give the folder of llama.cpp's programs")
        return
    ways = "or give built ones by --tools, or leave them out by --only converter"
    if shutil.which("cmake") is None:
        raise UsageError(f"there is no cmake to build llama.cpp's tools with; install it, {ways}")
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise UsageError(f"there is no C++ compiler to build llama.cpp's tools with; install one, {ways}")


def _known(folder: Path, tag: str, digest: str) -> Toolchain | None:
    """The toolchain that is there already, where it has the same sources."""
    try:
        found = installed.read(folder)
    except (FileNotFoundError, UsageError):
        return None
    same = (found.tag, found.tree) == (tag, digest) and source_tree.digest(found.sources) == digest
    return found if same else None


def _with_converter(found: Toolchain, python: Path | None, work: Path, say: Callable[[str], None]) -> Toolchain:
    if python is None:
        python = _environment(found, work, say)
    python = python.absolute()
    say(f"the converter's first run, by {python}")
    asked = _VERSIONS.replace("NAMES", repr(PACKAGES))
    try:
        answer = run([str(python), "-s", "-c", asked], str(python), work)
        run([str(python), "-s", "-B", str(found.sources / CONVERTER), "--help"], CONVERTER, work)
    except ToolFailed as error:
        raise UsageError(f"{python}: {error}; give an interpreter that has what the converter requires") from None
    try:
        versions = {str(name): str(version) for name, version in json.loads(answer.splitlines()[-1]).items()}
    except (ValueError, IndexError, AttributeError):
        raise UsageError(f"{python}: it does not answer as a Python does; give the python of an environment") from None
    return replace(found, python=str(python), versions=versions)


def _environment(found: Toolchain, work: Path, say: Callable[[str], None]) -> Path:
    """A virtual environment with what the sources require."""
    folder = found.folder / "venv"
    _begin(found.folder)
    shutil.rmtree(folder, ignore_errors=True)
    say("an environment for the converter, with what it requires (torch is 200 MB and more)")
    run([sys.executable, "-m", "venv", str(folder)], "python -m venv", work, apart=False)
    python = folder / "bin" / "python"
    for name in REQUIREMENTS:
        if (found.sources / name).is_file():
            command = [str(python), "-m", "pip", "install", "--no-input", "--no-cache-dir", "-r"]
            run([*command, str(found.sources / name)], f"pip install -r {name}", work, apart=False)
            return python
    raise UsageError(f"{found.sources}: it has no {REQUIREMENTS[0]}; give an interpreter by --python")


def _with_tools(found: Toolchain, wanted: Wanted, work: Path, say: Callable[[str], None]) -> Toolchain:
    tools = wanted.tools.resolve() if wanted.tools else _built(found, wanted.cmake, work, say)
    program = str(tools / IMATRIX)
    number = re.search(r"version: (\d{4,9})\b", _answer(program, "--version", work))
    if number and found.tag[0] == "b" and number[1] != found.tag[1:]:
        raise UsageError(f"{program}: it is of llama.cpp b{number[1]}, not of {found.tag}; give that one's")
    listed = _answer(program, "--list-devices", work).partition("Available devices:")[2]
    devices = re.findall(r"^\s+([A-Za-z]+)\d*:", listed, re.MULTILINE)
    backends = tuple(dict.fromkeys(devices)) or ("CPU",)
    others = {name: program_digest(tools, name) for name in OTHERS if (tools / name).is_file()}
    return replace(found, tools=str(tools), program=program_digest(tools), backends=backends, programs=others)


def _answer(program: str, option: str, work: Path) -> str:
    """What a program says of itself; nothing where it does not know the option. ToolFailed where it does not start."""
    try:
        return run([program, option], IMATRIX, work)
    except ToolFailed as error:
        if "cannot open shared object" in str(error) or "Exec format" in str(error):
            raise
        return ""


def _built(found: Toolchain, definitions: Sequence[str], work: Path, say: Callable[[str], None]) -> Path:
    """The folder of the tools, built by cmake from a copy of the sources, which some tags write to."""
    copy, build, tools = work / "sources", work / "build", found.folder / "tools"
    shutil.copytree(found.sources, copy)
    for path in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        path.chmod(0o755)
    number = [f"LLAMA_BUILD_NUMBER={found.tag[1:]}", f"BUILD_NUMBER={found.tag[1:]}"] if found.tag[0] == "b" else []
    log = found.folder / LOG
    say("its tools, by cmake (minutes)")
    cmake.build(copy, build, (*PROGRAMS, *OTHERS), (*CMAKE, *number, *definitions), usable_threads(), log)
    log.unlink()
    _begin(found.folder)
    shutil.rmtree(tools, ignore_errors=True)
    tools.mkdir()
    for name in (*PROGRAMS, *OTHERS):
        made = [path for path in (build / "bin" / name, build / name) if path.is_file()]
        if not made:
            raise ToolFailed(f"cmake made no {name} of {found.sources}; give built tools by --tools")
        shutil.copy2(made[0], tools / name)
    source_tree.remove(copy)
    return tools
