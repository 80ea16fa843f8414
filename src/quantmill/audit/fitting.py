"""Whether a file was made of the base itself, or of another file that was made of it first."""

from collections.abc import Sequence

from quantmill.audit.retyped_base import MIDDLES, RetypedBase
from quantmill.audit.tensor_audit import Auditor, Observed
from quantmill.errors import QuantmillError
from quantmill.reference.reference import Reference

TRIED = 4  # tensors, of which those with the most blocks that differ


def fitting(auditor: Auditor, findings: Sequence[Observed], likely: list[Reference]) -> RetypedBase | None:
    """The base in the type in which it gives the file's bytes, where it does not as it is.

    That is so if nearly all blocks of the heads of its worst tensors are then the same, and fewer were before.
    """
    worst = sorted((f for f in findings if f.way is not None and f.differing), key=lambda f: -f.differing)[:TRIED]
    if not worst:
        return None
    names = [found.name for found in worst]
    fewest, _ = auditor.misfit(names, likely)
    best = None
    for ftype in MIDDLES:
        try:
            base = RetypedBase(auditor.base, ftype)
        except QuantmillError:  # it cannot be of this type
            continue
        if not base.differs:
            continue
        tried = Auditor(auditor.release, base, auditor.guide, auditor.threads, auditor.sample)
        differing, blocks = tried.misfit(names, likely)
        auditor.bytes_read += tried.bytes_read
        if differing < fewest and differing * 10 <= blocks:
            best, fewest = base, differing
    return best
