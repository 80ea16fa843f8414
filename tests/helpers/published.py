"""What tests of published releases share: a git repository for the recipe, and the way to a Hub on loopback."""

import json
import subprocess
from pathlib import Path

from hub_upload_server import TOKEN, UploadHub
from projects import Project

REPO = "someone/small-GGUF"


def git(project: Project, *arguments: str) -> str:
    who = ("-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *who, *arguments], cwd=project.folder, check=True, capture_output=True, text=True
    ).stdout


def tag(project: Project) -> str:
    return str(json.loads(project.release()["release.json"])["tag"])


def environment(hub: UploadHub, home: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
