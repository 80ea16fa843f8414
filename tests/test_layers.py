"""The arrows of docs/design.md: which part of quantmill may import which."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import quantmill

PACKAGE = Path(quantmill.__file__).parent if quantmill.__file__ else Path()
SOURCES = sorted(PACKAGE.rglob("*.py"))
PARTS = ("steps", "gguf", "quant", "model")
# What a part may import of quantmill, beside itself and `errors`, `artifact` (open to all).
ALLOWED = {
    "key": set(),
    "disk": set(),
    "shared": {"key"},
    "store": {"disk", "key", "shared"},
    "compat": set(),
    "recipe": {"recipe_bench", "compat", "quant", "recipe_calibration", "recipe_page", "recipe_quality"},
    "recipe_calibration": {"compat"},
    "recipe_bench": set(),
    "host": {"_kernels"},
    "recipe_quality": {"recipe_calibration"},
    "recipe_page": set(),
    "released": set(),
    "numbers": set(),
    "page": {"lock", "model", "recipe"},
    "toml_text": set(),
    "proof": {"key", "lock", "recipe", "steps", "toml_text"},
    "hub": set(),
    "web": set(),
    "calibration": {"disk", "recipe", "recipe_calibration", "web"},
    "lock": {"recipe", "hub", "disk", "model", "gguf", "calibration"},
    "publish": {"hub", "released", "signature"},
    "tagged": {"hub", "lock", "proof", "recipe", "recipe_git", "released", "reproduce", "signature"},
    "proven": {"disk", "gguf", "released", "signature"},
    "recipe_git": set(),
    "reproduce": {
        "build",
        "disk",
        "gguf",
        "hub",
        "lock",
        "plan",
        "proof",
        "recipe",
        "released",
        "reporter",
        "signature",
        "store",
        "tasks",
    },
    "plan": {"host", "recipe", "recipe_bench", "lock", "page", "proof", "calibration"},
    "signature": {"disk", "remote"},
    "tree": {"disk", "released", "signature", "store"},
    "build": {"key", "disk", "plan", "shared", "signature", "steps", "store", "tree"},
    "remote": {"disk", "key", "recipe", "shared"},
    "care": {"disk", "key", "released", "signature", "store"},
    "reporter": {"build"},
    "interrupt": set(),
    "tasks": {"build", "host", "interrupt", "lock", "plan", "recipe", "remote", "reporter", "signature", "store"},
    "preview_imatrix": {"calibration", "gguf", "lock", "model", "recipe", "recipe_calibration"},
    "preview_measured": {"_kernels", "calibration", "gguf", "lock", "model", "preview_imatrix", "quant", "recipe"},
    "preview": {
        "preview_measured",
        "proof",
        "preview_imatrix",
        "build",
        "gguf",
        "imatrix",
        "lock",
        "model",
        "plan",
        "quant",
        "recipe",
        "tasks",
    },
    "show": {"preview_imatrix", "preview_measured", "build", "preview", "released", "simulate"},
    "simulate": {
        "distributed",
        "gguf",
        "preview_imatrix",
        "preview_measured",
        "lock",
        "model",
        "plan",
        "preview",
        "quant",
        "recipe",
        "tasks",
    },
    "choose": {"gguf", "recipe", "released"},
    "offer": {"build", "choose", "lock", "plan", "preview", "quant", "recipe", "released", "tasks"},
    "offer_elsewhere": {"choose", "gguf", "hub", "quant", "released"},
    "card": {"choose", "quant", "released"},
    "distributed": {"build", "gguf", "host", "lock", "plan", "preview", "quant", "recipe", "steps", "shared", "tasks"},
    "gguf": {"quant"},
    "safetensors": {"gguf"},
    "imatrix": {"gguf", "quant"},
    "quant": {"gguf", "imatrix", "key", "_kernels", "compat"},
    "quality": {"gguf", "model", "numbers", "_kernels"},
    "model": {"compat", "gguf", "numbers", "quant", "safetensors", "_kernels"},
    "runtime": {"gguf", "model", "quant", "_kernels"},
    "steps": {
        "key",
        "host",
        "runtime",
        "quality",
        "gguf",
        "hub",
        "web",
        "imatrix",
        "model",
        "numbers",
        "quant",
        "safetensors",
        "compat",
        "_kernels",
        "card",
        "disk",
        "released",
    },
}
NO_OP = (
    *("recipe", "recipe_page", "page", "lock", "compat", "plan", "key", "store", "build", "tasks", "reporter"),
    *(
        "disk",
        "artifact",
        "errors",
        "calibration",
        "recipe_calibration",
        "recipe_quality",
        "recipe_bench",
        "host",
        "proof",
        "toml_text",
        "signature",
    ),
)
HEAVY = {"numpy", "gguf", "rich", "huggingface_hub", "tokenizers", "jinja2"}


def part(path: Path) -> str:
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
    own = part(path)
    if own in ("cli", "commands", "__init__"):  # the top, which may use everything
        return
    used = {name.split(".")[1] for name in imports(path) if name.startswith("quantmill.")}
    assert used <= ALLOWED.get(own, set()) | {own, "errors", "artifact", "__version__"}


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


def test_only_tasks_imports_doit() -> None:
    assert [path.name for path in SOURCES if any(n.split(".")[0] == "doit" for n in imports(path))] == ["tasks.py"]


def test_only_the_command_line_prints_and_exits() -> None:
    """Or tasks.py, which dodo.py enters by, and its reporter; a sandbox is a process that answers on its output."""
    prints, exits = (
        {path.relative_to(PACKAGE).as_posix() for path in SOURCES if names & mentioned(path)}
        for names in (
            {"print", "sys.stdout.write", "sys.stderr.write", "os.write"},
            {"SystemExit", "sys.exit", "os._exit", "os.abort", "exit", "quit", "interrupt.leave"},
        )
    )
    assert {name for name in prints if not name.startswith("commands/")} == {
        *("cli.py", "tasks.py", "reporter.py"),
        "card/sandbox.py",
    }
    assert exits == {"cli.py", "tasks.py", "interrupt.py"}  # the last for the other two, after Ctrl-C


def mentioned(path: Path) -> set[str]:
    """The names that a file's code uses, dotted as they are there."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {ast.unparse(node) for node in nodes if isinstance(node, ast.Name | ast.Attribute)}


def test_a_no_op_imports_nothing_heavy() -> None:
    for path in SOURCES:
        if path.parent == PACKAGE and path.stem in NO_OP:
            assert not {name.split(".")[0] for name in imports(path, top_only=True)} & HEAVY, path
