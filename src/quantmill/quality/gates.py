"""What a recipe asks of its files, checked against what was measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from quantmill.quality.errors import QualityError


def check(place: str, gates: Mapping[str, Any], quality: Mapping[str, Any] | None, fallbacks: Sequence[str]) -> None:
    """Raises QualityError for the first gate that the file `place` does not pass.

    `gates`: `max_kld` (mean KL divergence), `min_top1`, `no_fallback`. `quality` is a Quality as JSON, None for the
    base's own file, which is what the others are measured against.
    """
    if gates.get("no_fallback") and fallbacks:
        raise QualityError(
            f"{place}: {fallbacks[0]} is of another type than the ftype's, for its rows are not whole blocks, and the "
            "recipe's no_fallback forbids it; leave the ftype out or choose the tensor's type yourself"
        )
    if quality is None or "kld" not in quality:
        return
    most, kld = gates.get("max_kld"), quality["kld"]["mean"]
    if most is not None and kld > most:
        raise QualityError(
            f"{place}: its mean KL divergence to the base is {kld:g}, and the recipe's max_kld is {most:g}; leave the "
            "ftype out, give more bits to some tensors, or allow more"
        )
    least, top1 = gates.get("min_top1"), quality["top1"]
    if least is not None and top1 < least:
        raise QualityError(
            f"{place}: it agrees with the base on {top1:g} of the most likely tokens, and the recipe's min_top1 is "
            f"{least:g}; leave the ftype out, give more bits to some tensors, or allow less"
        )
