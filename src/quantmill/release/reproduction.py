"""reproduce: a release built once more from the recipe in it, apart from everything, and compared file by file."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from quantmill.artifact import Artifact
from quantmill.build.doit_tasks import run
from quantmill.build.graph import (
    EVALUATED,
    MEASURED,
    Node,
    file_name,
    given,
    graph,
    labels,
    projector_name,
    release_task,
    task,
)
from quantmill.build.release_tag import tag
from quantmill.build.reporter import Listener
from quantmill.build.step_params import imatrix_name
from quantmill.build.workspace import Workspace
from quantmill.disk import below, sha256_file, write_atomic
from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf.comparison import compare
from quantmill.listing import LISTING, read_strangers
from quantmill.network.hub import HubFile
from quantmill.recipe import lock as locks
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe, find, parse, read
from quantmill.store.local import Store
from quantmill.store.remote.signature import NAME as SIGNATURE

BENCH = "bench.json"
APART = (BENCH, SIGNATURE)  # of a machine's speed, and of who signed: not of the inputs
MISSING, EXTRA = "it is missing", "it is not made from this recipe"
SHOWN = 8  # differences of one file that are told
MARK = ".quantmill-reproduce"  # the file by which a work folder is known to be reproduce's own


def no_release(place: str, problem: str) -> UsageError:
    """What was named is no release of quantmill."""
    return UsageError(f"{place}: {problem}; name the folder of a release, its tag, or owner/name@tag of the Hub")


@dataclass(frozen=True)
class Release:
    """A release in a folder, and what it was made by.

    `tree`: the folder; of a release at the Hub, it has the small files alone
    `files`: all its paths
    `place`: what messages call it
    `published`: what the Hub lists, of a release at the Hub
    """

    tree: Path
    tag: str
    recipe: Recipe
    lock: Lock
    files: frozenset[str]
    place: str
    published: Mapping[str, HubFile] | None = None


@dataclass(frozen=True)
class FileComparison:
    """One file: `differences` in words, nothing where the bytes are equal."""

    name: str
    differences: tuple[str, ...]


def occupy(work: Path, trees: Iterable[Path]) -> None:
    """Make `work` a folder of our own: a new or an empty one is marked, one that an earlier call marked is taken up.

    UsageError for any other, and where `work` and one of `trees`, the releases to compare with, lie in each other.
    """
    place = work.resolve()
    for tree in trees:
        if place.is_relative_to(tree.resolve()) or tree.resolve().is_relative_to(place):
            raise UsageError(f"{work}: this folder and the release {tree} lie in each other; name another for --work")
    if (work / MARK).is_file():
        return
    if work.exists() and not work.is_dir():
        raise UsageError(f"{work}: this is no folder; name a new one for --work")
    if work.exists() and any(work.iterdir()):
        raise UsageError(
            f"{work}: reproduce did not make this folder, and it is not empty; name a new one for --work, "
            "or one that reproduce made"
        )
    write_atomic(work / MARK, b"quantmill reproduce builds in this folder and made all that is in it.\n")


def locate(name: str, root: Path) -> Path | None:
    """The folder of a release: `name` itself, or the one below `root`/release whose tag it is."""
    if Path(name).is_dir():
        return Path(name)
    listings = sorted((root / "release").glob(f"*/{LISTING}"))
    return next((listing.parent for listing in listings if _json(listing).get("tag") == name), None)


def load(tree: Path, beside: Path | None, root: Path) -> Release:
    """Read the release's own recipe and lock. What the recipe names by path is looked for in `beside`, else where the
    recipe of that name is below `root`, else in the release. Raises UsageError, as where a base or text
    that is found is another."""
    name = listed(tree)["recipe"]
    texts = [tree / f"{PurePosixPath(name).name}{ending}" for ending in (".toml", ".lock")]
    for path in texts:
        if not path.is_file():
            raise no_release(str(tree), f"it has no {path.name}, by which it could be built again")
    text, lock = read(texts[0]), locks.read(texts[1])
    recipe = parse((beside or _folder(name, root) or tree) / texts[0].name, text, lock.said)
    return release(tree, recipe, lock)


def release(tree: Path, recipe: Recipe, lock: Lock) -> Release:
    """The release in `tree`, which that recipe and lock are said to make. Raises UsageError."""
    listing = listed(tree)
    try:
        problem = locks.drift(recipe, lock, sha256_file)
    except UsageError:
        problem = "the base or a text that its recipe names by path is not there"
    if problem:
        raise UsageError(f"{tree}: {problem}, in {recipe.path.parent}; name the folder that has them with --beside")
    files = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    return Release(tree, listing["tag"], recipe, lock, frozenset(files | set(_names(listing["files"]))), str(tree))


def listed(tree: Path) -> Mapping[str, Any]:
    """What the release's listing says: `recipe`, `tag` and `files` are there. Raises UsageError."""
    listing = _json(tree / LISTING)
    kinds = {"recipe": str, "tag": str, "files": list}
    if not all(isinstance(listing.get(key), kind) for key, kind in kinds.items()):
        raise no_release(str(tree), f"it has no {LISTING} that tells recipe, tag and files")
    return listing


def rebuild(release: Release, work: Path, threads: int, jobs: int) -> Path:
    """The folder of the release built anew below `work`, with a store of its own. QuantmillError when that fails."""
    last = release_task(release.recipe.name)
    nodes, space = _built(release, work, threads, jobs, [last])
    return space.tree(nodes[last])


