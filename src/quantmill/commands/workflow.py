"""The workflow of a project at GitHub: plans of what a pull request changes, releases from git tags."""

import subprocess
from importlib.resources import files
from pathlib import Path

from quantmill import __version__
from quantmill.commands.common import MARKS
from quantmill.errors import UsageError

PLACE = Path(".github", "workflows", "quantmill.yml")


def write_workflow(root: Path) -> Path:
    """Write it into the project at `root`. UsageError where there is no project, or one already, or where GitHub would
    not look."""
    from quantmill.output_file import check_output, write_output

    path = root / PLACE
    if not any((root / mark).exists() for mark in MARKS):
        raise UsageError(f"{root}: --ci writes into a project, and here is none; make it first by quantmill init NAME")
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path}: it exists, and nothing is overwritten; remove it, or change it by hand")
    top = _repository(root)
    if top and not top.samefile(root):
        raise UsageError(f"{root}: its git repository begins at {top}, where GitHub looks; move the project there")
    check_output(path, makes_folder=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_output(path, workflow().encode())
    return path


def workflow() -> str:
    """Its text, for this version."""
    text = files("quantmill.commands").joinpath("workflow.yml").read_text(encoding="utf-8")
    return text.replace("@VERSION@", __version__)


def _repository(root: Path) -> Path | None:
    """The folder that the git repository around the project begins at."""
    command = ["git", "rev-parse", "--show-toplevel"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, errors="replace")
    except OSError:  # no git here
        return None
    return Path(done.stdout.rstrip("\n")) if done.returncode == 0 and done.stdout.strip() else None
