"""Importance matrix files: one importance vector a tensor, in the two forms that llama-imatrix has had.

`read` gives what a quantizer needs, whichever form a file has; `Sums` is what is collected, merged and written.
"""

import os
from pathlib import Path

from quantmill.errors import heed_machine
from quantmill.imatrix import gguf_form, legacy
from quantmill.imatrix.legacy import Entry, encode
from quantmill.imatrix.sums import Sums
from quantmill.imatrix.vectors import Imatrix, ImatrixError, ImatrixUsageError, checked

__all__ = ["Entry", "Imatrix", "ImatrixError", "Sums", "encode", "entries", "load", "read"]


def read(path: str | os.PathLike[str]) -> Imatrix:
    """The imatrix in the file, whichever form it has; ImatrixError names what is wrong with it.

    A later entry of the same name replaces an earlier one. Values must be finite and not negative; lengths are the
    caller's to judge.
    """
    data = _legacy(path)
    return checked(str(path), gguf_form.vectors(path) if data is None else legacy.vectors(str(path), data))


def entries(path: str | os.PathLike[str]) -> tuple[list[Entry], bytes, int]:
    """A legacy file as it is stored: its entries in order, the calibration file's name and the number of chunks."""
    return legacy.parse(str(path), _legacy(path) or b"")


def load(path: str | os.PathLike[str], call_rows: int) -> Sums:
    """The sums that a file stands for, to merge or to look into. A legacy file does not say how many rows of
    activations a call had: `call_rows` are assumed."""
    data = _legacy(path)
    if data is None:
        return Sums.of_gguf(gguf_form.load(path))
    return Sums.of_legacy(*legacy.parse(str(path), data), call_rows)


def _legacy(path: str | os.PathLike[str]) -> bytes | None:
    """The file's bytes, None for one in GGUF."""
    try:
        with open(path, "rb") as file:
            return None if file.read(4) == b"GGUF" else Path(path).read_bytes()
    except OSError as error:
        heed_machine(error)
        raise ImatrixUsageError(f"{path}: cannot be read ({error.strerror}); name an existing imatrix file") from None
