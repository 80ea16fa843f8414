"""download: bring the base's files in, each with the digest that the lock gives it."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, Context
from quantmill.errors import QuantmillError

CHUNK = 4 << 20


class WrongFile(QuantmillError):
    """A base file is not the one that the lock names."""

    def __init__(self, where: str, name: str, expected: str, found: str) -> None:
        super().__init__(
            f"{where}: {name} has sha256 {found[:16]}…, the lock says {expected[:16]}…; "
            "restore the file, or run 'quantmill lock' to accept it"
        )


class MissingFile(QuantmillError):
    """A local file that the recipe names is not there."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where}: there is no such file; put it there, or name another in the recipe")


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write every file of `params["files"]` (name → sha256, size) to `out`.

    A file that `inputs` holds is copied from there; the others come from the Hub repository `params["repo"]` at
    `params["commit"]`, resuming what an earlier run left in `out`. WrongFile when content differs from the lock.
    """
    files: Mapping[str, Any] = params["files"]
    total = sum(fact["size"] for fact in files.values())
    done = 0
    for name, fact in sorted(files.items()):
        if name in inputs:
            where = str(inputs[name].path)
            if not inputs[name].path.is_file():
                raise MissingFile(where)
            found = _copy(inputs[name].path, out / name)
        else:
            from quantmill.hub import fetch_file

            where = f"{params['repo']} at {params['commit']}"
            found = _sha256(fetch_file(params["repo"], name, params["commit"], out))
        if found != fact["sha256"]:
            (out / name).unlink()
            raise WrongFile(where, name, fact["sha256"], found)
        done += fact["size"]
        context.progress(done, total)
    shutil.rmtree(out / ".cache", ignore_errors=True)  # huggingface_hub's notes on its downloads


def _copy(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with open(source, "rb") as reader, open(target, "wb") as writer:
        while chunk := reader.read(CHUNK):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
