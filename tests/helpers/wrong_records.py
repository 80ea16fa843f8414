"""A member of the team signs what is wrong: a file's record with the outputs of another file."""

import base64
import json
from pathlib import Path
from typing import Any

from projects import RECIPE
from quantmill.store.key import StepKey
from quantmill.store.remote.settings import PublicKey, format_public
from quantmill.store.remote.trust import Signer, new_key
from team import Team

TWO_FILES = RECIPE.replace('"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"Q8_0", "Q4_0"')
TASK, OTHER = "quant:small/Q8_0", "quant:small/Q4_0"


def shared(team: Team) -> Path:
    """The folder of a team that shares one."""
    return Path(team.url.removeprefix("file://"))


def payload(path: Path) -> dict[str, Any]:
    """What a record in the shared folder says."""
    found: dict[str, Any] = json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"]))
    return found


def record(team: Team, task: str) -> Path:
    """The record of a task in the shared folder."""
    return shared(team) / "ac" / (shared(team) / "task" / task.replace(":", "/")).read_text()


def outputs(path: Path) -> dict[str, tuple[str, int]]:
    """The outputs of a record in the shared folder."""
    return {name: (fact["sha256"], fact["size"]) for name, fact in payload(path)["outputs"].items()}


def spoil(team: Team, signer: Signer | None = None, task: str = TASK, other: str = OTHER) -> Path:
    """Sign that `task` gave what `other` gave; the path of the wrong record."""
    path = record(team, task)
    signer = signer or Signer(str(team.key), [team.public])
    path.write_bytes(signer.seal(StepKey(**payload(path)["key"]), outputs(record(team, other)), task))
    return path


def second_key(team: Team, name: str = "other") -> tuple[Signer, list[dict[str, str]], str]:
    """A second signing key: its signer, what quantmill.toml lists of both, and its path."""
    path = team.folder / f"{name}.key"
    public = PublicKey(name, new_key(path))
    listed = [{"name": key.name, "public": format_public(key.public)} for key in (team.public, public)]
    return Signer(str(path), [public]), listed, str(path)
