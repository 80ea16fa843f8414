"""The root of every error that quantmill raises on purpose.

An error is one sentence: what is wrong, where, and what would be right. Libraries raise; only the command line prints
and exits, with the error's `exit_code`.
"""

import errno
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import TracebackType

# Of the disk, and of what runs out: memory, open files, room.
MACHINES = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.ENOLCK, errno.ESTALE)
MOST = 700  # characters of a message: the longest of our own lists 60 names; whatever is longer, a file chose


def printable(text: str) -> str:
    """The text as one line that no terminal obeys: a file or a stranger may have named what is in it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class QuantmillError(Exception):
    """The work failed: a wrong file, a full disk, a broken promise. Exit code 1."""

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__())


class UsageError(QuantmillError):
    """The call or the recipe is wrong, and nothing was started. Exit code 2."""

    exit_code = 2


_options: Collection[str] | None = None  # of the command line that runs; None where a recipe says what is wanted


@contextmanager
def asked_by(options: Collection[str]) -> Iterator[None]:
    """Within it, `way` speaks to a command line that has these options and no recipe."""
    global _options
    before, _options = _options, options
    try:
        yield
    finally:
        _options = before


def way(key: str, option: str = "", otherwise: str = "") -> str:
    """What helps, in the words of whoever asked: a recipe's `key`, or a command line's `option` where it has that, and
    `otherwise` where not."""
    if _options is None:
        return key
    return option if option in _options else otherwise


def heed_machine(error: OSError) -> None:
    """Raises an error of the machine, which no other call would have been spared: no error of use is made of it."""
    if error.errno in MACHINES:
        raise error


def one_line(text: str) -> str:
    """A `printable` message, and of a long one the first and the last part: a damaged file may name its tensors as it
    likes, and at any length."""
    return _cut(printable(_cut(text)))


def _cut(text: str) -> str:
    return text if len(text) <= MOST else f"{text[: MOST * 2 // 3]}…{text[1 - MOST // 3 :]}"


def apart(written: Iterable[Path], read: Iterable[Path]) -> None:
    """Raises UsageError unless no file that is to be written is one of those that are read, under whatever name."""
    sources = [path for path in read if path.exists()]
    for target in written:
        if target.exists() and any(target.samefile(path) for path in sources):
            raise UsageError(f"{target}: the call reads this file, so it cannot be what it writes; name another output")


class Unfit(Exception):
    """The value of a recipe's key `key` does not fit; `problem` says what would. Raised by what reads one table, for
    recipe.py, which knows the file."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key, self.problem = key, problem


def sentence(error: OSError) -> str:
    """What the operating system refused, and where, as one sentence."""
    place = error.filename or _in_hand(error.__traceback__)
    where = f"{place}: " if place else ""
    return one_line(f"{where}{error.strerror or error}; check the path, its rights and the room left")


def _in_hand(trace: TracebackType | None) -> str:
    """The path that the failing code had in hand: an error of a file that is open names none. Empty for none."""
    found = ""
    for frame, _ in walk_tb(trace):
        for name, value in frame.f_locals.items():
            if isinstance(value, Path) or (name == "path" and isinstance(value, str)):
                found = str(value)
    return found


def listed(names: Sequence[str]) -> str:
    """`a, b, c` for a message, which many names do not make endless: `a, b, c and 997 more`."""
    if len(names) <= 4:
        return ", ".join(names)
    return f"{', '.join(names[:3])} and {len(names) - 3} more"


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for the known spelling closest to `word`, or an empty string when none is close."""
    import difflib  # late: only a message needs it

    by_fold = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), by_fold, n=1, cutoff=0.6)
    return f" (did you mean {by_fold[found[0]]}?)" if found else ""


def built(name: str | Path) -> str:
    """` (did you mean release/X?)` where the name is that of a recipe whose release lies here, or an empty string."""
    path = Path("release", name)
    return f" (did you mean {path}?)" if Path(name).name == str(name) and path.is_dir() else ""
