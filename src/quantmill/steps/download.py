"""download: bring the base's files in, each with the digest that the lock gives it."""

import hashlib
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

from quantmill.artifact import Artifact, Context
from quantmill.disk import sha256_file
from quantmill.errors import QuantmillError
from quantmill.steps.step import Cost, Estimates, Inputs, Step, Task

CHUNK = 4 << 20
HELD = "held/"
PARTS = ".part"  # below the output folder while the step runs: what has arrived of files that are not whole yet


class Fact(TypedDict):
    """What a file must be."""

    sha256: str
    size: int


class Params(TypedDict, total=False):
    """`files`: what to bring, by name. No part of the key: `urls`, address by name; `repo` and `commit` of the Hub."""

    files: Mapping[str, Fact]
    urls: Mapping[str, str]
    repo: str
    commit: str


def wrong_file(where: str, name: str, expected: str, found: str) -> QuantmillError:
    """The error of a file that is not the one that the lock names, or that the recipe does, of a ready imatrix."""
    if name.startswith("imatrix."):
        return QuantmillError(
            f"{where}: it has sha256 {found[:16]}…, imatrix.sha256 of the recipe is {expected[:16]}…; "
            "restore the file, or write its own"
        )
    return QuantmillError(
        f"{where}: {name} has sha256 {found[:16]}…, the lock says {expected[:16]}…; "
        "restore the file, or run 'quantmill lock' to accept it"
    )


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> Mapping[str, Artifact]:
    """Write every file of `params["files"]` (name → sha256, size) to `out`.

    An input `held/<name>` is that file already, and is returned as an output without a copy. A file that `inputs`
    holds as `<name>` is copied from there. The others come from their address in `params["urls"]`, or from the Hub
    repository `params["repo"]` at `params["commit"]`, after what an earlier run left in `out`.

    Raises QuantmillError when content differs from the lock.
    """
    files = params["files"]
    held = {name: inputs[HELD + name] for name in files if HELD + name in inputs}
    _remove_strangers(out, set(files) - set(held))
    report = _Progress(context.progress, sum(fact["size"] for fact in files.values()))
    for name, fact in sorted(files.items()):
        (out / name).parent.mkdir(exist_ok=True)  # a file may be in a folder of the base's
        if name in held:
            report.advance(fact["size"])
        elif name in inputs:
            _bring(inputs[name].path, out / name, name, fact["sha256"], report)
        elif name in params.get("urls", {}):
            _fetch_address(params["urls"][name], name, fact, out, report)
        else:
            _fetch(params["repo"], params["commit"], name, fact, out, report)
    shutil.rmtree(out / PARTS, ignore_errors=True)
    return held


class _Progress:
    def __init__(self, report: Callable[[int, int], None], total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def advance(self, count: int) -> None:
        self._done += count
        self._report(min(self._done, self._total), self._total)  # the imatrix's size is not in the recipe


def _remove_strangers(out: Path, expected: set[str]) -> None:
    """Everything left in `out` becomes an output, so what is not one of them goes first."""
    for path in out.iterdir():
        if path.name == PARTS or path.name in expected:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _bring(source: Path, target: Path, name: str, expected: str, report: _Progress) -> None:
    if not source.is_file():
        raise QuantmillError(f"{source}: there is no such file; put it there, or name another in the recipe")
    found = _copy(source, target, report.advance)
    if found != expected:
        target.unlink()
        raise wrong_file(str(source), name, expected, found)


def _fetch(repo: str, commit: str, name: str, fact: Fact, out: Path, report: _Progress) -> None:
    from quantmill.network.hub import cached, fetch

    expected, target = fact["sha256"], out / name
    if target.is_file() and sha256_file(target) == expected:  # whole since an earlier run
        report.advance(fact["size"])
        return
    target.unlink(missing_ok=True)
    part = out / PARTS / name
    part.parent.mkdir(parents=True, exist_ok=True)
    mine = cached(repo, name, commit)
    if mine and mine.is_file() and mine.stat().st_size == fact["size"] and _copy(mine, part) == expected:
        part.replace(target)
        report.advance(fact["size"])
        return
    while True:
        resumed = part.stat().st_size if part.is_file() else 0
        report.advance(resumed)
        fetch(repo, name, commit, part, fact["size"], report.advance)
        found = sha256_file(part)
        if found == expected:
            part.replace(target)
            return
        part.unlink()
        if not resumed:
            raise wrong_file(f"{repo} at {commit}", name, expected, found)
        report.advance(-fact["size"])  # what an earlier run left was damaged, as power loss can do: all of it again


def _fetch_address(url: str, name: str, fact: Fact, out: Path, report: _Progress) -> None:
    from quantmill.network.web import fetch

    part = out / PARTS / name
    part.parent.mkdir(parents=True, exist_ok=True)
    while True:
        resumed = part.stat().st_size if part.is_file() else 0
        report.advance(resumed)
        fetch(url, part, report.advance)
        found = sha256_file(part)
        if found == fact["sha256"]:
            part.replace(out / name)
            return
        part.unlink()
        if not resumed:
            raise wrong_file(url, name, fact["sha256"], found)
        report.advance(-fact["size"])


def _copy(source: Path, target: Path, advance: Callable[[int], None] = lambda count: None) -> str:
    digest = hashlib.sha256()
    target.unlink(missing_ok=True)  # a run killed while the store took it leaves one that cannot be written to
    with open(source, "rb") as reader, open(target, "wb") as writer:
        while chunk := reader.read(CHUNK):
            digest.update(chunk)
            writer.write(chunk)
            advance(len(chunk))
    return digest.hexdigest()


def resumes(where: Mapping[str, Any]) -> bool:
    """Whether something comes from afar."""
    return bool(where.get("repo") or where.get("urls"))


def cost(task: Task, estimates: Estimates) -> Cost:
    """Two passes of the base's bytes; texts and an imatrix are small."""
    size = estimates.base_download(task)
    return Cost(estimates.pass_seconds(2, size), size, 0 if task.files else size)


def outputs(params: Mapping[str, Any], inputs: Collection[str], found: Collection[str]) -> Collection[str]:
    """The files that are named."""
    return cast(Collection[str], params["files"])


STEP = Step(
    name="download",
    version=1,
    doc="bring the files in that the lock names",
    run=run,
    outputs=outputs,
    prefixes=("download", "calibration", "evaluation"),
    resumes=resumes,
    holds=True,
    cost=cost,
)
