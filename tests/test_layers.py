"""The arrows of docs/design.md: which part of quantmill may import which."""

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import quantmill

PACKAGE = Path(quantmill.__file__).parent if quantmill.__file__ else Path()
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = Path(__file__).parent
KERNEL_SOURCES = TESTS.parent / "kernels"
MOST_FILES = 25
GROUND = {
    "artifact",
    "disk",
    "errors",
    "host",
    "interrupt",
    "listing",
    "output_file",
    "released",
    "statistics",
    "units",
}
# A room and those that it may use, beside the ground; each stands below all that it uses.
ROOMS: dict[str, set[str]] = {
    "network": set(),
    "gguf": set(),
    "reference": {"gguf"},
    "toolchain": {"gguf", "network"},
    "store": set(),
    "architectures": {"gguf", "reference"},
    "vocabulary": {"architectures", "gguf", "reference"},
    "checkpoint": {"architectures", "gguf", "reference", "vocabulary"},
    "imatrix": {"gguf", "reference"},
    "quant": {"gguf", "imatrix", "reference", "store"},
    "admission": {"gguf", "imatrix", "quant", "reference", "toolchain"},
    "engine": {"architectures", "checkpoint", "gguf", "imatrix", "reference", "vocabulary"},
    "runtime": {"architectures", "gguf", "reference", "vocabulary"},
    "quality": {"engine", "gguf"},
    "mix_search": {"engine", "gguf", "quant", "reference"},
    "choose": {"gguf"},
    "card": {"choose", "reference"},
    "recipe": {"architectures", "checkpoint", "choose", "gguf", "network", "reference", "store", "toolchain"},
    "audit": {
        *("architectures", "checkpoint", "engine", "gguf", "imatrix", "network", "quant", "recipe", "reference"),
    },
    "steps": {
        *("architectures", "card", "checkpoint", "choose", "engine", "gguf", "imatrix", "mix_search", "network"),
        *("quality", "quant", "reference", "runtime", "store", "toolchain", "vocabulary"),
    },
    "build": {"recipe", "reference", "steps", "store"},
    "forecast": {
        "architectures",
        "build",
        "checkpoint",
        "choose",
        "engine",
        "gguf",
        "imatrix",
        "mix_search",
        "quant",
        "recipe",
        "reference",
        "steps",
        "vocabulary",
    },
    "release": {
        *("build", "choose", "forecast", "gguf", "network", "quant", "recipe", "reference", "store"),
    },
    "distributed": {"build", "forecast", "gguf", "quant", "recipe", "reference", "steps", "store"},
}
# Who calls C++.
KERNELS = {"host", "quant", "audit", "engine", "runtime", "quality", "mix_search", "steps", "forecast", "commands"}
HEAVY = {"numpy", "gguf", "rich", "huggingface_hub", "tokenizers", "jinja2"}


def room(path: Path) -> str:
    """A file's room; of a file in the root, its own name."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path: Path, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "quantmill":
                found |= {f"quantmill.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    own = room(path)
    used = {name.split(".")[1] for name in imports(path) if name.startswith("quantmill.")} - {own, "__version__"}
    assert "_kernels" not in used or own in KERNELS
    if own in ("cli", "commands", "__init__"):  # the top, which may use everything
        return
    assert used - {"_kernels"} <= ({"errors"} if own in GROUND else ROOMS[own] | GROUND)


def test_every_room_stands_below_those_that_it_uses() -> None:
    below: set[str] = set()
    for name, used in ROOMS.items():
        assert used <= below, name
        below.add(name)


def test_the_root_holds_the_ground_alone_and_no_folder_is_crowded() -> None:
    assert {path.stem for path in SOURCES if path.parent == PACKAGE} == GROUND | {"__init__", "cli"}
    assert {room(path) for path in SOURCES} == GROUND | ROOMS.keys() | {"__init__", "cli", "commands"}
    folders = Counter(path.parent for path in (*SOURCES, *TESTS.rglob("*.py"), *KERNEL_SOURCES.rglob("*.*")))
    assert max(folders.values()) <= MOST_FILES, folders.most_common(3)


def test_no_files_import_each_other_in_a_circle() -> None:
    def name(path: Path) -> str:
        return ".".join(("quantmill", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")

    def names(node: ast.AST) -> set[str]:
        if isinstance(node, ast.Import):
            return {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            return {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        return set()

    known = {name(path): set().union(*map(names, ast.walk(ast.parse(path.read_text())))) for path in SOURCES}
    # A package's face hands on its files' names, which the files themselves take from each other.
    faces = {name(path) for path in SOURCES if path.name == "__init__.py"}
    tied = {own: used & known.keys() - faces - {own} for own, used in known.items() if own not in faces}
    assert len(list(TopologicalSorter(tied).static_order())) == len(tied)  # raises CycleError, which names the circle


def test_only_the_adapter_imports_doit() -> None:
    using = [path for path in SOURCES if any(name.split(".")[0] == "doit" for name in imports(path))]
    assert [path.relative_to(PACKAGE).as_posix() for path in using] == ["build/doit_tasks.py"]


def test_only_the_command_line_prints_and_exits() -> None:
    """Or doit_tasks.py, which dodo.py enters by, its reporter, and what tells of Ctrl-C; a sandbox and a library
    answer on their output."""
    prints, exits = (
        {path.relative_to(PACKAGE).as_posix() for path in SOURCES if names & mentioned(path)}
        for names in (
            {"print", "sys.stdout.write", "sys.stderr.write", "os.write"},
            {"SystemExit", "sys.exit", "os._exit", "os.abort", "exit", "quit", "interrupt.leave"},
        )
    )
    assert {name for name in prints if not name.startswith("commands/")} == {
        *("cli.py", "build/doit_tasks.py", "build/reporter.py", "interrupt.py"),
        *("card/sandbox.py", "admission/library.py"),
    }
    assert exits == {"cli.py", "build/doit_tasks.py", "interrupt.py"}  # the last for the other two, after Ctrl-C


def mentioned(path: Path) -> set[str]:
    """The names that a file's code uses, dotted as they are there."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {ast.unparse(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}


def loaded(module: str) -> set[str]:
    """The packages that importing a module loads, in a process of its own."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_plan_imports_no_doit() -> None:
    assert "doit" not in loaded("quantmill.forecast.plan")
    assert "doit" not in loaded("quantmill.distributed.simulation")


def test_a_no_op_imports_nothing_heavy() -> None:
    assert not HEAVY & loaded("quantmill.build.doit_tasks")
