"""Whether a file was made of the base itself, or of another file that was made of it first."""

from collections.abc import Sequence

from quantmill import _kernels
from quantmill.audit.observed import Observed
from quantmill.audit.retyped_base import MIDDLES, RetypedBase
from quantmill.audit.tensor_audit import Auditor
from quantmill.errors import QuantmillError
from quantmill.reference.reference import Reference

TRIED = 4  # tensors, whose heads are looked at


def largest(auditor: Auditor, names: Sequence[str]) -> list[str]:
    """The largest of the tensors that were quantized: what is tried before a file is read whole."""
    writable = _kernels.quantize_types()
    sizes = {}
    for name in names:
        info, base = auditor.release.info(name), auditor.base.info(name)
        if info.type != base.type and {info.type.name, base.type.name} <= set(writable):
            sizes[name] = info.nbytes
    return sorted(sizes, key=lambda name: -sizes[name])[:TRIED]


def worst(findings: Sequence[Observed]) -> list[str]:
    """The tensors with the most blocks that differ: what is tried afterwards."""
    found = sorted((f for f in findings if f.way is not None and f.differing), key=lambda f: -f.differing)
    return [each.name for each in found[:TRIED]]


def fitting(auditor: Auditor, names: Sequence[str], likely: list[Reference]) -> RetypedBase | None:
    """The base in the type in which it gives the file's bytes, where it does not as it is.

    That is so if nearly all blocks of the heads of these tensors are then the same, and fewer were before.
    """
    fewest, _ = auditor.misfit(names, likely)
    if not fewest:
        return None
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
