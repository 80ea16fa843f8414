"""The Hub, through huggingface_hub: what a repository holds at a commit, and its files.

Everything honours huggingface_hub's own settings (HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE).
"""

from pathlib import Path
from typing import Any

from quantmill.errors import QuantmillError


class HubError(QuantmillError):
    """The Hub did not answer, or not as it should."""

    def __init__(self, repo: str, revision: str, problem: str) -> None:
        super().__init__(f"{repo} at {revision}: {problem}; check the name, the network, or HF_TOKEN for a gated model")


def list_files(repo: str, revision: str) -> tuple[str, dict[str, tuple[str | None, int]]]:
    """The commit that `revision` names, and each file's (sha256, size). Files that are not in LFS have no sha256
    there: None."""
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
    except Exception as error:  # huggingface_hub raises httpx's, requests' and its own errors
        raise _named(repo, revision, error) from error
    files: dict[str, tuple[str | None, int]] = {}
    for entry in info.siblings or []:
        lfs: Any = entry.lfs
        files[entry.rfilename] = (lfs.sha256 if lfs else None, lfs.size if lfs else entry.size or 0)
    return str(info.sha), files


def fetch_file(repo: str, name: str, commit: str, folder: Path | None = None) -> Path:
    """Download one file at a commit: into `folder`, resuming what a broken download left there, or else into the
    Hub's own cache."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, name, revision=commit, local_dir=folder))
    except OSError as error:
        if error.errno is not None:  # a full disk is not the Hub's doing
            raise
        raise _named(repo, commit, error, name) from error
    except Exception as error:
        raise _named(repo, commit, error, name) from error


def _named(repo: str, revision: str, error: Exception, name: str = "") -> HubError:
    first = (str(error).strip().splitlines() or [""])[0]
    return HubError(repo, revision, f"{name + ': ' if name else ''}{type(error).__name__}: {first}".rstrip(". "))