def rebuild_sample(release: Release, work: Path, threads: int, jobs: int, count: int) -> dict[str, Path]:
    """The same of `count` files of weights alone, by their names in the release; shards are one. Which they are follows
    from the release's tag, so that everybody looks at the same."""
    order = sorted(labels(release.recipe), key=lambda label: sha256(f"{release.tag} {label}".encode()).digest())
    names = [task("split", release.recipe, label) for label in order[:count]]
    nodes, space = _built(release, work, threads, jobs, names)
    found = [space.outputs(nodes[name]) or {} for name in names]
    return {name: artifact.path for outputs in found for name, artifact in outputs.items()}


def _built(
    release: Release, work: Path, threads: int, jobs: int, names: list[str]
) -> tuple[Mapping[str, Node], Workspace]:
    nodes, listener = graph(release.recipe, release.lock) | {node.name: node for node in _given(release)}, Listener()
    space = Workspace(Store(work / "cache"), work / "build", work / "release", threads, listener.hear)
    if run(nodes, space, listener, work, names, jobs):
        raise QuantmillError(f"{release.place}: building it again failed; see above")
    return nodes, space


def _given(release: Release) -> Iterator[Node]:
    """In the place of tasks: what is taken from the release and not made again. Speeds belong to whoever measured them;
    what llama.cpp's own programs made is not promised to come out the same."""
    recipe = release.recipe

    def artifact(name: str) -> Artifact | None:
        path = release.tree / name
        return Artifact(path, sha256_file(path), path.stat().st_size) if path.is_file() else None

    if recipe.bench is not None and (speeds := artifact(BENCH)):
        yield given(task("bench", recipe), {BENCH: speeds})
    whole = artifact(f"{file_name(recipe, recipe.base.type)}.gguf") if recipe.base_file else None
    if "convert" in release.lock.tools and whole:  # else, as where it is in shards, it is converted again
        yield given(task("convert", recipe), {"model.gguf": whole})
    if "imatrix" in release.lock.tools and recipe.imatrix is not None:
        matrix, report = artifact(imatrix_name(recipe)), artifact(MEASURED)
        if matrix and report:
            yield given(task("imatrix", recipe), {recipe.imatrix.output: matrix, "report.json": report})
    for type_ in recipe.projectors:
        if projector := artifact(projector_name(recipe, type_)):
            yield given(task("mmproj", recipe, type_), {"model.gguf": projector})
    if "evaluation" in release.lock.tools:
        base = artifact(f"{EVALUATED}/base.json")
        measured = {label: artifact(f"{EVALUATED}/{label}.json") for label in _measured(recipe)}
        if base and all(measured.values()):
            yield given(task("evaluate", recipe), {"evaluation.json": base})
            for label, found in measured.items():
                if found:
                    yield given(task("measure", recipe, label), {"quality.json": found})


def _measured(recipe: Recipe) -> list[str]:
    return [label for label in labels(recipe) if label != recipe.base.type]


def carried(recipe: Recipe, lock: Lock) -> list[str]:
    """The files of a release by which what llama.cpp's programs measured is taken from it."""
    found = [imatrix_name(recipe), MEASURED] if "imatrix" in lock.tools else []
    if "evaluation" in lock.tools:
        found += [f"{EVALUATED}/{label}.json" for label in ("base", *_measured(recipe))]
    return found


def compare_files(release: Release, made: Path, progress: Callable[[int, int], None]) -> Iterator[FileComparison]:
    """Each file of the release or of the one built anew, by name, with how they differ."""
    anew = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    names = sorted((release.files | anew) - set(APART))
    return compare_sample(release, {name: made / name for name in names}, progress)


def compare_sample(
    release: Release, made: Mapping[str, Path], progress: Callable[[int, int], None]
) -> Iterator[FileComparison]:
    """The files of these names, and where each lies that was built anew, with how they differ."""
    for name, path in made.items():
        if release.published is None:
            found = _differences(release.tree / name, path, progress)
        else:
            found = _from_hub(release.published.get(name), path)
        yield FileComparison(name, tuple(found))


def remark(release: Release) -> str:
    """What is to be said before the comparison: that this quantmill gives the release another tag."""
    ours = tag(release.recipe, release.lock)
    if ours == release.tag:
        return ""
    return f"this quantmill's tag of it is {ours}, not {release.tag}: its own version or a step's differs, or the texts"


def _from_hub(listed: HubFile | None, new: Path) -> list[str]:
    if listed is None or not new.is_file():
        return [MISSING if new.is_file() else EXTRA]
    if listed.describes(new):
        return []
    there = f"sha256 {listed.sha256}" if listed.sha256 else f"git object {listed.blob}"
    here = f"{new.stat().st_size}, sha256 {sha256_file(new)}"
    return [f"the Hub has {listed.size} bytes of it, {there}; built again it has {here}"]


def _differences(old: Path, new: Path, progress: Callable[[int, int], None]) -> list[str]:
    if not old.is_file() or not new.is_file():
        return [MISSING if new.is_file() else EXTRA]
    if old.stat().st_size == new.stat().st_size and sha256_file(old) == sha256_file(new):
        return []
    if old.suffix != ".gguf":
        return [_line(old.read_bytes(), new.read_bytes())]
    try:
        found = [str(difference) for difference in compare(old, new, progress=progress)]
    except QuantmillError as error:
        return [str(error)]
    return found[:SHOWN] + ([f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else [])


def _line(old: bytes, new: bytes) -> str:
    lines = zip(old.split(b"\n"), new.split(b"\n"), strict=False)
    at = next((number for number, (a, b) in enumerate(lines, 1) if a != b), None)
    return f"line {at} is the first that differs" if at else f"{len(old)} bytes, and {len(new)} when built again"


def _folder(name: str, root: Path) -> Path | None:
    try:
        return find(name, root).parent
    except UsageError:
        return None


def _names(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, Mapping) and below(name := entry.get("name")):
            yield name


def _json(path: Path) -> Mapping[str, Any]:
    data = read_strangers(path)
    return data if isinstance(data, Mapping) else {}
