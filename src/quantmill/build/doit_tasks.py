"""Recipes as doit tasks. The only module that imports doit.

A task's target is its node's pointer and its file_dep are the pointers it reads, so doit orders, lists and cleans as
it always does. Whether a task is up to date is asked of the store (`uptodate`). Its action looks in the store before
it computes, so doit's own database may be lost at any time.
"""

import gc
import inspect
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from doit.dependency import DatabaseException, DependencyStatus, SqliteDB
from doit.doit_cmd import DoitMain
from doit.exceptions import TaskFailed
from doit.globals import Globals
from doit.task import clean_targets

from quantmill import interrupt
from quantmill.build.doit_call import DoitCall, no_task
from quantmill.build.graph import Node, graph, labels, release_task, targets
from quantmill.build.last_look import last_look
from quantmill.build.local.clearing import Clearing
from quantmill.build.opening import open_workspace
from quantmill.build.reporter import Listener
from quantmill.build.workspace import Workspace
from quantmill.build.worth import Estimate, Worths
from quantmill.disk import make_way, names_in, parse_json
from quantmill.errors import QuantmillError, UsageError, nearest, one_line, sentence
from quantmill.recipe import lock as locks
from quantmill.recipe.recipe import Recipe, load

ROWS = 500  # that one query asks SQLite for; it takes 999 parameters at least


def workspace(
    root: Path, threads: int | None = None, estimate: Estimate | None = None
) -> tuple[Workspace, Listener]:
    """The workspace below `root`, and who hears of what happens in it. `estimate`: by which it is told for how long a
    shared store is waited for."""
    listener = Listener()
    space = replace(open_workspace(root, threads, report=listener.hear), worths=Worths(estimate))
    listener.releases = os.path.relpath(space.release)
    listener.look, listener.notes = partial(last_look, space), space.store.notes
    if space.store.remote:
        listener.flush, listener.wrong = space.store.remote.flush, space.store.remote.conflicts.values
    return space, listener


def options(root: Path, default: list[str], listener: Listener, looking: bool = False) -> dict[str, Any]:
    """doit's configuration: its database below `build`, who tells of a run, and what a bare `doit` builds. Where there is
    no database, a command that only looks makes none."""
    database = root / "build" / ".doit.db"
    if looking and not database.exists():
        return _configuration(":memory:", default, listener)
    database.parent.mkdir(parents=True, exist_ok=True)
    if database.is_dir() or (database.is_symlink() and not database.exists()):
        make_way(database)
    if not _sound(database):  # a power cut, say; doit begins another
        database.unlink()
    return _configuration(str(database), default, listener)


def _configuration(database: str, default: list[str], listener: Listener) -> dict[str, Any]:
    return {
        "par_type": "thread",
        "backend": "sqlite3",
        "reporter": listener.reporter(),
        "verbosity": 0,
        "dep_file": database,
        "default_tasks": default,
    }


def _forgiving(method: Callable[..., Any], instead: Callable[[], Any] = lambda: None) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return method(*arguments, **named)
        except (sqlite3.Error, DatabaseException, OSError):
            return instead()

    return call


def _forgive_database() -> None:
    """Of the database that doit has opened for this run, and of the pointers that it looks at. They decide nothing
    here. What cannot be read or written, for a disk is full, read-only or broken, costs a look into the store; doit
    would end the run with a traceback, before its failures are told."""
    manager: Any = Globals.dep_manager
    if manager is not None:  # none yet where somebody only asks for the tasks
        backend = manager.backend
        backend.dump = _forgiving(backend.dump)
        backend._get_task_data = _forgiving(backend._get_task_data, dict)
        manager.remove = _forgiving(manager.remove)
        manager.save_success = _forgiving(manager.save_success)
        manager.get_status = _forgiving(manager.get_status, _to_run)


def _to_run() -> DependencyStatus:
    status = DependencyStatus(False)
    status.status = "run"
    return status


def _open_forgiving(backend: SqliteDB, name: str) -> Any:
    try:
        return _open(backend, name)
    except (sqlite3.Error, DatabaseException):  # it was sound a moment ago
        return _open(backend, ":memory:")


_open = SqliteDB._sqlite3
SqliteDB._sqlite3 = _open_forgiving


@_forgiving
def _read_database(names: Sequence[str]) -> None:
    """All that doit's database holds of some tasks, at once. doit would lock the file and let it go for each. What is
    damaged in it is nothing; doit would end with a traceback, each time."""
    if Globals.dep_manager is None:
        return
    backend: Any = Globals.dep_manager.backend
    for some in (names[i : i + ROWS] for i in range(0, len(names), ROWS)):
        places = ",".join("?" * len(some))
        asked = f"select task_id, cast(task_data as blob) as data from doit where task_id in ({places})"
        for row in backend._conn.execute(asked, some):
            found = parse_json(row["data"] or b"")
            backend._cache[row["task_id"]] = found if isinstance(found, dict) else {}


