"""What a recipe and its lock say for the release's page: the card step's params, as plain JSON."""

from collections.abc import Mapping
from typing import Any

from quantmill.architectures.configuration import assumed
from quantmill.architectures.errors import ModelError
from quantmill.architectures.known import class_of
from quantmill.recipe.calibration_table import TextSource
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe

CHAT = ("chat_template", "bos_token", "eos_token")


def params(recipe: Recipe, lock: Lock) -> dict[str, Any]:
    """What decides the page beside the files. The recipe's [card] wins over what the model says of itself."""
    card, about = recipe.card, lock.about
    front = {
        "license": card.license or about.get("license"),
        "license_name": card.license_name or about.get("license_name"),
        "license_link": card.license_link or about.get("license_link"),
        "language": list(card.language) or about.get("language", []),
        "datasets": list(card.datasets) or about.get("datasets", []),
        "tags": list(card.tags),
    }
    notes: dict[str, Any] = {"requantized": recipe.base.type} if recipe.base.quantized else {}
    if recipe.imatrix and recipe.imatrix.zero_as_one:
        notes["zero_as_one"] = True
    if _reads_text_alone(lock) and not recipe.projectors:
        notes["text_alone"] = True
    if "convert" in lock.tools:
        notes["converted_by"] = _tool(lock, "convert")
    elif recipe.converts_as:
        notes["converted_as"] = recipe.converts_as
    if "imatrix" in lock.tools:
        notes["measured_by"] = _tool(lock, "imatrix")
    if "evaluation" in lock.tools:
        notes["evaluated_by"] = _tool(lock, "evaluation")
    known = recipe.base.repo or recipe.base.original or about.get("repo")
    more: dict[str, Any] = {"thumbnail": card.thumbnail, "support": card.support, "private": card.private}
    more |= {
        "extra": lock.extra,
        "name": _title(recipe, lock) if known else None,
        "parents": [] if known else about.get("base_models", []),
    }
    more |= {"base_model": list(recipe.base.base_model), "recipe": recipe.name}
    return {
        "prefix": recipe.prefix,
        "llama_cpp": recipe.llama_cpp,
        "base": known or _title(recipe, lock) or recipe.base.model_name,
        "on_hub": known is not None,
        "repo": recipe.repo,
        "quantized_by": card.quantized_by or (recipe.repo or "").partition("/")[0] or None,
        "pipeline_tag": card.pipeline_tag or about.get("pipeline_tag") or "text-generation",
        "front": {key: value for key, value in front.items() if value},
        "calibration": _texts(recipe),
        "imatrix": recipe.imatrix is not None,
        "tied": _tied(lock),
        "shape": shape(lock),
        "max_size": recipe.max_size,
        "credits": list(card.credits),
        "chat": {key: about[key] for key in CHAT if key in about},
        **({"notes": notes} if notes else {}),
        **({"searched": _searched(recipe)} if recipe.targets else {}),
        **{key: value for key, value in more.items() if value},
        **({"unknown_architecture": True} if "unknown_architecture" in about else {}),
    }


def _tool(lock: Lock, step: str) -> str:
    """The llama.cpp that made a step's output, as `llama.cpp b11739, CUDA`."""
    facts = lock.tools[step]
    return ", ".join([f"llama.cpp {facts['llama_cpp']}", *facts.get("backends", ())])


def _reads_text_alone(lock: Lock) -> bool:
    """Whether the model has parts that its files do not, such as those for images."""
    try:
        return bool(class_of(lock.config or {})[1].others)
    except ModelError:
        return False


def _searched(recipe: Recipe) -> dict[str, Any]:
    """The files whose types are searched, and the texts."""
    on = [_named(recipe.search.text)] if recipe.search and recipe.search.text else _texts(recipe)
    assert recipe.evaluation is not None
    files = [target.name for target in recipe.targets]
    return {"files": files, "on": on, "measured": _named(recipe.evaluation.text)}


def _named(text: TextSource) -> list[str]:
    return [text.name.rstrip("/").rpartition("/")[2], text.url or ""]


def _texts(recipe: Recipe) -> list[list[str]]:
    """[name, address] of each text that the importance matrix is computed over; the address may be empty."""
    if recipe.card.calibration:
        where = recipe.card.calibration
        return [[where.rstrip("/").rpartition("/")[2], where]]
    texts = recipe.calibration.texts if recipe.calibration else ()
    return [_named(text) for text in texts]


def _title(recipe: Recipe, lock: Lock) -> str | None:
    """What the page calls the model; None where that is the last part of the base's own name."""
    base = recipe.base
    if base.repo is not None:
        return None
    if base.name or base.original or lock.about.get("repo") or base.gguf is None:
        return base.name
    return lock.about.get("name") or base.gguf.stem


def _tied(lock: Lock) -> bool:
    if lock.config is None:
        return bool(lock.shape.get("tied"))
    return bool(assumed(lock.config).get("tie_word_embeddings", False)) and not lock.output


def shape(lock: Lock) -> dict[str, int] | None:
    """What of the architecture decides memory, by the names of choose.shape.Shape; None where the configuration, or a
    GGUF base's metadata, do not say enough."""
    if lock.config is None and lock.shape:
        return {key: value for key, value in lock.shape.items() if key != "tied"}
    found = assumed(lock.config or {})
    layers, heads, width = (_number(found, key) for key in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    if not (layers and heads and width):
        return None
    head = _number(found, "head_dim") or width // heads
    return {
        "layers": layers,
        "heads": heads,
        "cache": 2 * (_number(found, "num_key_value_heads") or heads) * head,
        "width": width,
        "feed_forward": _number(found, "intermediate_size"),
        "vocabulary": _number(found, "vocab_size"),
        "context": _number(found, "max_position_embeddings"),
    }


def _number(found: Mapping[str, Any], key: str) -> int:
    value = found.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
