"""Recipes as doit tasks. The only module that imports doit.

A task's target is its node's pointer and its file_dep are the pointers it reads, so doit orders, lists and cleans as it
always does; whether a task is up to date is asked of the store (`uptodate`), and its action looks in the store before
it computes, so doit's own database may be lost at any time.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from doit.doit_cmd import DoitMain
from doit.exceptions import TaskFailed
from doit.task import clean_targets

from quantmill import lock as locks
from quantmill.build import Workspace
from quantmill.errors import QuantmillError, UsageError, nearest
from quantmill.plan import Node, graph, labels, task
from quantmill.recipe import Recipe, load
from quantmill.reporter import Reporter
from quantmill.store import Store

DOCS = {
    "download": "bring the files in that the lock names",
    "convert": "make the base GGUF file of a model in Hugging Face layout",
    "preflight": "say what the imatrix and the model's shape let foresee",
    "index": "hash the base's tensors, by which files share what they quantize alike",
    "quant": "quantize the base",
    "split": "cut a file that is too large into shards",
    "verify": "check a file's structure, types, scales and digest",
    "card": "write the release's page",
    "release": "lay the release's files out, with their digests",
}
DOIT_OPTIONS = {"par_type": "thread", "backend": "sqlite3", "reporter": Reporter, "verbosity": 0}


def workspace(root: Path, threads: int | None = None) -> Workspace:
    """The workspace below `root`; QUANTMILL_CACHE names another folder for the store."""
    store = Store(Path(os.environ.get("QUANTMILL_CACHE") or root / "cache"))
    threads = threads or len(os.sched_getaffinity(0))
    return Workspace(store, root / "build", root / "release", threads, Reporter.hear)


def options(root: Path, default: list[str]) -> dict[str, Any]:
    """doit's configuration: its database below `build`, and what a bare `doit` builds."""
    (root / "build").mkdir(parents=True, exist_ok=True)
    return {**DOIT_OPTIONS, "dep_file": str(root / "build" / ".doit.db"), "default_tasks": default}


def nodes(recipe: Recipe, space: Workspace, locked: bool = False) -> dict[str, Node]:
    """The recipe's graph, by its lock, which is written first when it is missing or stale."""
    return graph(recipe, locks.current(recipe, locked, space.store.digest_of))


def tasks(recipe_nodes: Mapping[str, Node], space: Workspace) -> Iterator[dict[str, Any]]:
    """doit's tasks of one recipe's graph."""
    for node in recipe_nodes.values():
        step, _, name = node.name.partition(":")
        yield {
            "basename": step,
            "name": name,
            "doc": DOCS[node.step],
            "actions": [(_perform, [node, recipe_nodes, space])],
            "targets": [str(space.pointer(node))],
            "file_dep": sorted({str(space.pointer(recipe_nodes[edge.node])) for edge in node.edges}),
            # file_dep alone has no order
            "task_dep": list(dict.fromkeys([*node.after, *(edge.node for edge in node.edges)])),
            "uptodate": [(_up_to_date, [node, recipe_nodes, space])],
            "clean": [clean_targets, (_clean, [node, space])],
            "io": {"capture": False},
        }


def build(path: Path, root: Path, only: list[str], jobs: int, threads: int | None, locked: bool) -> int:
    """Build one recipe outside a dodo.py; the exit code of the build: 0, or 1 when a task failed."""
    from doit.cmd_base import ModuleTaskLoader

    space = workspace(root, threads)
    recipe = load(path)
    recipe_nodes = nodes(recipe, space, locked)
    wanted = [task("verify", recipe, _label(recipe, name)) for name in only] or [f"release:{recipe.name}"]
    loader = ModuleTaskLoader({"task_recipe": lambda: tasks(recipe_nodes, space)})
    main = DoitMain(loader, config_filenames=(), extra_config={"GLOBAL": options(root, wanted)})
    return 1 if main.run(["run", "-n", str(jobs), *wanted]) else 0


def _label(recipe: Recipe, name: str) -> str:
    known = {label.upper(): label for label in labels(recipe)}
    if name.upper() not in known:
        raise UsageError(f"{recipe.path}: {name} is not in its matrix{nearest(name, known)}: {' '.join(known)}")
    return known[name.upper()]


def dodo(root: Path, default: str, arguments: list[str] | None = None) -> tuple[dict[str, Any], Any]:
    """DOIT_CONFIG and the task creator for a dodo.py: the recipes of `root`/recipes that the command line names, or all
    of them when it names none but a command that lists."""
    arguments = sys.argv[1:] if arguments is None else arguments
    space = workspace(root)
    paths = {path.stem: path for path in sorted(Path(os.path.relpath(root / "recipes")).glob("*.toml"))}
    named = {word.partition(":")[2].partition("/")[0] for word in arguments if ":" in word}
    listing = any(word in ("list", "clean", "forget", "help", "tabcompletion") for word in arguments)
    chosen = paths.keys() if listing and not named else (named & paths.keys()) or {default}

    def task_recipe() -> Iterator[dict[str, Any]]:
        for name in sorted(chosen):
            try:
                yield from tasks(nodes(load(paths[name]), space), space)
            except QuantmillError as error:
                print(f"quantmill: {error}", file=sys.stderr)
                raise SystemExit(error.exit_code) from None

    return options(root, [f"release:{default}"]), task_recipe


def _perform(node: Node, recipe_nodes: Mapping[str, Node], space: Workspace) -> TaskFailed | None:
    try:
        space.perform(node, recipe_nodes)
    except QuantmillError as error:
        return TaskFailed(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return TaskFailed(f"{where}{error.strerror or error}; check the path, its rights and the room left")
    return None


def _up_to_date(node: Node, recipe_nodes: Mapping[str, Node], space: Workspace) -> bool:
    try:
        return space.up_to_date(node, recipe_nodes)
    except QuantmillError:
        return False  # the action says what is wrong


def _clean(node: Node, space: Workspace) -> None:
    space.pointer(node).with_suffix(".key").unlink(missing_ok=True)
    if node.step == "release":
        space.remove_tree(node)
