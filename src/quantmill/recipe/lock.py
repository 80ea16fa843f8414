"""The lock: what a recipe's base resolved to, as a small JSON file beside the recipe.

It names every base file by sha256 and size, a Hub repository by its commit, and keeps the model's configuration. So a
release can be planned without the network and rebuilt from the same bytes. `quantmill lock` writes it; a build writes
it when it is missing or when the recipe or a local base moved, unless the build is `--locked`.
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from quantmill.architectures.errors import ModelError
from quantmill.architectures.json_file import is_near
from quantmill.checkpoint.file_names import INDEX
from quantmill.errors import UsageError
from quantmill.listing import UnfitJSON, strangers_json
from quantmill.recipe import locked_tools, texts
from quantmill.recipe.base_files import (
    asks_index,
    base_words,
    check_type,
    configuration,
    converted,
    foreign,
    index_names,
    is_plain,
    local_files,
    more,
    open_tag,
    open_type,
    requested_base,
    told_of_base,
    wanted,
)
from quantmill.recipe.convert_table import AUTO, LLAMA_CPP, OWN
from quantmill.recipe.lock_values import is_count, is_shape, is_text_or_list
from quantmill.recipe.recipe import LOCK_LIMIT, Locked, Recipe
from quantmill.recipe.texts import FileFact

FORMAT = 1


def lock_drift(path: Path, what: str) -> UsageError:
    """The lock does not describe the recipe's base any more."""
    return UsageError(f"{path}: {what}; run 'quantmill lock {path.with_suffix('.toml')}' and commit the lock")


