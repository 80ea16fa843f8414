"""The root of every error that quantmill raises on purpose.

An error is one sentence: what is wrong, where, and what would be right. Libraries raise; only the command line prints
and exits, with the error's `exit_code`.
"""

import difflib
from collections.abc import Iterable


class QuantmillError(Exception):
    """The work failed: a wrong file, a full disk, a broken promise. Exit code 1."""

    exit_code = 1


class UsageError(QuantmillError):
    """The call or the recipe is wrong, and nothing was started. Exit code 2."""

    exit_code = 2


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for the known spelling closest to `word`, or an empty string when none is close."""
    by_fold = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), by_fold, n=1, cutoff=0.6)
    return f" (did you mean {by_fold[found[0]]}?)" if found else ""
