"""What a file is good for, by what was measured of it; docs/quality.md says where the limits come from."""

from collections.abc import Sequence

from quantmill.choose.rules import MOST_KLD
from quantmill.released import Quality, ReleasedFile, front

# The largest mean KLD and the smallest share of equal top tokens of each grade; the worse of the two decides.
LIMITS = (
    ("none", 0.002, 0.975),
    ("next_to_none", 0.01, 0.95),
    ("very_small", 0.025, 0.925),
    ("small", 0.05, 0.9),
    ("noticeable", MOST_KLD, 0.85),
    ("clear", 0.25, 0.78),
    ("large", 0.5, 0.68),
    ("very_large", 1.0, 0.55),
)
WORST = "severe"
ADVISED = ("next_to_none", "very_small", "small")


def grade(quality: Quality | None) -> str:
    """The grade of what was measured, by its word in the catalogues; empty where no KLD was."""
    if quality is None or "mean" not in quality.kld:
        return ""
    kld, top1 = quality.kld["mean"], 1.0 if quality.top1 is None else quality.top1
    return next((name for name, most, least in LIMITS if kld <= most and top1 >= least), WORST)


def advised(files: Sequence[ReleasedFile]) -> set[str]:
    """The ftypes of the measured files to recommend: those with a small loss that no file of their size or smaller
    beats, each of a twin's once."""
    measured = [file for file in files if grade(file.quality) and not file.twin]
    points = [(file.bytes, file.quality.kld["mean"]) for file in measured if file.quality]
    return {measured[at].ftype for at in front(points) if grade(measured[at].quality) in ADVISED}
