"""What a recipe and its lock say for the release's page: the card step's params, as plain JSON."""

from typing import Any

from quantmill.lock import Lock
from quantmill.recipe import Recipe

CHAT = ("chat_template", "bos_token", "eos_token")
CACHE_BYTES = 2  # of a number in llama.cpp's KV cache, F16 unless it is told otherwise


def params(recipe: Recipe, lock: Lock) -> dict[str, Any]:
    """What decides the page beside the files. The recipe's [card] wins over what the model says of itself."""
    said, about = recipe.card, lock.about
    front = {
        "license": said.license or about.get("license"),
        "license_name": said.license_name or about.get("license_name"),
        "license_link": said.license_link or about.get("license_link"),
        "language": list(said.language) or about.get("language", []),
        "datasets": list(said.datasets) or about.get("datasets", []),
        "tags": list(said.tags),
    }
    return {
        "prefix": recipe.prefix,
        "llama_cpp": recipe.llama_cpp,
        "base": base_name(recipe),
        "on_hub": recipe.base.repo is not None,
        "repo": recipe.repo,
        "quantized_by": said.quantized_by or (recipe.repo or "").partition("/")[0] or None,
        "pipeline_tag": said.pipeline_tag or about.get("pipeline_tag") or "text-generation",
        "front": {key: value for key, value in front.items() if value},
        "calibration": said.calibration,
        "imatrix": recipe.imatrix is not None,
        "tied": bool((lock.config or {}).get("tie_word_embeddings", False)),
        "context_bytes": context_bytes(lock),
        "max_size": recipe.max_size,
        "credits": list(said.credits),
        "chat": {key: about[key] for key in CHAT if key in about},
    }


def base_name(recipe: Recipe) -> str:
    """The base's repository, or its name."""
    return recipe.base.repo or recipe.base.model_name or (recipe.base.gguf.stem if recipe.base.gguf else "")


def context_bytes(lock: Lock) -> int | None:
    """Bytes of KV cache that one token takes; None where the configuration does not say enough."""
    found = lock.config or {}
    layers, heads = found.get("num_hidden_layers"), found.get("num_attention_heads")
    groups = found.get("num_key_value_heads") or heads
    width = found.get("head_dim") or _ratio(found.get("hidden_size"), heads)
    values = (layers, groups, width)
    if not all(isinstance(value, int) and value > 0 for value in values):
        return None
    return 2 * CACHE_BYTES * int(layers or 0) * int(groups or 0) * int(width or 0)


def _ratio(width: Any, heads: Any) -> int | None:
    return width // heads if isinstance(width, int) and isinstance(heads, int) and heads > 0 else None
