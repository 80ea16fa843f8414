"""A release by its tag alone: its recipe and lock as git or the Hub keep them, its files as the Hub lists them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from quantmill.build.release_tag import tag as tag_of
from quantmill.errors import QuantmillError, UsageError, built, nearest
from quantmill.listing import LISTING, SUMS
from quantmill.network.hub import HubError, HubFile, NoSuchRepository, NoSuchRevision, fetch_head, list_files
from quantmill.recipe import git
from quantmill.recipe import lock as locks
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe, parse, read
from quantmill.release.reproduction import BENCH, Release, carried, listed, load, no_release, release
from quantmill.store.remote.signature import NAME as SIGNATURE
from quantmill.store.remote.signature import STATEMENT

MATRIX_LIMIT = 1 << 30  # bytes of an importance matrix, of which the largest known have a third
SMALL = (LISTING, BENCH, STATEMENT, SIGNATURE)  # what is fetched of a release to tell whose it is
UNLISTED = (LISTING, SUMS, STATEMENT)
LIMIT = 10_000_000  # bytes of a file that is fetched to be read


def not_published(repo: str, tag: str, problem: str) -> UsageError:
    """There is nothing at the Hub to compare with."""
    return UsageError(f"{repo} at {tag}: {problem}; name a folder with the release, by --against for a git tag")


def from_hub(repo: str, tag: str, beside: Path | None, root: Path, inputs: Path) -> Release:
    """The release that a tag of a Hub repository names, by the recipe and lock there, which go to the empty folder
    `inputs`. Raises UsageError, a HubError, and as `load` does."""
    tree = _new(inputs / "published")
    found = _published(repo, tag, tree)
    name = PurePosixPath(listed(tree)["recipe"]).name
    _fetch(repo, found, tree, (f"{name}.toml", f"{name}.lock"))
    made = load(tree, beside, root)
    _fetch(repo, found, tree, tuple(carried(made.recipe, made.lock)), MATRIX_LIMIT)
    return _with_files(made, repo, tag, found[1])


def from_git(tag: str, beside: Path | None, against: Path | None, root: Path, inputs: Path) -> Release:
    """The release that a git tag of the repository around `root` names, by the recipe and lock of its commit: in the
    folder `against`, or at the Hub where the recipe says. The commit's files go to the empty folder `inputs`.

    Raises UsageError where there is no such tag, and as `from_hub` does.
    """
    into = inputs / "tagged"
    if not git.check_out(root, tag, into):
        close = nearest(tag, git.tags(root)) or built(tag)
        raise no_release(tag, f"there is no such folder, release below release/ or git tag here{close}")
    recipe, lock = _made_by(into, tag)
    if beside is not None:
        recipe = parse(beside / recipe.path.name, read(recipe.path), lock.said)
    if against is not None:
        return release(against, recipe, lock)
    if recipe.repo is None:
        raise not_published(recipe.name, tag, "its recipe names no Hub repository")
    tree = _new(inputs / "published")
    found = _published(recipe.repo, tag, tree)
    _fetch(recipe.repo, found, tree, tuple(carried(recipe, lock)), MATRIX_LIMIT)
    return _with_files(release(tree, recipe, lock), recipe.repo, tag, found[1])


def _made_by(folder: Path, tag: str) -> tuple[Recipe, Lock]:
    """The recipe and lock below `folder` that make the tag; or the only ones of its llama.cpp, where another version of
    quantmill made it."""
    found = list(_recipes(folder))
    exact = [both for both in found if tag_of(*both) == tag]
    like = [both for both in found if both[0].llama_cpp == tag.rpartition("-")[0]]
    if not exact and len(like) != 1:
        names = ", ".join(sorted(recipe.name for recipe, _ in like)) or "none is of that llama.cpp"
        raise no_release(
            tag, f"the git tag is there, but no recipe of its commit makes it with this quantmill ({names})"
        )
    return (exact or like)[0]


def _recipes(folder: Path) -> Iterator[tuple[Recipe, Lock]]:
    for path in sorted(folder.rglob("*.lock")):
        recipe = path.with_suffix(".toml")
        if recipe.is_file():
            try:
                lock = locks.read(path)
                yield parse(recipe, read(recipe), lock.said), lock
            except QuantmillError:  # another program's
                continue


def _published(repo: str, tag: str, tree: Path) -> tuple[str, Mapping[str, HubFile]]:
    """The commit that the tag names at the Hub, and all files there; the small ones are fetched to `tree`."""
    try:
        found = list_files(repo, tag, recursive=True)
    except NoSuchRepository:
        raise not_published(repo, tag, "the Hub shows no such repository") from None
    except NoSuchRevision as error:
        raise not_published(repo, tag, f"the repository has no such tag{nearest(tag, error.known)}") from None
    _fetch(repo, found, tree, SMALL)
    if not (tree / LISTING).is_file():
        raise not_published(repo, tag, f"it has no {LISTING}, so it is no release of quantmill")
    return found


def _fetch(
    repo: str, found: tuple[str, Mapping[str, HubFile]], tree: Path, names: tuple[str, ...], most: int = LIMIT
) -> None:
    commit, files = found
    for name in names:
        if name in files and files[name].size <= most:
            (tree / name).parent.mkdir(exist_ok=True)
            (tree / name).write_bytes(fetch_head(repo, name, commit, files[name].size))
            if not files[name].describes(tree / name):
                raise HubError(repo, commit, f"{name} arrives with other content than the Hub lists; try again later")


def _with_files(found: Release, repo: str, tag: str, files: Mapping[str, HubFile]) -> Release:
    """The release as the Hub has it: what its listing names and what is ours beside that, nothing else there."""
    if found.tag != tag:
        raise not_published(repo, tag, f"its {LISTING} says that it is {found.tag}")
    names = {entry["name"] for entry in listed(found.tree)["files"]} | set(UNLISTED)
    return replace(found, files=frozenset(names), place=f"{repo} at {tag}", published=files)


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder
