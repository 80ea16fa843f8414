"""What the tests of Hub bases look at: a project's lock, what its store holds, what a command says."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from projects import Project

WEIGHTS = "model.safetensors"


def lock_of(project: Project) -> dict[str, Any]:
    return json.loads(project.recipe.with_suffix(".lock").read_text())


def fails(project: Project, *command: str, code: int = 1, **environment: str) -> str:
    """The one sentence that a command fails with."""
    done = project.run(*command, check=code, **environment)
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr.removesuffix("\n")


def impatient(*command: str) -> tuple[str, ...]:
    """A quantmill command that waits little between its attempts."""
    program = (
        f"from quantmill import cli; from quantmill.network import hub; hub.PAUSE = 0.001; cli.main({list(command)!r})"
    )
    return ("python", "-c", program)


def in_store(project: Project) -> list[str]:
    """The base's files that the store has, and whatever else is as large as weights."""
    objects = {path.name: path for path in (project.folder / "cache" / "cas").rglob("*") if path.is_file()}
    base = {fact["sha256"] for fact in lock_of(project)["files"].values()}
    return [name for name, path in objects.items() if name in base or path.stat().st_size > 1 << 20]


def ggufs(project: Project) -> dict[str, bytes]:
    return {name: data for name, data in project.release().items() if name.endswith(".gguf")}


def download_pointer(project: Project) -> dict[str, Any]:
    return json.loads((project.folder / "build" / "small" / "download.json").read_text())


def part_of(project: Project) -> Path | None:
    return next((project.folder / "cache" / "work").glob(f"*/.part/{WEIGHTS}"), None)


def wait_for(true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true within 30 s")
