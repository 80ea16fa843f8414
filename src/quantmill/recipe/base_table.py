"""What a recipe says of its base: the keys of [base], where the weights come from and what the model is called."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.errors import QuantmillError, Unfit, UsageError
from quantmill.reference.converter import AUTO
from quantmill.reference.reference import Reference

KEYS: dict[str, str] = {
    "base.repo": "string",
    "base.revision": "string",
    "base.path": "string",
    "base.gguf": "file",
    "base.type": "string",
    "base.name": "string",
    "base.original": "string",
    "base.base_model": "string or list",
    "base.pre_tokenizer": "string",
    "base.allow_requantize": "boolean",
    "base.readme": "boolean",
}
BASE_TYPES = ("BF16", "F16", "F32")
REPO = r"(?!\.+/)[\w.-]+/(?!\.+\Z)[\w.-]+"
# Of a branch, a tag or a commit, as git takes it.
_REVISION = r"(?![./])(?!.*(?:\.\.|//|/\.))[^\s~^:?*\[\\]*[^\s~^:?*\[\\./]"


@dataclass(frozen=True)
class Base:
    """Where the weights come from. Exactly one of `repo` (with `revision`), `path` and `gguf` is set.

    `type`: one of BASE_TYPES or, of a GGUF base with `allow_requantize`, the ftype that it is quantized as
    `original`: the Hub repository of which a folder or GGUF file was made
    `base_model`: what the page's front matter names, where that is another
    """

    repo: str | None
    revision: str
    path: Path | None
    gguf: Path | None
    type: str
    name: str | None
    original: str | None
    base_model: tuple[str, ...]
    pre_tokenizer: str | None
    allow_requantize: bool
    readme: bool  # whether the model's own page is read

    @property
    def quantized(self) -> bool:
        """Whether the base is quantized already."""
        return self.type not in BASE_TYPES

    @property
    def model_name(self) -> str:
        """The model's name for its metadata: the recipe's, or the last part of the repository's or folder's name."""
        where = self.repo or (self.path.name if self.path else "")
        return self.name or where.rsplit("/", 1)[-1]


def base(reference: Reference, get: Callable[[str], Any], folder: Path, locked: str = "") -> Base:
    """The [base] of a recipe in `folder`; `locked` is the type that its lock has. Raises Unfit."""
    given = [key for key in ("repo", "path", "gguf") if get(f"base.{key}") is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise Unfit("base", f"found {found}; give exactly one of repo, path and gguf")
    (given_by,) = given
    if get("base.allow_requantize") and given_by != "gguf":
        raise Unfit("base.allow_requantize", "only a GGUF base (base.gguf) is quantized already; remove it")
    if given_by != "repo" and get("base.revision") is not None:
        raise Unfit("base.revision", "only a Hub repository (base.repo) has revisions; remove it")
    if not re.fullmatch(_REVISION, get("base.revision") or "main"):
        raise Unfit("base.revision", f"{get('base.revision')!r} cannot name a branch, tag or commit; give one")
    for key in ("pre_tokenizer", "readme"):
        if given_by == "gguf" and get(f"base.{key}") is not None:
            raise Unfit(f"base.{key}", "a GGUF base already has its metadata; remove it")
    if given_by == "repo" and get("base.original") is not None:
        raise Unfit("base.original", "base.repo names the original already; remove it")
    models = get("base.base_model") or ()
    models = (models,) if isinstance(models, str) else tuple(models)
    named = [(key, name) for key in ("repo", "original") if (name := get(f"base.{key}")) is not None]
    for key, name in [*named, *(("base_model", name) for name in models)]:
        if not re.fullmatch(REPO, name):
            raise Unfit(f"base.{key}", f"{name!r} is not the name of a Hub repository like Qwen/Qwen3-8B")
    if (pre := get("base.pre_tokenizer")) is not None:
        try:
            reference.check_pre_tokenizer(pre)
        except UsageError as error:
            raise Unfit("base.pre_tokenizer", str(error)) from None
    name, path = get("base.name"), get("base.path")
    if name is not None and not (name.isprintable() and name.strip()):
        raise Unfit("base.name", f"{name!r} is empty or has characters that no page can show; write it in one line")
    if given_by == "path" and not name and Path(path).name in ("", ".."):
        raise Unfit("base.name", f"{path!r} does not end in a name; give the model's here")
    gguf = folder / get("base.gguf") if given_by == "gguf" else None
    return Base(
        repo=get("base.repo"),
        revision=get("base.revision") or "main",
        path=folder / path if given_by == "path" else None,
        gguf=gguf,
        type=_type(reference, get, gguf, folder / path if given_by == "path" else None, locked),
        name=name,
        original=get("base.original"),
        base_model=models,
        pre_tokenizer=pre,
        allow_requantize=get("base.allow_requantize") or False,
        readme=get("base.readme") is not False,
    )


def chooses_type(reference: Reference, stated: str | None) -> bool:
    """Whether the converter chooses the type of a base that is converted, by what a recipe says as `base.type`."""
    return (stated or reference.converter.out_type).upper() == AUTO


def _type(reference: Reference, get: Callable[[str], Any], gguf: Path | None, path: Path | None, locked: str) -> str:
    kind, again = get("base.type"), get("base.allow_requantize") or False
    if kind is None and gguf is not None:
        kind = _read(gguf)
        if kind not in BASE_TYPES and not again:
            kind = None  # what is refused, once the base is looked at
    if gguf is None and chooses_type(reference, kind):
        kind = locked or _chosen(reference, path)
    kind = kind or BASE_TYPES[0]
    if again and kind not in BASE_TYPES:
        try:
            return reference.ftype(kind).name
        except UsageError as error:
            raise Unfit("base.type", str(error)) from None
    if kind not in BASE_TYPES:
        right = ", or allow_requantize = true for a base that is quantized" if gguf is not None else ""
        raise Unfit("base.type", f"{kind!r} is not one of {', '.join(BASE_TYPES)}{right}")
    return str(kind)


def _chosen(reference: Reference, path: Path | None) -> str | None:
    """What the converter makes of the weights at hand; of a Hub repository's, the lock is asked."""
    from quantmill.architectures.json_file import model_files
    from quantmill.checkpoint.auto_type import of_files

    return of_files(reference, model_files(path)) if path is not None and path.is_dir() else None


def _read(path: Path) -> str | None:
    """What a GGUF base is; None where it cannot be read, which is told when it is to be used."""
    from quantmill.gguf import read
    from quantmill.reference.base_type import base_type

    try:
        with read(path, str(path)) as file:
            number = file.metadata["general.file_type"].value if "general.file_type" in file.metadata else None
            return base_type(file.tensor_entries(), number) or None
    except (QuantmillError, OSError):
        return None
