"""The names of a release's files, and how a listing is read.

Nothing heavy is imported: every build reads this.
"""

import json
from pathlib import Path
from typing import Any

LISTING, SUMS = "release.json", "SHA256SUMS"  # names in a release's folder
LISTING_LIMIT = 10_000_000  # bytes of a listing that is read from elsewhere


def parse_json(data: bytes) -> Any:
    """What a stranger's JSON says; None for what is none."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def read_json(path: Path) -> Any:
    """The same of a file; None also where it cannot be read."""
    try:
        return parse_json(path.read_bytes())
    except OSError:
        return None
