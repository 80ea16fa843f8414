"""The `general.*` keys: who made the model, out of what, under which licence."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quantmill.architectures.checkpoint_tensors import TensorSpec
from quantmill.architectures.errors import DamagedModel
from quantmill.checkpoint.model_name import Components, components, size_label, title
from quantmill.checkpoint.sampling_keys import sampling
from quantmill.errors import UsageError, way
from quantmill.gguf import KV, kv
from quantmill.reference.reference import Reference

# A fact's name here and the card's keys that state it, the first that is there winning. The first spelling is the
# converter's own, `model_…` its Hugging Face-like one, the rest is common usage.
_CARD = {
    "name": ("name", "model_name"),
    "author": ("author", "model_author", "model_creator"),
    "version": ("version", "model_version"),
    "organization": ("organization", "model_organization"),
    "description": ("description", "model_description"),
    "finetune": ("finetune", "model_finetune"),
    "basename": ("basename", "model_basename", "model_type"),
    "size_label": ("size_label", "model_size_label"),
    "source.url": ("url", "model_url"),
    "source.doi": ("doi", "model_doi"),
    "source.uuid": ("uuid", "model_uuid"),
    "source.repo_url": ("repo_url", "model_repo_url"),
    "license": ("license",),
    "license.name": ("license_name",),
    "license.link": ("license_link",),
}
_PARENTS = {
    "base_model": ("base_model", "base_models", "base_model_sources"),
    "dataset": ("datasets", "dataset", "dataset_sources"),
}
_PARENT_KEYS = ("name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url")


def general(
    reference: Reference,
    card: Mapping[str, Any],
    config: Mapping[str, Any],
    name: str | None,
    specs: Sequence[TensorSpec],
    arch: str,
    files: Mapping[str, Path] | None = None,
) -> Iterator[KV]:
    """The entries from general.architecture to general.languages in the converter's order.

    `files` are the model's by name, `card` is the front matter of its page. `name` is the model's name, which has the
    place of the folder's name there: it names what card and config.json leave unnamed. `specs` are the tensors.
    """
    parameters = sum(spec.n_elements for spec in specs)
    facts = {fact: next((card[key] for key in keys if card.get(key) is not None), None) for fact, keys in _CARD.items()}
    path = config.get("_name_or_path")
    ids = [path] if isinstance(path, str) and path.count("/") <= 1 else []
    if name:
        ids.append(name.rstrip("/").rpartition("/")[2])
    for model_id in ids:
        _fill(facts, components(model_id, parameters))
    if facts["name"] is None:
        by = way("the recipe's `[base] name`", "--name", "its config.json's `_name_or_path`")
        raise UsageError(f"nothing names the model: {by} would")
    if facts["size_label"] is None and parameters:
        facts["size_label"] = _size_label(specs)
    if isinstance(facts["license"], list):
        facts["license"] = ",".join(map(str, facts["license"]))
    yield kv("general.architecture", arch)
    yield kv("general.type", "model")
    yield from sampling(reference, files or {})
    for fact in reference.converter.general:
        yield from _text(f"general.{fact}", facts[fact])
    for kind, keys in _PARENTS.items():
        yield from _parents(kind, card, keys, parameters)
    for key, sources in (("tags", ("tags", "pipeline_tag")), ("languages", ("languages", "language"))):
        values = [utf8(value) for source in sources for value in _listed(card.get(source))]
        if values:
            yield kv(f"general.{key}", values)


def _size_label(specs: Sequence[TensorSpec]) -> str:
    stacks = [spec for spec in specs if "_exps." in spec.name and len(spec.shape) > 2]
    total = sum(spec.n_elements for spec in specs)
    shared = total - sum(spec.n_elements for spec in stacks)
    expert = sum(spec.n_elements // spec.shape[2] for spec in stacks)
    return size_label(total, shared, expert, stacks[0].shape[2] if stacks else 0)


def _text(key: str, value: Any) -> Iterator[KV]:
    """An empty text is left out, as the converter does; a number in the card is its text."""
    if value is not None and utf8(value):
        yield kv(key, utf8(value))


def utf8(value: Any) -> str:
    """As text; half of a surrogate pair, which YAML can escape and UTF-8 cannot hold, becomes a question mark."""
    try:
        return str(value).encode(errors="replace").decode()
    except ValueError:  # only a number can be so
        message = "README.md's front matter has a number of thousands of digits; a text would be right"
        raise DamagedModel(message) from None


def _listed(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) else []


def _fill(facts: dict[str, Any], parts: Components) -> None:
    for fact in ("name", "organization", "basename", "finetune", "version", "size_label"):
        value = getattr(parts, fact)
        if facts[fact] is None and value is not None:
            facts[fact] = title(value) if fact in ("name", "organization") else value


def _parents(kind: str, card: Mapping[str, Any], keys: tuple[str, ...], parameters: int) -> Iterator[KV]:
    if not any(key in card for key in keys):
        return
    value = next(card[key] for key in keys if key in card)
    found = [_parent(item, parameters) for item in _listed(value)]
    yield kv(f"general.{kind}.count", len(found))
    for index, parent in enumerate(found):
        for key in _PARENT_KEYS:
            yield from _text(f"general.{kind}.{index}.{key}", parent.get(key))


def _parent(item: Any, parameters: int) -> Mapping[str, Any]:
    """What is known of a base model or data set from its id, its address, or a table in the card."""
    if isinstance(item, Mapping):
        return item
    if not isinstance(item, str):
        return {}
    found = {}
    model_id: str | None = item
    if item.startswith(("http://", "https://", "ssh://")):
        found["repo_url"] = item
        on_hub = re.match(r"https?://huggingface.co/([^/]+/[^/]+)$", item)
        model_id = on_hub.group(1) if on_hub else None
    if model_id is None:
        return found
    parts = components(model_id, parameters)
    if parts.name is not None:
        found["name"] = title(parts.name)
    if parts.organization is not None:
        found["organization"] = title(parts.organization)
        found.setdefault("repo_url", f"https://huggingface.co/{parts.organization}/{parts.name}")
    if parts.version is not None:
        found["version"] = parts.version
    return found
