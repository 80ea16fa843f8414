"""Statistics whose every bit is the same on any machine: exact sums, correctly rounded exponentials and roots."""

import math
from collections.abc import Sequence
from decimal import Context, Decimal

from quantmill.errors import QuantmillError

_EXACT = Context(prec=25)  # digits; a double has 17
_MOST = 600.0  # nats; a double ends at e to the power 709, and the error may be larger than the perplexity


def exp(x: float) -> float:
    """e to the power x, correctly rounded but for ties that 25 digits cannot tell; libraries differ in the last bit."""
    return float(_EXACT.exp(Decimal(x)))


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def standard_error(values: Sequence[float], middle: float) -> float:
    """Of the mean of the values, which is `middle`, as llama-perplexity estimates it; 0 for a single one."""
    spread = math.fsum((value - middle) * (value - middle) for value in values) / len(values)
    return math.sqrt(spread / (len(values) - 1)) if len(values) > 1 else 0.0


def root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(math.fsum(value * value for value in values) / len(values))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of sorted values, between two neighbours in proportion, as llama-perplexity takes it; `share` from 0 to 1."""
    position = share * (len(ordered) - 1)
    below = int(position)
    if below + 1 >= len(ordered):
        return ordered[-1]
    return (1 - (position - below)) * ordered[below] + (position - below) * ordered[below + 1]


def perplexity(nll: Sequence[float]) -> tuple[float, float]:
    """The perplexity of negative log-likelihoods and its standard error, as llama-perplexity prints them. Raises
    QuantmillError when it is larger than any number."""
    middle = mean(nll)
    if middle > _MOST:
        raise QuantmillError(
            f"the text's tokens lose {middle:g} nats each, and no number is as large as that perplexity; "
            "the model's weights are damaged, fetch or convert it anew"
        )
    value = exp(middle)
    return value, standard_error(nll, middle) * value


def rounded(value: float, digits: int = 6) -> float:
    """For a report: so many significant digits."""
    return float(f"{value:.{digits}g}")
