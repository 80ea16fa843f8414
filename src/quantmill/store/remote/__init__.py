"""The store that machines share: objects and signed records in a bucket or a network folder, by obstore.

Nothing in here is imported before something names such a store or a key that signs releases.
"""

import os
from collections.abc import Mapping
from pathlib import Path

NAME = "quantmill.toml"
VARIABLES = {"url": "QUANTMILL_STORE", "sign": "QUANTMILL_SIGN"}  # they go before the file's values


def named_by(start: Path, environment: Mapping[str, str] = os.environ) -> tuple[Path | None, dict[str, str]]:
    """What names a shared store or a key for work below `start`: the nearest `quantmill.toml` above it, and values of
    the environment."""
    start = start.absolute()
    path = next((folder / NAME for folder in (start, *start.parents) if (folder / NAME).is_file()), None)
    return path, {name: environment[variable] for name, variable in VARIABLES.items() if variable in environment}