def nodes(recipe: Recipe, space: Workspace, locked: bool = False) -> dict[str, Node]:
    """The recipe's graph, by its lock, which is written first when it is missing or stale."""
    space.store.hints.remembers |= not locked  # else it may only be refused
    lock = locks.current(recipe, locked, space.store.hints.digest_of)
    space.worths.know(recipe, lock)
    return graph(recipe, lock)


def wanted(recipe: Recipe, only: list[str]) -> list[str]:
    """The tasks of a build: those of the files named, else the release."""
    return targets(recipe, [label(recipe, name) for name in only])


def _sound(database: Path) -> bool:
    """Whether doit will be able to use its database."""
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("create table if not exists quantmill (unused)")  # is there room for a table?
            return bool(connection.execute("pragma quick_check").fetchone() == ("ok",))
    except sqlite3.OperationalError as error:
        if "locked" in str(error):  # another build is just writing to it
            return True
        raise QuantmillError(f"{database}: {error}; check the path, its rights and the room left") from None
    except sqlite3.DatabaseError:
        return False


def known_nodes(recipe: Recipe, space: Workspace) -> dict[str, Node]:
    """The recipe's graph as far as it is known: nothing is asked of the network, and no lock is written."""
    if recipe.base.repo is not None:
        return graph(recipe, locks.load(recipe) or locks.Lock({}, {}, None))
    return graph(recipe, locks.peek(recipe, space.store.hints.digest_of))


def tasks(
    recipe_nodes: Mapping[str, Node], space: Workspace, clearing: Clearing | None = None
) -> Iterator[dict[str, Any]]:
    """doit's tasks of one recipe's graph; `clearing` hears of each that runs."""
    _read_database(list(recipe_nodes))
    pointers = {name: space.pointer_name(node) for name, node in recipe_nodes.items()}
    for node in recipe_nodes.values():
        step, _, name = node.name.partition(":")
        yield {
            "basename": step,
            "name": name,
            "doc": node.step.doc,
            "actions": [(_perform, [node, recipe_nodes, space, clearing])],
            "targets": [pointers[node.name]],
            "file_dep": sorted({pointers[edge.node] for edge in node.edges}),
            # file_dep alone has no order
            "task_dep": list(dict.fromkeys([*node.after, *(edge.node for edge in node.edges)])),
            "uptodate": [_UpToDate(node, recipe_nodes, space)],
            "clean": [clean_targets, (_clean, [node, space])],
            "io": {"capture": False},
        }


def run(
    recipe_nodes: Mapping[str, Node],
    space: Workspace,
    listener: Listener,
    root: Path,
    names: list[str],
    jobs: int,
    clearing: Clearing | None = None,
) -> int:
    """Have doit run the tasks of those names; the exit code of the build. `listener` hears of what happens."""
    from doit.cmd_base import ModuleTaskLoader

    def task_recipe() -> Iterator[dict[str, Any]]:
        _forgive_database()
        yield from tasks(recipe_nodes, space, clearing)

    loader = ModuleTaskLoader({"task_recipe": task_recipe})
    main = DoitMain(loader, config_filenames=(), extra_config={"GLOBAL": options(root, names, listener)})
    failed = main.run(["run", "-n", str(jobs), *names])
    return listener.code() or int(bool(failed))


def seconds(recipes: Iterable[Recipe], estimate: Estimate | None) -> dict[str, float]:
    """What each task is thought to take, in seconds of one thread; nothing where nobody tells."""
    found: dict[str, float] = {}
    for recipe in recipes:
        if estimate and (lock := locks.load(recipe)):
            estimates = estimate(recipe, lock)
            found |= {name: node.step.cost(node, estimates).seconds for name, node in graph(recipe, lock).items()}
    return found


def label(recipe: Recipe, name: str) -> str:
    """The label of the file that a person calls so; UsageError where there is none."""
    known = {label.upper(): label for label in labels(recipe)}
    if name.upper() not in known:
        raise UsageError(f"{recipe.path}: {name} is not in its matrix{nearest(name, known.values())}: {' '.join(known.values())}")
    return known[name.upper()]


