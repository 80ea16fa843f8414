"""What `init` writes: a recipe's text, table by table with comments, and the files of a new project."""

import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import quantmill
from quantmill.checkpoint.file_names import check_names
from quantmill.errors import UsageError, printable
from quantmill.recipe import toml_text
from quantmill.recipe.base_table import REPO
from quantmill.recipe.recipe import MAX_NAME, NAME, NAME_WORDS

_LAYOUT = "give a model in Hugging Face layout, or a GGUF file"
TEXTS = ("calibration.txt", "evaluation.txt")
_HEAD = "Every key: recipes/README.md of quantmill. What it makes: quantmill plan {name}"
_DODO = '''"""doit's entry: the recipes of this project as tasks."""

from pathlib import Path

from quantmill.build.doit_tasks import dodo
from quantmill.forecast import estimates

DOIT_CONFIG, task_recipe = dodo(Path(__file__).resolve().parent, default="{name}", estimate=estimates)
'''
_SETTINGS = """# The project's settings: a store that machines share, and keys that sign: docs/team.md. None is needed.
#
# [store]
# url = "s3://bucket/prefix"
"""
_IGNORED = """/build/
/cache/
/release/
.doit.db*
__pycache__/
"""
_PAGE = """
# For the page, where the model does not say it itself; and where `quantmill publish` sends the release:
#
# [card]
# license = "apache-2.0"
#
# [publish]
# owner = "your-name-at-the-Hub"
"""
_TARGET = """
# A file of at most so many bits a weight, whose types are found by measuring (docs/fit.md):
#
# [[quants.target]]
# name = "fit-4.5"
# bits = 4.5
"""


@dataclass
class Outline:
    """A recipe to be written. `base`, `imatrix` and others are its tables; `comments` stand before a table, by its
    name, those of "" at the top."""

    name: str
    tag: str
    base: Mapping[str, Any]
    matrix: str | list[str] = "standard"
    convert: Mapping[str, Any] | None = None
    prefix: str | None = None
    imatrix: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    overrides: Sequence[Mapping[str, Any]] = ()
    max_size: str | int = "50GB"
    comments: dict[str, list[str]] = field(default_factory=dict)
    is_first: bool = False  # nobody's yet: what else a recipe may say stands at its end, in comments

    def say(self, table: str, comment: str) -> None:
        """Add a comment."""
        self.comments.setdefault(table, []).append(comment)

    def text(self) -> str:
        """The TOML text."""
        top = {"llama_cpp": self.tag} | ({"prefix": self.prefix} if self.prefix else {})
        quants = {"matrix": self.matrix} | ({"override": list(self.overrides)} if self.overrides else {})
        tables = {
            "": top,
            "base": self.base,
            "convert": self.convert,
            "calibration": self.calibration,
            "imatrix": self.imatrix,
            "quants": quants,
            "split": {"max_size": self.max_size},
            "evaluation": self.evaluation,
        }
        heads = {"": [_HEAD.format(name=self.name)]}
        parts = []
        for name, table in tables.items():
            comments = [*heads.get(name, ()), *self.comments.get(name, ())]
            lines = [line for comment in comments for line in _comment(comment)]
            if table is not None:
                lines.append(toml_text.text({name: table} if name else table).strip("\n"))
            parts += ["\n".join(lines)] * bool(lines)
        more = _PAGE + _TARGET * (self.calibration is not None) if self.is_first else ""
        return "\n\n".join(parts) + "\n" + more


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(printable(text), 100, break_long_words=False)]


def base_of(name: str, folder: Path) -> dict[str, Any]:
    """The [base] of a recipe in `folder` for a GGUF file, a folder in Hugging Face layout, or OWNER/NAME of the Hub;
    UsageError for what is none of them."""
    path = Path(name)
    if path.is_file() and path.suffix == ".safetensors" and (path.parent / "config.json").is_file():
        raise UsageError(f"{name}: a file of a model in Hugging Face layout; give its folder, {path.parent}")
    if path.is_file():
        return {"gguf": beside(path, folder)}
    if path.is_dir():
        if not any((path / config).is_file() for config in ("config.json", "params.json")):
            check_names(name, (file.name for file in path.iterdir()))
            below = sorted(config.parent.name for config in path.glob("*/config.json"))
            found = f"give a folder below it that has one, such as {below[-1]}" if below else _LAYOUT
            raise UsageError(f"{name}: it has no config.json; {found}")
        return {"path": beside(path, folder)}
    if name.endswith(".gguf") or not re.fullmatch(REPO, name):
        raise UsageError(f"{name}: there is no such file or folder; give one, or a Hub repository like Qwen/Qwen3-8B")
    return {"repo": name}


def beside(path: Path, folder: Path) -> str:
    """The path as a recipe in `folder` names it."""
    whole = path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()
    return Path(os.path.relpath(whole, folder.resolve())).as_posix()


def check_name(name: str) -> None:
    """UsageError for what no recipe can be called."""
    if not re.fullmatch(NAME, name) or len(f"{name}.toml".encode()) > MAX_NAME:
        raise UsageError(f"{name!r} cannot name a recipe; use {NAME_WORDS}, and a letter or digit first")


def project_files(name: str) -> dict[str, str]:
    """The files of a new project beside its recipe `name`, by their paths."""
    return {"dodo.py": _DODO.format(name=name), "quantmill.toml": _SETTINGS, ".gitignore": _IGNORED}


def brought(name: str) -> Path:
    """The file of one of TEXTS, which a package brings: general ones, for a first release."""
    package = Path(quantmill.__file__ or "").parent
    for folder in (package / "texts", package.parents[1] / "recipes" / "tiny"):
        if (folder / name).is_file():
            return folder / name
    raise UsageError(f"{package}: it has no texts/{name}; install quantmill anew")
