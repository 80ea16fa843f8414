"""The YAML between the page's first `---` lines, from which the Hub makes its index."""

import importlib
from typing import Any

from quantmill.card.card_facts import CardFacts
from quantmill.card.markdown import plain


def front_matter(facts: CardFacts) -> list[str]:
    """The lines, with the `---` around them, in the order that release pages have."""
    found: dict[str, Any] = {}
    if facts.quantized_by:
        found["quantized_by"] = facts.quantized_by
    found["pipeline_tag"] = facts.pipeline_tag
    models = facts.base_model or ((facts.base,) if facts.on_hub else ())
    if models:
        found |= {"base_model": models[0] if len(models) == 1 else list(models), "base_model_relation": "quantized"}
    elif facts.parents:  # of what these files are quantized is not known, only what that was made of
        found["base_model"] = list(facts.parents)
    if facts.thumbnail:
        found["thumbnail"] = facts.thumbnail
    found |= facts.front
    yaml: Any = importlib.import_module("yaml")  # late: a no-op needs none
    text = yaml.safe_dump({key: _line(value) for key, value in found.items()}, sort_keys=False, allow_unicode=True)
    return ["---", *text.splitlines(), "---"]


def _line(value: Any) -> Any:
    return [plain(item) for item in value] if isinstance(value, list) else plain(value)
