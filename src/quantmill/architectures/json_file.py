"""A model's JSON files, read with one sentence for whatever is wrong with them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.architectures.errors import DamagedModel, UnsuitableModel
from quantmill.listing import UnfitJSON, strangers_json

TEMPLATES = "additional_chat_templates"  # the one folder of a model that is read, for its *.jinja
LIMIT = 10_000_000  # bytes: the largest config.json or tokenizer_config.json has 1.2 MB
LIMITS = {"tokenizer.json": 100_000_000, "tokenizer.model": 100_000_000}  # the largest known have 35 MB and 5 MB


def is_near(name: str) -> bool:
    """Whether a file of this name, below a model's folder, may be one that is read."""
    return "/" not in name or (name.startswith(f"{TEMPLATES}/") and name.count("/") == 1 and name.endswith(".jinja"))


def model_files(folder: Path) -> dict[str, Path]:
    """The files of a model's folder that may be read, by the names that a conversion knows."""
    below = folder / TEMPLATES
    paths = [*folder.iterdir(), *(below.iterdir() if below.is_dir() else ())]
    named = {path.relative_to(folder).as_posix(): path for path in paths if path.is_file()}
    return {name: path for name, path in named.items() if is_near(name)}


def read_file(path: Path, name: str, error: type[DamagedModel]) -> bytes:
    """The bytes of the model's file `name`; raises `error` when it is longer than any such file is."""
    most = LIMITS.get(name, LIMIT)
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise error(f"{name} is larger than {most} bytes, which no such file is; fetch it again")
    return data


def load_json(files: Mapping[str, Path], name: str, error: type[DamagedModel]) -> dict[str, Any] | None:
    """The object in the file `name`; None when the model has no such file. Raises `error` for anything else.

    A text with half of a surrogate pair (an escape alone can hold one) is refused: no GGUF file can store it.
    """
    if name not in files:
        return None
    raw = read_file(files[name], name, error)
    try:
        data = strangers_json(raw)
        if rb"\ud" in raw or rb"\uD" in raw:
            json.dumps(data, ensure_ascii=False).encode()
    except UnfitJSON as unfit:
        raise error(f"{name} {unfit}; fetch it again") from None
    except ValueError:
        raise error(f"{name} is not valid JSON in UTF-8; fetch it again") from None
    if not isinstance(data, dict):
        raise error(f"{name} holds no JSON object; fetch it again")
    return data


def load_config(files: Mapping[str, Path]) -> dict[str, Any]:
    """config.json as an object; raises ModelError."""
    config = load_json(files, "config.json", DamagedModel)
    if config is None:
        raise UnsuitableModel("the model has no config.json; a model in Hugging Face layout has one")
    return config
