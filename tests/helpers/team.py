"""What tests of a shared store have in common: keys, settings, projects that name the store, wrong records in it."""

import base64
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from projects import RECIPE, Project
from quantmill.store.key import StepKey
from quantmill.store.remote.settings import PublicKey, format_public
from quantmill.store.remote.trust import Signer, new_key
from s3_server import BUCKET, READER, WRITER

QUICK = {"timeout": 10, "retries": 4, "lease": 5, "patience": 20, "parallel": 2, "chunk": "256KiB"}

# One transfer of a large object, in a process that is killed.
TRANSFER = """
import sys
from pathlib import Path
from quantmill.store.remote.bucket import Bucket, StoreError
from quantmill.store.remote.transfer import fetch, send
from quantmill.store.remote.settings import Settings
url, endpoint, action, path, sha256, size, chunk = sys.argv[1:]
bucket = Bucket(Settings(url, endpoint=endpoint, region="us-east-1", timeout=20))
if action == "send":
    send(bucket, Path(path), sha256, int(chunk), 2, False, lambda count: None)
else:
    assert fetch(bucket, sha256, int(size), Path(path), int(chunk), 2, lambda count: None)
"""


class Team:
    """A shared store at `url` and its signing key, in `folder`."""

    def __init__(self, folder: Path, url: str, endpoint: str | None = None) -> None:
        self.folder, self.url, self.endpoint = folder, url, endpoint
        if url.startswith("file://") and url != "file:///x":  # a folder that nobody made is no store
            Path(url.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
        self.key = folder / "team.key"
        self.public = PublicKey("team", new_key(self.key))

    def toml(self, **values: Any) -> str:
        """quantmill.toml, with the team's public key; `sign` for its secret one, other values as given."""
        table = {"url": self.url, "region": "us-east-1", **QUICK, **values}
        if self.endpoint:
            table.setdefault("endpoint", self.endpoint)
        if table.pop("sign", False):
            table["sign"] = str(self.key)
        keys = table.pop("keys", [{"name": "team", "public": format_public(self.public.public)}])
        lines = ["[store]", *(f"{name} = {_toml(value)}" for name, value in table.items())]
        for key in keys:
            lines += ["[[store.key]]", *(f"{name} = {_toml(value)}" for name, value in key.items())]
        return "\n".join(lines) + "\n"

    def join(self, project: Project, **values: Any) -> Project:
        """Have the project name the store."""
        (project.folder / "quantmill.toml").write_text(self.toml(**values))
        return project


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def credentials(who: tuple[str, str]) -> Mapping[str, str]:
    return {"AWS_ACCESS_KEY_ID": who[0], "AWS_SECRET_ACCESS_KEY": who[1]}


AS_WRITER, AS_READER = credentials(WRITER), credentials(READER)


def s3_url(name: str) -> str:
    return f"s3://{BUCKET}/{name}"


def forget(project: Project) -> None:
    """Make the project an empty clone again."""
    for name in ("cache", "build", "release"):
        shutil.rmtree(project.folder / name, ignore_errors=True)


# A member of the team signs what is wrong: a file's record with the outputs of another file.
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
