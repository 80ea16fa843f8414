"""A model's JSON files, read with one sentence for whatever is wrong with them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.architectures.errors import ModelError


def load_json(files: Mapping[str, Path], name: str, error: type[ModelError]) -> dict[str, Any] | None:
    """The object in the file `name`; None when the model has no such file. Raises `error` for anything else.

    A text with half of a surrogate pair (an escape alone can hold one) is refused: no GGUF file can store it.
    """
    if name not in files:
        return None
    try:
        text = files[name].read_bytes().decode()
        data = json.loads(text)
        if r"\ud" in text or r"\uD" in text:
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise error(f"{name} is not valid JSON in UTF-8; fetch it again") from None
    if not isinstance(data, dict):
        raise error(f"{name} holds no JSON object; fetch it again")
    return data


def load_config(files: Mapping[str, Path]) -> dict[str, Any]:
    """config.json as an object; raises ModelError."""
    config = load_json(files, "config.json", ModelError)
    if config is None:
        raise ModelError("the model has no config.json; a model in Hugging Face layout has one")
    return config
