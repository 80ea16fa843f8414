"""What a recipe says of its release's page and of where it is published: the keys of [card] and [publish]."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.errors import Unfit

KEYS: dict[str, str] = {
    "card.quantized_by": "string",
    "card.license": "string",
    "card.license_name": "string",
    "card.license_link": "string",
    "card.language": "list",
    "card.datasets": "list",
    "card.tags": "list",
    "card.pipeline_tag": "string",
    "card.calibration": "string",
    "card.credits": "list",
    "card.thumbnail": "string",
    "card.support": "string",
    "card.extra": "file",
    "card.private": "boolean",
    "publish.owner": "string",
    "publish.repo": "string",
    "publish.as_built": "boolean",
    "publish.keep_files": "count",
}
KEEP_FILES = 2  # that a build which publishes as it goes has at a time
_PART = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?"  # of a Hub repository's name
_LANGUAGE = r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*"


@dataclass(frozen=True)
class Card:
    """What the recipe says of the page; None or nothing where the base model's own page is to be asked.

    `extra`: a file of Markdown; `private`: only who has a right to it sees the repository.
    """

    quantized_by: str | None
    license: str | None
    license_name: str | None
    license_link: str | None
    language: tuple[str, ...]
    datasets: tuple[str, ...]
    tags: tuple[str, ...]
    pipeline_tag: str | None
    calibration: str | None
    credits: tuple[str, ...]
    thumbnail: str | None
    support: str | None
    extra: Path | None
    private: bool


def card(get: Callable[[str], Any], folder: Path) -> Card:
    """The [card] of a recipe in `folder`, whose keys' kinds are known to be right; `get` is its value by key. Raises
    Unfit."""

    def text(key: str) -> str | None:
        value = get(f"card.{key}")
        return None if value is None else _printable(f"card.{key}", value)

    def texts(key: str, pattern: str = "", like: str = "") -> tuple[str, ...]:
        values = tuple(_printable(f"card.{key}", value) for value in get(f"card.{key}") or ())
        for value in values if pattern else ():
            if not re.fullmatch(pattern, value):
                raise Unfit(f"card.{key}", f"{value!r} is not {like}")
        return values

    thumbnail = text("thumbnail")
    if thumbnail is not None and not re.fullmatch(r"https?://[^\s\"<>()]+", thumbnail):
        raise Unfit("card.thumbnail", f"{thumbnail!r} is not the address of a picture like https://example.org/a.png")
    return Card(
        quantized_by=text("quantized_by"),
        license=text("license"),
        license_name=text("license_name"),
        license_link=text("license_link"),
        language=texts("language", _LANGUAGE, "a language's code like en or zh-TW"),
        datasets=texts("datasets", f"{_PART}(?:/{_PART})?", "the name of a Hub data set like open-r1/codeforces-cots"),
        tags=texts("tags"),
        pipeline_tag=text("pipeline_tag"),
        calibration=text("calibration"),
        credits=texts("credits"),
        thumbnail=thumbnail,
        support=text("support"),
        extra=folder / extra if (extra := text("extra")) else None,
        private=get("card.private") or False,
    )


def repo(get: Callable[[str], Any], prefix: str) -> str | None:
    """The Hub repository that the release is published as: publish.repo, or `<publish.owner>/<prefix>-GGUF`; None when
    the recipe names neither. Raises Unfit."""
    owner, whole = get("publish.owner"), get("publish.repo")
    if owner is not None and whole is not None:
        raise Unfit("publish.repo", "it holds the owner already; remove publish.owner")
    if owner is not None and not re.fullmatch(_PART, owner):
        raise Unfit("publish.owner", f"{owner!r} is not the name of a Hub user or organization")
    name = whole if owner is None else f"{owner}/{prefix}-GGUF"
    if name is not None and not re.fullmatch(f"{_PART}/{_PART}", name):
        raise Unfit("publish.repo", f"{name!r} is not the name of a Hub repository like someone/Qwen_Qwen3-8B-GGUF")
    return None if name is None else str(name)


def keep_files(get: Callable[[str], Any]) -> int:
    """How many files of the release a build that publishes them as they are built has here at a time. Raises Unfit."""
    found = get("publish.keep_files")
    if found is None:
        return KEEP_FILES
    if not found:
        raise Unfit("publish.keep_files", "a file that is made is kept meanwhile; give 1 or more")
    return int(found)


def _printable(key: str, value: str) -> str:
    if not value.isprintable() or not value.strip():
        raise Unfit(key, f"{value!r} is empty or has characters that no page can show; write it in one line")
    return value
