"""Whether a text to measure with holds passages of a text that was measured for: a file would be praised for what its
importance matrix has seen."""

PASSAGE = 200  # characters, white space counted as one


def shared_passage(evaluation: str, calibration: str) -> str | None:
    """A passage of `evaluation`, PASSAGE characters long, that `calibration` holds too; None when there is none that
    begins at a multiple of PASSAGE. Runs of white space count as one space."""
    mine, theirs = " ".join(evaluation.split()), " ".join(calibration.split())
    passages = {mine[i : i + PASSAGE] for i in range(0, len(mine) - PASSAGE + 1, PASSAGE)}
    if not passages:
        return mine if mine and mine in theirs else None
    for i in range(len(theirs) - PASSAGE + 1):
        if (found := theirs[i : i + PASSAGE]) in passages:
            return found
    return None
