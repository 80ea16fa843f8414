"""The git repository that a recipe is kept in: whether what is published is committed there, its tag, and its files as
they were at a tag."""

import os
import subprocess
from pathlib import Path

from quantmill.errors import UsageError


def check(paths: list[Path]) -> bool:
    """Whether the files are in a git repository. Raises UsageError when one of them is not committed as it is."""
    folder = paths[0].absolute().parent
    if _git(folder, "rev-parse", "--is-inside-work-tree").stdout.strip() != "true":
        return False
    for path in paths:
        known = _git(folder, "ls-files", "--error-unmatch", str(path.absolute())).returncode == 0
        if not known or _git(folder, "status", "--porcelain", "--", str(path.absolute())).stdout.strip():
            raise UsageError(f"{path}: this is not committed as it is, so a tag would name another; commit it first")
    return True


def tag(folder: Path, name: str) -> bool:
    """Tag the commit that is checked out; False when the tag is there already. It is not pushed."""
    there = ("rev-parse", "-q", "--verify", f"refs/tags/{name}")
    if _git(folder, *there).returncode == 0:
        return False
    done = _git(folder, "tag", name)
    if done.returncode:
        if _git(folder, *there).returncode == 0:  # another build was first
            return False
        raise UsageError(f"{folder}: git tag {name}: {(done.stderr.strip().splitlines() or ['failed'])[0]}")
    return True


def check_out(folder: Path, name: str, into: Path) -> bool:
    """Write the files of the commit that a tag names below `into`, leaving index and work tree as they are; False when
    `folder` is in no repository with that tag."""
    commit = _git(folder, "rev-parse", "-q", "--verify", f"refs/tags/{name}^{{commit}}").stdout.strip()
    if not commit:
        return False
    top = Path(_git(folder, "rev-parse", "--show-toplevel").stdout.strip())
    into.mkdir(parents=True)
    index = str(into.absolute().with_name("index"))
    for arguments in (("read-tree", commit), ("checkout-index", "-a", f"--prefix={into.absolute()}/")):
        done = _git(top, *arguments, GIT_INDEX_FILE=index)
        if done.returncode:
            raise UsageError(
                f"{top}: git {arguments[0]} of {name}: {(done.stderr.strip().splitlines() or ['failed'])[0]}"
            )
    return True


def tags(folder: Path) -> list[str]:
    """The repository's tags; none where there is no repository."""
    return _git(folder, "tag").stdout.split()


def _git(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    known = {**os.environ, **environment}
    try:
        return subprocess.run(
            ["git", *arguments], cwd=folder, env=known, capture_output=True, text=True, errors="replace"
        )
    except FileNotFoundError:  # no git on this machine
        return subprocess.CompletedProcess(arguments, 127, "", "git is not installed")
