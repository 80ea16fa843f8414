"""The toolchains of this machine: where they lie, what each is made of, and which one a tag has."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quantmill.disk import read_json, sha256_file, write_atomic
from quantmill.errors import UsageError

RECORD = "toolchain.json"
VARIABLE = "QUANTMILL_LLAMA_CPP"
IMATRIX, PERPLEXITY, BENCH = "llama-imatrix", "llama-perplexity", "llama-bench"
# What serves for a step: the sources for those without a program.
PROGRAMS = {"imatrix": IMATRIX, "evaluation": PERPLEXITY, "bench": BENCH}
_FORMAT = 1
_LIBRARY = re.compile(r"lib(ggml|llama|mtmd).*\.(so|dylib)([.\d]*)")


@dataclass(frozen=True)
class Toolchain:
    """A llama.cpp of a tag, as its record says.

    `tree`: the digest of its sources
    `python`: the interpreter of its converter, empty where it has none
    `versions`: of what decides what the converter writes: the interpreter's and its packages'
    `tools`: the folder of its programs, empty where it has none
    `program`: the digest of its llama-imatrix with its libraries
    `backends`: what that computes on
    `programs`: the digests of others, by name
    """

    tag: str
    tree: str
    python: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    tools: str = ""
    program: str = ""
    backends: tuple[str, ...] = ()
    programs: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def sources(self) -> Path:
        """The folder of its sources."""
        return self.folder / "tree"

    def facts(self, step: str) -> dict[str, Any] | None:
        """What of it decides the bytes of a step: one of PROGRAMS, else one that its converter runs. None where it does
        not serve for that."""
        if step not in PROGRAMS:
            found = {"llama_cpp": self.tag, "tree": self.tree, "versions": dict(self.versions)}
            return found if self.python else None
        digest = self.program if step == "imatrix" else self.programs.get(PROGRAMS[step], "")
        found = {"llama_cpp": self.tag, "program": digest, "backends": list(self.backends)}
        return found if self.tools and digest else None

    def write(self) -> None:
        """Write its record, with which it is usable."""
        data = {"format": _FORMAT, **asdict(self)}
        del data["folder"]
        write_atomic(self.folder / RECORD, (json.dumps(data, indent=1) + "\n").encode())


def place(tag: str) -> Path:
    """The folder of a tag's toolchain: the one that QUANTMILL_LLAMA_CPP names, else below the user's cache."""
    if named := os.environ.get(VARIABLE):
        return Path(named).absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache.absolute() / "quantmill" / "llama.cpp" / tag


def find(tag: str) -> Toolchain | None:
    """The toolchain of a tag on this machine; None where there is none. UsageError where its record cannot be read."""
    folder = place(tag)
    try:
        found = read(folder)
    except FileNotFoundError:
        if os.environ.get(VARIABLE):
            raise UsageError(
                f"{folder}: {VARIABLE} names this folder, and there is no {RECORD} in it; name one that "
                f"quantmill toolchain {tag} --to made"
            ) from None
        return None
    if found.tag != tag:
        raise UsageError(f"{folder}: it has llama.cpp {found.tag}, and {tag} is wanted; name another by {VARIABLE}")
    return found


def needed(tag: str, step: str) -> Toolchain:
    """The toolchain of a tag that serves for a step; UsageError where there is none."""
    found = find(tag)
    what = "tools" if step == "imatrix" else PROGRAMS.get(step, "converter")
    if found is None or found.facts(step) is None:
        lacks = f"there is no llama.cpp {tag}" if found is None else f"llama.cpp {tag} has no {what}"
        raise UsageError(f"{lacks} on this machine; make it usable: quantmill toolchain {tag} --from DIR|ARCHIVE|URL")
    return found


def same(facts: Mapping[str, Any], step: str) -> Toolchain:
    """The toolchain that `facts`, of a lock, are those of. UsageError where this machine has another or none."""
    tag = str(facts["llama_cpp"])
    found = needed(tag, step)
    if found.facts(step) != facts:
        raise UsageError(
            f"{found.folder}: its llama.cpp {tag} is another than the lock's: {differences(facts, found, step)}; take "
            "that one, or lock the recipe anew (quantmill lock)"
        )
    return found


def program(facts: Mapping[str, Any], step: str) -> Path:
    """The program of a step in the toolchain that `facts`, of a lock, are those of. UsageError where this machine has
    another or none."""
    toolchain, name = same(facts, step), PROGRAMS[step]
    tools = Path(toolchain.tools)
    if not (tools / name).is_file() or program_digest(tools, name) != facts["program"]:
        raise UsageError(
            f"{tools}: its {name} is gone or another than was taken in; make it anew: quantmill toolchain "
            f"{toolchain.tag} --from …"
        )
    return tools / name


def differences(facts: Mapping[str, Any], toolchain: Toolchain, step: str) -> str:
    """In what a toolchain differs from a lock's facts, in words."""
    own = toolchain.facts(step) or {}
    names = [name for name in {**facts, **own} if facts.get(name) != own.get(name)]
    return ", ".join(f"{name} {_shown(facts.get(name))} → {_shown(own.get(name))}" for name in names)


def read(folder: Path) -> Toolchain:
    """The toolchain in a folder. FileNotFoundError where it has no record, UsageError for one that is none."""
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(path)
    data = read_json(path)
    kinds = {"tag": str, "tree": str, "python": str, "versions": dict, "tools": str, "program": str, "backends": list}
    whole = isinstance(data, dict) and data.get("format") == _FORMAT
    if not whole or not all(isinstance(data.get(name), kind) for name, kind in kinds.items()):
        raise UsageError(f"{path}: not a toolchain's record; make it anew: quantmill toolchain TAG --from …")
    programs = data.get("programs", {})
    if not isinstance(programs, dict) or not all(isinstance(digest, str) for digest in programs.values()):
        raise UsageError(f"{path}: not a toolchain's record; make it anew: quantmill toolchain TAG --from …")
    values = {name: data[name] for name in kinds} | {"programs": programs}
    return Toolchain(**values | {"backends": tuple(map(str, data["backends"])), "folder": folder})


def program_digest(tools: Path, name: str = IMATRIX) -> str:
    """The identity of a program in a folder: sha256 over it and over llama.cpp's libraries beside it."""
    beside = [path for near in (tools, tools.parent / "lib") if near.is_dir() for path in near.iterdir()]
    libraries = [path for path in beside if not path.is_symlink() and _LIBRARY.fullmatch(path.name)]
    whole = hashlib.sha256(sha256_file(tools / name).encode())
    for path in sorted(libraries, key=lambda path: path.name):
        whole.update(f"{sha256_file(path)}  {path.name}\n".encode())
    return whole.hexdigest()


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return f"{text[:8]}…" if re.fullmatch(r"[0-9a-f]{64}", text) else text
