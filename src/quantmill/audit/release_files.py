"""A release as it is found: the models in a folder or repository, shards as one, and what lies beside them."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from quantmill.audit.remote_source import HubRepository, RemoteFile, RemoteSource, is_remote, remote_files, split_name
from quantmill.checkpoint import readme
from quantmill.checkpoint.about import about_gguf, repository_of
from quantmill.errors import QuantmillError, UsageError, built, listed
from quantmill.gguf.errors import GGUFUsageError
from quantmill.gguf.kinds import check_kind
from quantmill.gguf.layout import ggml_shape
from quantmill.gguf.reader import GGUFFile, read
from quantmill.gguf.shards import parse_name
from quantmill.gguf.source import Source
from quantmill.gguf.values import model_facts
from quantmill.listing import IMATRIX_ENDING
from quantmill.network.hub import SMALL
from quantmill.quant.guide import Guide

CARD = "README.md"
CARD_LIMIT, IMATRIX_LIMIT = 4_000_000, 2_000_000_000  # bytes of a card that is read, of an imatrix here
_IMATRIX_NAME = re.compile(r".*imatrix.*\.(gguf|dat|imatrix|gguf_file)|.*\.imatrix", re.IGNORECASE)
_IMATRIX_FILE = "quantize.imatrix.file"
Model = Path | tuple[RemoteFile, ...]


def models_in(folder: Path) -> list[Path]:
    """Each model's file, of shards the first that is there. What calls itself an imatrix, a projector or an adapter is
    none. UsageError where there is no model."""
    found: dict[tuple[Path, str, int], Path] = {}
    for path in sorted(path for path in folder.rglob("*.gguf") if path.is_file()):  # a pipe would be waited for
        shard = parse_name(path.name)
        key = (path.parent, shard[0], shard[2]) if shard else (path.parent, path.name, 0)
        if key not in found and not path.name.endswith(IMATRIX_ENDING) and _is_model(path):
            found[key] = path
    if not found:
        raise UsageError(f"{folder}: there are no GGUF files of a model in it; name a folder that holds some")
    return list(found.values())


def _is_model(path: Path) -> bool:
    with read(path) as file:
        return is_model(file)


def is_model(file: GGUFFile) -> bool:
    """Whether a file does not call itself something else."""
    try:
        check_kind(file.place, model_facts(file.metadata.values()))
    except GGUFUsageError:
        return False
    return True


@dataclass(frozen=True)
class AuditedRelease:
    """`models`, and `beside` them other files by name, which `fetch` gives a path of. `is_one`: the call names one."""

    place: str
    models: tuple[Model, ...]
    beside: Mapping[str, int]
    fetch: Callable[[str], Path]
    is_one: bool = False
    commit: str | None = None

    def first(self) -> GGUFFile:
        """The header of the first model."""
        model = self.models[0]
        if isinstance(model, Path):
            with read(model) as file:
                return file
        return model[0].header()[0]

    def named_base(self) -> tuple[str, str]:
        """The repository of the base, and who names it: the card, or the first model's metadata. UsageError where
        nothing does."""
        if named := self._by_card():
            return named, "the release's card"
        facts = about_gguf(self.first())
        if source := facts.get("repo"):
            return str(source), "the file's metadata (general.source)"
        parents = facts.get("base_models", [])
        if len(parents) == 1:
            return parents[0], "the file's metadata (general.base_model)"
        raise UsageError(f"{self.place}: neither its card nor its metadata name one base; name it by --base")

    def _by_card(self) -> str:
        if CARD not in self.beside:
            return ""
        if self.beside[CARD] > CARD_LIMIT:
            raise UsageError(
                f"{self.place}: its {CARD} has {self.beside[CARD]} bytes, and at most {CARD_LIMIT} are read; name the "
                "base by --base"
            )
        try:
            card = readme.load(self.fetch(CARD))
        except QuantmillError as error:
            said = str(error).partition(";")[0]
            raise UsageError(f"{self.place}: {said}; name the base by --base") from None
        named, relation = card.get("base_model"), card.get("base_model_relation", "quantized")
        names = [repository_of(name) for name in (named if isinstance(named, list) else [named])[:9]]
        return names[0] if len(names) == 1 and relation == "quantized" else ""

    def imatrix_names(self) -> list[str]:
        """What lies beside the models and is called an importance matrix."""
        return [name for name in sorted(self.beside) if _IMATRIX_NAME.fullmatch(PurePosixPath(name).name)]

    def imatrix(self) -> tuple[Path | None, str]:
        """The importance matrix that lies beside the models, and its name; or none, and why where there are several."""
        names = self.imatrix_names()
        if len(names) > 1:
            entry = self.first().metadata.get(_IMATRIX_FILE)
            called = PureWindowsPath(str(entry.value)).name if entry else ""
            names = [name for name in names if PurePosixPath(name).name == called] or names
        if len(names) > 1:
            return None, f"{listed(names)} lie beside the release; give the one it was made with by --imatrix"
        most = SMALL if self.commit else IMATRIX_LIMIT
        if names and self.beside[names[0]] > most:
            return (
                None,
                f"{names[0]} beside the release is too large to be taken unasked; give it by --imatrix",
            )
        if not names:
            return None, ""
        path = self.fetch(names[0])
        guide = Guide.read(path, False)
        try:
            for info in self.first().tensors.values():
                guide.importance(info.name, ggml_shape(info.shape), info.type)
        except UsageError:
            return None, f"{names[0]} beside the release is of another model, and is not taken"
        return path, names[0]

    def names(self, file: Source | RemoteSource) -> list[str]:
        """What the release calls the shards of an open model."""
        if isinstance(file, RemoteSource):
            return [place.removeprefix(f"{self.place}/") for place, _ in file.listed]
        folder = Path(self.place) if Path(self.place).is_dir() else Path(self.place).parent
        return [part.path.relative_to(folder).as_posix() for part in file.files]

    def others(self, audited: Collection[str]) -> list[str]:
        """The GGUF files of a folder or repository that are not among those, since they call themselves something else.
        A program may take them for models all the same."""
        names = [] if self.is_one else sorted(name for name in self.beside if name.endswith(".gguf"))
        return [name for name in names if name not in audited]

    def open(self, model: Model) -> Source | RemoteSource:
        """One of the models."""
        return Source(model) if isinstance(model, Path) else RemoteSource(model)


def find_release(name: str) -> AuditedRelease:
    """A file or folder, a repository of the Hub or a file in one, or an address. UsageError for what is none."""
    path = Path(name)
    if path.is_dir():
        there = {file.relative_to(path).as_posix(): file for file in path.rglob("*") if file.is_file()}
        return _here(name, tuple(models_in(path)), there)
    if path.exists() or not is_remote(name):
        if not path.is_file():
            what = "this is no file" if path.exists() else f"there is no such file{built(name)}"
            raise UsageError(f"{path}: {what}; give the path of a GGUF file")
        near = {file.name: file for file in path.absolute().parent.iterdir() if file.is_file()}
        return _here(name, (path,), near, True)
    if name.startswith(("http://", "https://")):
        return AuditedRelease(name, (tuple(remote_files(name)),), {}, Path, True)
    repo, part = split_name(name)
    repository = HubRepository(repo)
    names = [part] if part else repository.models()
    if not names:
        raise UsageError(f"{repo}: there are no GGUF files of a model in it; name a repository that holds some")
    sizes = {each: file.size for each, file in repository.files.items()}
    models = tuple(tuple(repository.model(each)) for each in names)
    return AuditedRelease(repo, models, sizes, repository.small, part is not None, repository.commit)


def _here(name: str, models: tuple[Path, ...], beside: Mapping[str, Path], is_one: bool = False) -> AuditedRelease:
    sizes = {each: file.stat().st_size for each, file in beside.items()}
    return AuditedRelease(name, models, sizes, lambda each: beside[each], is_one)


def each_remote(release: AuditedRelease) -> Iterator[RemoteSource]:
    """Every model elsewhere, open while it is at hand; each header is asked for with as many bytes as the longest
    before it had. UsageError where nothing turns out to be a model."""
    found = longest = 0
    for model in release.models:
        if isinstance(model, Path):
            continue
        with RemoteSource(model, longest) as source:
            longest = max(longest, *(file.data_offset for file in source.files))
            if release.is_one or is_model(source.files[0]):
                found += 1
                yield source
    if not found:
        raise UsageError(f"{release.place}: there are no GGUF files of a model in it; name a repository with some")


def each_open(release: AuditedRelease) -> Iterator[Source | RemoteSource]:
    """Every model in turn, open while it is at hand. UsageError where nothing turns out to be one."""
    found = 0
    for model in release.models:
        with release.open(model) as file:
            if release.is_one or isinstance(model, Path) or is_model(file.files[0]):
                found += 1
                yield file
    if not found:
        raise UsageError(
            f"{release.place}: there are no GGUF files of a model in it; name a repository that holds some"
        )