def dodo(
    root: Path, default: str, arguments: list[str] | None = None, estimate: Estimate | None = None
) -> tuple[dict[str, Any], Any]:
    """DOIT_CONFIG and the task creator for a dodo.py: the recipes of `root`/recipes that the command line names, or all
    of them when it names none but a command that looks. Ends the program where they cannot be used. `estimate`,
    quantmill.forecast.estimates, tells what tasks are thought to take: how long a build will be, and for how long a
    shared store is waited for."""

    def end() -> None:  # doit knows of failed tasks alone, and ends with 1
        if code := listener.code():
            raise SystemExit(code)

    gc.disable()  # the tasks of many recipes are many objects, none of them garbage; a step that runs enables it
    if arguments is None:  # doit's own process
        interrupt.heed()
        arguments = sys.argv[1:]
    sys.excepthook = _interrupted
    try:
        space, listener = workspace(root, estimate=estimate)
    except QuantmillError as error:  # quantmill.toml
        _tell(error)
        raise SystemExit(_code(error)) from None
    listener.end = end
    folder = Path(os.path.relpath(root / "recipes"))
    paths = {path.stem: path for path in _recipes(folder)}
    call = DoitCall.parse(arguments)
    looking, named = bool(call.looking), call.named(paths, default)
    if looking:  # doit shows a traceback where the reader of its list leaves
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    chosen = named or paths.keys()

    read: list[Recipe] = []
    listener.seconds = lambda: seconds(read, estimate)

    def task_recipe() -> Iterator[dict[str, Any]]:
        _forgive_database()
        made: list[str] = []
        pointers: list[str] = []
        for name in sorted(chosen):
            try:
                if name not in paths:
                    raise UsageError(f"{folder}/{name}.toml: there is no such recipe{nearest(name, paths)}")
                recipe = load(paths[name])
                read.append(recipe)
                found = known_nodes(recipe, space) if looking else nodes(recipe, space)
                for word, of in call.recipes.items():
                    if of == name and "*" not in word and word not in found:
                        raise no_task(word, found)
            except (QuantmillError, OSError, ImportError) as error:
                _tell(error)
                if looking and not named:
                    continue
                raise SystemExit(_code(error)) from None
            made += found
            pointers += map(space.pointer_name, found.values())
            yield from tasks(found, space)
        try:
            call.check(made, pointers)
        except UsageError as error:
            _tell(error)
            raise SystemExit(error.exit_code) from None

    try:
        return options(root, [release_task(default)], listener, looking), task_recipe
    except (QuantmillError, OSError) as error:
        _tell(error)
        raise SystemExit(_code(error)) from None


def _recipes(folder: Path) -> list[Path]:
    """The recipes of a folder, by name. Ends the program where it cannot be read."""
    try:
        return [folder / name for name in names_in(folder) if name.endswith(".toml") and (folder / name).is_file()]
    except OSError as error:
        _tell(error)
        raise SystemExit(1) from None


def _tell(error: QuantmillError | OSError | ImportError) -> None:
    print(f"quantmill: {sentence(error) if isinstance(error, OSError) else error}", file=sys.stderr)


def _code(error: Exception) -> int:
    return error.exit_code if isinstance(error, QuantmillError) else 1


def _interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's hook for errors that nobody caught: one sentence for Ctrl-C."""
    if issubclass(kind, KeyboardInterrupt):
        interrupt.leave()
    else:
        sys.__excepthook__(kind, error, trace)


def _failed(error: Exception, message: str) -> TaskFailed:
    """A task's failure, with the exit code of its error."""
    failed = TaskFailed(message)
    failed.exit_code = _code(error)
    return failed


def _perform(
    node: Node, recipe_nodes: Mapping[str, Node], space: Workspace, clearing: Clearing | None
) -> TaskFailed | None:
    gc.enable()
    try:
        if clearing:
            clearing.begin(node, space)
        space.perform(node, recipe_nodes)
        space.brought[node.name] = recipe_nodes
        if clearing:
            clearing.end(node, space)
    except QuantmillError as error:
        return _failed(error, str(error))
    except OSError as error:
        return _failed(error, sentence(error))
    except ImportError as error:  # the kernels, of a level that this machine does not run
        return _failed(error, one_line(str(error)))
    return None


@dataclass(frozen=True, slots=True, repr=False)
class _UpToDate:
    """What doit asks whether a task is up to date."""

    # doit looks at the signature of whatever it calls, each time, which takes as long as the answer: it is given here
    __signature__: ClassVar[inspect.Signature] = inspect.Signature()
    node: Node
    nodes: Mapping[str, Node]
    space: Workspace

    def __call__(self) -> bool:
        try:
            if found := self.space.up_to_date(self.node, self.nodes):
                self.space.same.add(self.node.name)
            return found
        except (QuantmillError, OSError):
            return False  # the action says what is wrong

    def __repr__(self) -> str:  # `doit info` shows it
        return f"what the store has recorded for {self.node.name}"


def _clean(node: Node, space: Workspace) -> None:
    space.pointer(node).with_suffix(".key").unlink(missing_ok=True)
    if node.step.lays_out:
        space.remove_tree(node)
