"""The shape of the code in figures: python tests/helpers/structure.py [CHECKOUT]

Largest folders, modules of the package's root, rows of the layer test, places that name a step, places that know a tag
or a generation, folders that import each other in a circle, public class names that occur twice.
"""

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

STEPS = (
    *("download", "convert", "preflight", "imatrix", "wave", "index", "quant", "part", "evaluate"),
    *("quality", "bench", "report", "split", "verify", "card", "release", "sensitivity", "mix"),
)
# What a place that knows a tag looks like in code: a number of a build, the one generation, the table of tags.
TAG = re.compile(r"\bb(4867|5125|5490)\b|\bgeneration\s*==|generation: int = 1\b|\bgeneration_of\b")
PROSE = re.compile(r'"""[\s\S]*?"""')


def sources(package: Path) -> list[Path]:
    """Every module of the package."""
    return sorted(package.rglob("*.py"))


def names_of_steps(package: Path) -> Iterator[tuple[str, int, str]]:
    """(file, line, step) of each comparison, table or subscript outside a step's own file that names a step."""
    for path in sources(package):
        where = path.relative_to(package).as_posix()
        if where == "cli.py":  # whose table is of commands
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            found: list[ast.expr | None] = []
            if isinstance(node, ast.Compare) and "step" in ast.unparse(node.left).split("."):
                found = [node.left, *node.comparators]
            elif isinstance(node, ast.Match) and "step" in ast.unparse(node.subject).split("."):
                found = [p.value for case in node.cases for p in ast.walk(case) if isinstance(p, ast.MatchValue)]
            elif isinstance(node, ast.Dict):
                named = [key for key in node.keys if isinstance(key, ast.Constant) and key.value in STEPS]
                found = list(named) if len(named) > 1 else []
            elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load):
                named = [item for item in node.elts if isinstance(item, ast.Constant) and item.value in STEPS]
                found = list(named) if len(named) > 1 else []
            for expression in found:
                for part in ast.walk(expression) if expression else ():
                    if isinstance(part, ast.Constant) and part.value in STEPS:
                        yield where, part.lineno, str(part.value)


def tags(package: Path) -> Iterator[tuple[str, int, str]]:
    """(file, line, text) of code outside the table of tags, without its prose, that knows a tag or a generation."""
    for path in sources(package):
        where = path.relative_to(package).as_posix()
        if where.startswith("reference/") or where == "compat.py":
            continue
        text = PROSE.sub(lambda m: "\n" * m[0].count("\n"), path.read_text())
        for number, line in enumerate(text.split("\n"), 1):
            if TAG.search(line.partition("#")[0]):
                yield where, number, line.strip()


def folder_cycles(package: Path) -> list[str]:
    """A circle of folders that import each other, empty where there is none."""
    using: dict[str, set[str]] = defaultdict(set)
    folders = {path.name for path in package.iterdir() if path.is_dir()}
    for path in sources(package):
        own = path.relative_to(package).parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("quantmill."):
                other = node.module.split(".")[1]
                if own in folders and other in folders and other != own:
                    using[own].add(other)
    try:
        list(TopologicalSorter(using).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def main() -> None:
    """Print the figures."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2]
    package = root / "src" / "quantmill"
    folders = Counter(path.parent for name in ("src", "tests", "kernels") for path in (root / name).rglob("*.*")
                      if path.suffix in (".py", ".cpp", ".h"))  # fmt: skip
    for folder, count in folders.most_common(4):
        print(f"{count:4} files in {folder.relative_to(root)}")
    print(f"{sum(1 for path in package.glob('*.py')):4} modules in the package's root")
    layers = (root / "tests" / "test_layers.py").read_text()
    rows = [node for node in ast.walk(ast.parse(layers)) if isinstance(node, ast.Dict)]
    print(f"{max(len(node.keys) for node in rows):4} rows of the layer test")
    steps = list(names_of_steps(package))
    print(f"{len(steps):4} places that name a step in a table or a choice, in {len({s[0] for s in steps})} files")
    known = list(tags(package))
    print(f"{len(known):4} places that know a tag or a generation, in {len({t[0] for t in known})} files")
    print(f"{len(folder_cycles(package)):4} folders in a circle: {' '.join(folder_cycles(package)) or 'none'}")
    classes = Counter(
        node.name
        for path in sources(package)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name != "Params"  # of a step
    )
    twice = sorted(name for name, count in classes.items() if count > 1)
    print(f"{len(twice):4} public class names that occur twice: {' '.join(twice)}")
    if "-v" in sys.argv:
        print(*steps, *known, sep="\n")


if __name__ == "__main__":
    main()