@dataclass(frozen=True)
class Lock:
    """What a recipe's sources resolved to.

    `base`: what the recipe said, with a Hub repository's `commit`
    `files`: names below the base → their content
    `config`: the model's config.json, None for a GGUF base
    `about`: what its page and tokenizer say (checkpoint/about.py), of which the release's page is made
    `calibration`: the texts' names in the recipe → their content
    `evaluation`: the same, of the texts for measuring quality
    `search`: the same, of the text that types are searched on
    `notes`: what of its vocabulary is left out or odd, a sentence each
    `output`: the checkpoint has an output matrix though its configuration ties the embeddings
    `shape`: of a GGUF base, what of its metadata decides memory: the fields of choose.shape.Shape, and `tied`
    `extra`: the text of `card.extra`
    `llama_cpp`: the tag, of a recipe that names none
    `type`: of the base that is converted, where its weights decide it
    `tools`: the steps that llama.cpp's own programs run (recipe/locked_tools.py)
    `unresolved`: what a lock written by hand leaves to `quantmill lock`, which leaves nothing
    """

    base: Mapping[str, str]
    files: Mapping[str, FileFact]
    config: Mapping[str, Any] | None
    metadata_bytes: int | None = field(default=None)
    about: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, FileFact] = field(default_factory=dict)
    evaluation: Mapping[str, FileFact] = field(default_factory=dict)
    unresolved: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    output: bool = False
    shape: Mapping[str, int] = field(default_factory=dict)
    extra: str = ""
    llama_cpp: str = ""
    type: str = ""
    tools: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    search: Mapping[str, FileFact] = field(default_factory=dict)

    @property
    def texts(self) -> dict[str, Mapping[str, FileFact]]:
        """What is known of the texts, by their kind."""
        return {"calibration": self.calibration, "evaluation": self.evaluation, "search": self.search}

    @property
    def said(self) -> Locked:
        """What the recipe leaves open."""
        return Locked(self.llama_cpp, self.type)

    def requested_base(self) -> dict[str, str]:
        """What the recipe said of the base, without what that resolved to."""
        return {key: value for key, value in self.base.items() if key != "commit"}

    def text(self) -> str:
        """The lock file's text: deterministic, one line a file."""
        data = {
            "format": FORMAT,
            **({"llama_cpp": self.llama_cpp} if self.llama_cpp else {}),
            **({"type": self.type} if self.type else {}),
            **({"unresolved": list(self.unresolved)} if self.unresolved else {}),
            "base": dict(self.base),
            "files": _facts(self.files),
            **{kind: _facts(known) for kind, known in self.texts.items() if known},
            **({"output": True} if self.output else {}),
            "config": self.config,
            "metadata_bytes": self.metadata_bytes,
            "about": dict(self.about),
            **({"shape": dict(self.shape)} if self.shape else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
            **({"extra": self.extra} if self.extra else {}),
            **({"tools": dict(self.tools)} if self.tools else {}),
        }
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def path_of(recipe: Recipe) -> Path:
    """The lock's path: the recipe's, with the ending .lock."""
    return recipe.path.with_suffix(".lock")


def load(recipe: Recipe) -> Lock | None:
    """The recipe's lock as written, or None when there is none; UsageError when it cannot be read."""
    try:
        return read(path_of(recipe))
    except FileNotFoundError:
        return None


def read(path: Path) -> Lock:
    """The lock in the file at `path`; UsageError when it is none."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LOCK_LIMIT + 1)
    except UnicodeDecodeError as error:
        raise lock_drift(path, f"it is not a lock ({error!r})") from None
    if len(text) > LOCK_LIMIT:
        raise lock_drift(path, f"it is longer than {LOCK_LIMIT} characters, which no lock is")
    return parse(path, text)


def parse(path: Path, text: str) -> Lock:
    """The lock that `text`, of the file at `path`, describes; UsageError when it is none."""
    try:
        return _read(path, strangers_json(text.encode()))
    except UnfitJSON as error:
        raise lock_drift(path, f"it {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise lock_drift(path, f"it is not a lock ({error!r})") from None


def _read(path: Path, data: Any) -> Lock:
    if data["format"] != FORMAT:
        raise lock_drift(path, f"its format is {data['format']}, this quantmill reads {FORMAT}")
    base = {str(key): str(value) for key, value in data["base"].items()}
    files = _read_facts(path, data["files"])
    known, measured, searched = (_read_facts(path, data.get(kind, {})) for kind in texts.KINDS)
    if odd := [name for name in files if not is_plain(name)]:
        raise lock_drift(path, f"{odd[0]!r} cannot be the name of a base file")
    config, metadata_bytes = data["config"], data["metadata_bytes"]
    if not isinstance(config, dict | None) or not (metadata_bytes is None or is_count(metadata_bytes)):
        raise lock_drift(path, "its config is no table, or its metadata_bytes no number")
    if files and "repo" in base and not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", base.get("commit", "")):
        raise lock_drift(path, f"it names no commit of {base['repo']}")
    about = data.get("about", {})
    if not isinstance(about, dict) or not all(map(is_text_or_list, about.values())):
        raise lock_drift(path, "its about is no table of texts and lists of texts")
    unresolved, notes = data.get("unresolved", []), data.get("notes", [])
    if not is_text_or_list(unresolved):
        raise lock_drift(path, "its unresolved is no list of texts")
    if not (isinstance(notes, list) and is_text_or_list(notes)):
        raise lock_drift(path, "its notes are no list of texts")
    shape, extra = data.get("shape", {}), data.get("extra", "")
    if shape != {} and not is_shape(shape):
        raise lock_drift(path, "its shape is no table of a shape's numbers")
    if not isinstance(extra, str):
        raise lock_drift(path, "its extra is no text")
    output, more = data.get("output", False) is True, (tuple(unresolved), tuple(notes))
    said = Locked(*(data.get(key, "") for key in Locked._fields))
    if strange := [key for key, text in said._asdict().items() if not isinstance(text, str)]:
        raise lock_drift(path, f"its {strange[0]} is no text")
    try:
        tools = locked_tools.read(data.get("tools", {}))
    except ValueError as error:
        raise lock_drift(path, str(error)) from None
    beside = (*more, output, shape, extra, *said, tools, searched)
    return Lock(base, files, config, metadata_bytes, about, known, measured, *beside)


def _read_facts(path: Path, data: Mapping[str, Any]) -> dict[str, FileFact]:
    found = {str(name): FileFact(fact["sha256"], fact["size"]) for name, fact in data.items()}
    for name, fact in found.items():
        if not re.fullmatch(r"[0-9a-f]{64}", fact.sha256) or not is_count(fact.size):
            raise lock_drift(path, f"{name} has no sha256 of 64 hex digits or no size in bytes")
    return found


def _facts(files: Mapping[str, FileFact]) -> dict[str, dict[str, Any]]:
    return {name: {"sha256": fact.sha256, "size": fact.size} for name, fact in sorted(files.items())}


def current(recipe: Recipe, locked: bool, digest: Callable[[Path], str]) -> Lock:
    """The lock that a build is to use. `locked`: raise UsageError rather than write a new one.

    `digest(path)` is the sha256 of a local file; nothing is asked of the network while the lock holds.
    """
    lock = load(recipe)
    problem = "it is missing" if lock is None else drift(recipe, lock, digest)
    if lock is not None and problem is None and not locked:
        problem = locked_tools.moved(lock.tools)
    if lock is not None and problem is None:
        return lock
    if lock is not None and (lock.unresolved or not lock.files) and lock.requested_base() == requested_base(recipe):
        raise lock_drift(path_of(recipe), f"it is not resolved yet ({', '.join(lock.unresolved or ('files',))})")
    if locked:
        raise lock_drift(path_of(recipe), f"the recipe is to be built as locked, but {problem}")
    return write(recipe, digest)


def peek(recipe: Recipe, digest: Callable[[Path], str]) -> Lock:
    """The lock that a build would use, without writing it. An unresolved one is as good: it has the
    model's configuration."""
    lock = load(recipe)
    if lock is not None and lock.requested_base() == requested_base(recipe) and (lock.unresolved or not lock.files):
        return lock
    if lock is not None and drift(recipe, lock, digest) is None and locked_tools.moved(lock.tools) is None:
        return lock
    return resolve(recipe, digest)


def write(recipe: Recipe, digest: Callable[[Path], str]) -> Lock:
    """Resolve the recipe and write its lock (only when its text differs)."""
    lock = resolve(recipe, digest)
    path = path_of(recipe)
    data = lock.text().encode()
    if not path.is_file() or path.read_bytes() != data:
        from quantmill.disk import write_atomic

        write_atomic(path, data)
    return lock


def drift(recipe: Recipe, lock: Lock, digest: Callable[[Path], str]) -> str | None:
    """What of the base differs from the lock, or None."""
    if not lock.files or lock.unresolved:
        return "its base is not resolved yet"
    if lock.llama_cpp != open_tag(recipe):
        return "it has a llama.cpp tag, and so has the recipe" if lock.llama_cpp else "it has no llama.cpp tag"
    if problem := locked_tools.drift(recipe, lock.tools):
        return problem
    if lock.type != open_type(recipe):
        return f"its base's type is {lock.type or 'open'}, and by the recipe {open_type(recipe) or 'open'}"
    requested = lock.requested_base()
    if requested != requested_base(recipe):
        return f"the recipe's base is {base_words(requested_base(recipe))} and the lock's is {base_words(requested)}"
    local = local_files(recipe)
    if local is None:
        return texts.drift(recipe, lock.texts, digest) or texts.extra_drift(recipe, lock.extra)
    if missing := sorted(set(lock.files) - set(local)):
        return f"{missing[0]} of the base is missing"
    if added := sorted(set(local) - set(lock.files)):
        return f"{added[0]} of the base is new"
    for name, path in sorted(local.items()):
        if path.stat().st_size != lock.files[name].size or digest(path) != lock.files[name].sha256:
            return f"{name} of the base changed"
    return texts.drift(recipe, lock.texts, digest) or texts.extra_drift(recipe, lock.extra)


# What this process has read of local bases, by what decides it: configuration, bytes of the metadata, what is said.
_read_bases: dict[tuple[Any, ...], Lock] = {}


def resolve(recipe: Recipe, digest: Callable[[Path], str]) -> Lock:
    """Look at the base: hash local files, or ask the Hub for the commit and its files' digests."""
    lock = _resolve(recipe, digest)
    tools = locked_tools.resolve(recipe, lock.config, lock.tools.get("convert", {}).get("why"))
    return replace(lock, llama_cpp=open_tag(recipe), type=open_type(recipe), tools=tools)


def _resolve(recipe: Recipe, digest: Callable[[Path], str]) -> Lock:
    local = local_files(recipe)
    if local is None:
        return _resolve_hub(recipe, digest)
    files = {name: FileFact(digest(path), path.stat().st_size) for name, path in sorted(local.items())}
    from quantmill.checkpoint import contents  # what a no-op does not need is imported where it is used

    base, said = recipe.base, tuple((name, fact.sha256) for name, fact in files.items())
    asked = requested_base(recipe)
    model = (base.type, base.model_name, base.pre_tokenizer)
    decides = (said, base.gguf is None, *model, recipe.llama_cpp, recipe.convert_with)
    if decides not in _read_bases:  # a project may have thousands of recipes of one base
        config = configuration(local["config.json"]) if "config.json" in local else None
        if config is not None:
            contents.check_index(str(recipe.base.path), local, local, recipe.convert_with != OWN)
        sources = contents.source_order(local) if config else None
        _read_bases[decides] = _read_base(recipe, asked, config, local, sources, files)
    return _with_texts(recipe, _read_bases[decides], asked, files, digest)


def _with_texts(
    recipe: Recipe,
    read: Lock,
    base: Mapping[str, str],
    files: Mapping[str, FileFact],
    digest: Callable[[Path], str],
) -> Lock:
    known, measured, searched = (texts.resolve(recipe, of(recipe), digest) for of in texts.KINDS.values())
    extra = texts.extra(recipe)
    return replace(read, base=base, files=files, calibration=known, evaluation=measured, search=searched, extra=extra)


def _read_base(
    recipe: Recipe,
    base: Mapping[str, str],
    config: Mapping[str, Any] | None,
    at_hand: Mapping[str, Path],
    sources: list[str] | None,
    names: Collection[str],
) -> Lock:
    """What the base's small files say; `sources` are the names of its tensors, where they are known, `names` those of
    its files. Of `tools` it holds only why our own code does not convert it."""
    from quantmill.checkpoint.about import about as about_files
    from quantmill.checkpoint.contents import unread
    from quantmill.recipe import gguf_base

    output, metadata_bytes, notes = False, None, list[str]()
    tools: dict[str, dict[str, str]] = {}
    if recipe.base.gguf is None and recipe.convert_with == LLAMA_CPP:
        tools["convert"] = {"why": ""}
    elif recipe.base.gguf is None and (why := foreign(names)):
        tools["convert"] = {"why": why}
    elif config is not None:
        check_type(recipe, config)
        _check_weights(recipe, at_hand)
        with told_of_base(base_words(base)):
            try:
                output, metadata_bytes = converted(recipe, base_words(base), config, at_hand, sources, notes)
                notes += unread(names)
            except ModelError as error:
                if recipe.convert_with != AUTO:
                    raise
                notes.clear()
                tools["convert"] = {"why": str(error)}
    with told_of_base(base_words(base)):
        about, shape = gguf_base.about(recipe, at_hand, notes) if recipe.base.gguf else (about_files(at_hand), {})
    return Lock(base, {}, config, metadata_bytes, about, notes=tuple(notes), output=output, shape=shape, tools=tools)


def _check_weights(recipe: Recipe, local: Mapping[str, Path]) -> None:
    """UsageError where a folder's weights have become such that another type is made of them than the lock says."""
    from quantmill.checkpoint.auto_type import of_files

    if open_type(recipe) and (chosen := of_files(recipe.reference, local)) not in (None, recipe.base.type):
        raise lock_drift(path_of(recipe), f"its base's type is {recipe.base.type}, and by the weights {chosen}")


def _resolve_hub(recipe: Recipe, digest: Callable[[Path], str]) -> Lock:
    from quantmill.architectures.checkpoint_tensors import tensors
    from quantmill.checkpoint import contents
    from quantmill.network.hub import fetch_small, list_files
    from quantmill.recipe.hub_heads import fetch_heads

    repo = recipe.base.repo or ""
    commit, listed = list_files(repo, recipe.base.revision)
    files: dict[str, FileFact] = {}
    small: dict[str, Path] = {}
    near = list(filter(is_near, listed))
    indexed = None if recipe.convert_with == OWN else frozenset[str]()
    if asks_index(recipe, near):
        indexed = index_names(fetch_small(repo, INDEX, commit, listed[INDEX]))
    for name in wanted(repo, near, recipe.base.readme, more(recipe), indexed):
        sha256, size = listed[name].sha256, listed[name].size
        if sha256 is None or not name.endswith(".safetensors"):
            small[name] = fetch_small(repo, name, commit, listed[name])
            sha256, size = digest(small[name]), small[name].stat().st_size
        files[name] = FileFact(sha256, size)
    base = {**requested_base(recipe), "commit": commit}
    contents.check_index(repo, small, listed, recipe.convert_with != OWN)
    config = configuration(small["config.json"]) if "config.json" in small else None
    with TemporaryDirectory() as folder:
        at_hand = small
        if recipe.convert_with != LLAMA_CPP and config is not None and not foreign(files):
            with suppress(ModelError) if recipe.convert_with == AUTO else nullcontext():
                tensors(config)  # what config.json and the index say needs no byte of the weights
                if sources := contents.source_order(small):
                    contents.check_sources(repo, sources, config)
                weights = [name for name in contents.weights(small, files) if name not in small]
                at_hand = small | fetch_heads(repo, commit, weights, listed, Path(folder))
        read = _read_base(recipe, base, config, at_hand, contents.source_order(at_hand), files)
    return _with_texts(recipe, read, base, files, digest)
