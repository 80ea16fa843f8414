"""What a release is held against: a GGUF file, or a checkpoint in Hugging Face layout, here or elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.architectures.json_file import is_near, model_files
from quantmill.audit.checkpoint_base import CheckpointBase, of_hub
from quantmill.audit.remote_source import HubRepository, RemoteSource, is_remote, split_name
from quantmill.audit.tensors import Tensors
from quantmill.disk import sha256_file
from quantmill.errors import UsageError, listed
from quantmill.gguf.source import Source
from quantmill.recipe.base_files import told_of_base, wanted


@dataclass(frozen=True)
class AuditBase:
    """An open base. `files()`: what is on record of its files, `{name, sha256}`; a digest is None where a file was not
    read whole."""

    source: Tensors
    files: Callable[[], list[dict[str, Any]]]


@contextmanager
def open_base(name: str, whole: bool = True, on_hub: bool = False) -> Iterator[AuditBase]:
    """The base in a file or folder, of a repository of the Hub, or at an address. `whole`: it is to be read whole, as
    only one here can be. `on_hub`: a stranger named it, so that it is never a path. Raises QuantmillError."""
    path = Path(name)
    if on_hub or (not path.exists() and is_remote(name)):
        if whole:
            here = "" if on_hub else "there is no such file or folder here, and "
            raise UsageError(f"{name}: {here}only a part of a base elsewhere is read; give --sample 2%, or download it")
        with _elsewhere(name) as found:
            yield found
        return
    if not path.is_file() and not path.is_dir():
        what = "this is no file" if path.exists() else "there is no such file or folder"
        raise UsageError(f"{name}: {what}; give the base's GGUF file or its model's folder")
    if path.is_dir():
        names = list(model_files(path))
        if any(each.endswith(".safetensors") for each in names) or "config.json" in names:
            with told_of_base(name):
                files = {each: path / each for each in wanted(name, names)}
                source = CheckpointBase(name, files)
            with source:
                yield AuditBase(source, lambda: _digests(files, whole))
            return
        path = _only_model(path)
    with Source(path) as file:
        yield AuditBase(file, lambda: _digests({part.path.name: part.path for part in file.files}, whole))


def _only_model(folder: Path) -> Path:
    from quantmill.audit.release_files import models_in

    found = models_in(folder)
    if len(found) > 1:
        raise UsageError(
            f"{folder}: it holds {len(found)} models ({listed([p.name for p in found])}); name one as base"
        )
    return found[0]


@contextmanager
def _elsewhere(name: str) -> Iterator[AuditBase]:
    if name.startswith(("http://", "https://")):
        with RemoteSource(name) as file:
            yield AuditBase(file, lambda: [{"name": part.place, "sha256": None} for part in file.files])
        return
    repo, path = split_name(name)
    repository = HubRepository(repo)
    near = [each for each in repository.files if is_near(each)]

    def told(names: list[str]) -> Callable[[], list[dict[str, Any]]]:
        at = {"repo": repo, "commit": repository.commit, "sha256": None}
        return lambda: [{"name": each, **at} for each in sorted(names)]

    if path is None and any(each.endswith(".safetensors") for each in near):
        with told_of_base(repo):
            names = wanted(repo, near)
            source = of_hub(repository, names)
        with source:
            yield AuditBase(source, told(names))
        return
    models = repository.models()
    if path is None and len(models) != 1:
        right = f"name one of them, as {repo}/{models[0]}" if models else "name a repository of a model"
        raise UsageError(f"{repo}: it holds {len(models)} models ({listed(models) or 'no weights'}); {right}")
    parts = repository.model(path or models[0])
    with RemoteSource(parts) as file:
        yield AuditBase(file, told([part.place.removeprefix(f"{repo}/") for part in parts]))


def _digests(files: dict[str, Path], whole: bool) -> list[dict[str, Any]]:
    return [{"name": name, "sha256": sha256_file(path) if whole else None} for name, path in sorted(files.items())]
