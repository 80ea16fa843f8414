"""What a model says of itself beyond its weights: licence, languages, data sets, chat template.

A release's page is made of it, so the lock keeps it. It was written by strangers: plain texts and lists of them, cut to
length.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.architectures.errors import TokenizerError
from quantmill.architectures.json_file import load_json
from quantmill.checkpoint import readme
from quantmill.checkpoint.general_keys import utf8
from quantmill.gguf import GGUFFile
from quantmill.vocabulary.chat_template import template_entries
from quantmill.vocabulary.hf_tokenizer import content

TEXTS = ("license", "license_name", "license_link", "pipeline_tag")
LISTS = ("language", "datasets")
LENGTH, COUNT = 200, 100  # characters of a text, items of a list
TEMPLATE_LENGTH = 200_000  # the longest known chat templates have some 20,000 characters
# Where converters say of which repository a GGUF file was made, newest first.
SOURCES = ("source.repo_url", "repo_url", "source.huggingface.repository", "source.url", "url")
_TEMPLATE = "tokenizer.chat_template"


def about(files: Mapping[str, Path]) -> dict[str, Any]:
    """What is stated of `TEXTS` and `LISTS` in README.md's front matter, and of `chat_template`, `bos_token` and
    `eos_token` in the tokenizer's files. `files` are a model's by name. Raises a ModelError for a broken file."""
    card = readme.load(files["README.md"]) if "README.md" in files else {}
    found: dict[str, Any] = {key: _text(card.get(key)) for key in TEXTS}
    found |= {key: _texts(card.get(key)) for key in LISTS}
    if isinstance(license_ := card.get("license"), list):
        found["license"] = found["license"] or _texts(license_)
    settings = load_json(files, "tokenizer_config.json", TokenizerError) or {}
    entries = {entry.key: entry.value for entry in template_entries(files, settings)}
    found |= _chat(entries.get(_TEMPLATE), *(content(settings.get(f"{kind}_token")) for kind in ("bos", "eos")))
    return {key: value for key, value in found.items() if value}


def about_gguf(file: GGUFFile) -> dict[str, Any]:
    """The same of a GGUF file's metadata, with `name`, `repo` (the Hub repository that the file was made of) and
    `base_models` (those that this was made of)."""
    names = {"license": "license", "license_name": "license.name", "license_link": "license.link"}
    found: dict[str, Any] = {key: _text(_value(file, f"general.{name}")) for key, name in names.items()}
    found["language"] = _texts(_value(file, "general.languages"))
    found["datasets"] = _texts(_value(file, "general.datasets")) or _numbered(file, "dataset")
    found["name"] = _text(_value(file, "general.name"))
    found["repo"] = next(filter(None, (repository_of(_value(file, f"general.{key}")) for key in SOURCES)), "")
    found["base_models"] = _numbered(file, "base_model")
    tokens = _value(file, "tokenizer.ggml.tokens")
    ids = [_value(file, f"tokenizer.ggml.{kind}_token_id") for kind in ("bos", "eos")]
    known = len(tokens) if isinstance(tokens, list) else 0
    found |= _chat(_value(file, _TEMPLATE), *(tokens[i] if isinstance(i, int) and 0 <= i < known else "" for i in ids))
    return {key: value for key, value in found.items() if value}


def _numbered(file: GGUFFile, kind: str) -> list[str]:
    """The Hub repositories of `general.<kind>.0.repo_url` and so on."""
    count = _value(file, f"general.{kind}.count")
    numbers = range(min(count, COUNT) if isinstance(count, int) else 0)
    return list(filter(None, (repository_of(_value(file, f"general.{kind}.{number}.repo_url")) for number in numbers)))


def repository_of(value: Any) -> str:
    """The Hub repository that a text names, by its address or its name; empty for any other text."""
    found = re.fullmatch(r"(?:https://huggingface\.co/(?:datasets/)?)?([\w.-]+/[\w.-]+?)/?", _text(value), re.ASCII)
    return found[1] if found else ""


def _value(file: GGUFFile, key: str) -> Any:
    entry = file.metadata.get(key)
    return entry.value if entry is not None else None


def _chat(template: Any, bos: Any, eos: Any) -> dict[str, str]:
    found = {"bos_token": _text(bos), "eos_token": _text(eos)}
    if isinstance(template, str) and len(template) <= TEMPLATE_LENGTH:
        found["chat_template"] = utf8(template)
    return found


def _text(value: Any) -> str:
    """A text in one line; a list of one, as some cards have it, is its item."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    text = isinstance(value, str | int | float) and not isinstance(value, bool)
    return " ".join(utf8(value).split())[:LENGTH] if text else ""


def _texts(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    # Norwegian's code is YAML's word for false.
    return list(filter(None, ("no" if item is False else _text(item) for item in items)))[:COUNT]
