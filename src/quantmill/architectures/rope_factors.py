"""Tensors that are computed of config.json: llama3's rope scaling as the factors that llama.cpp reads."""

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from quantmill.architectures.configuration import head_dim
from quantmill.architectures.errors import ModelError
from quantmill.architectures.metadata_keys import number
from quantmill.gguf import ValueType


def _f32(value: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def llama3_factors(found: Mapping[str, Any]) -> list[float]:
    """`rope_freqs.weight`, one float32 for each pair of columns of a head; `found` is configuration.hparams.

    Every operation rounds to float32 in the converter's order. The power is the correctly rounded one, so that the
    bytes are the same on every machine; PyTorch's, which the converter uses, may differ in its last bit.
    Low frequencies are divided by `factor`, high ones kept, and those between interpolated.
    """
    dim = head_dim(found)
    base, factor, low, high, context = llama3_scaling(found)
    try:
        return list(_factors(base, dim, factor, low, high, context))
    except (OverflowError, ZeroDivisionError):
        raise ModelError("config.json's `rope_scaling` has factors that float32 cannot work with") from None


def llama3_scaling(found: Mapping[str, Any]) -> tuple[float, float, float, float, float]:
    """What the factors are made of: base, factor, low and high frequency factor, context. Raises ModelError.

    Of a class that `may_be_sudden`, nothing need lie between low and high.
    """

    def stated(key: str, default: float) -> float:
        return _stated(f"rope_scaling.{key}", found["rope_scaling"].get(key, default))

    base = _stated("rope_theta", found["rope_theta"])
    factor, low, high = stated("factor", 8.0), stated("low_freq_factor", 1.0), stated("high_freq_factor", 4.0)
    # The converter looks for it beside rope_scaling alone; the models that it was written for all have 8192.
    context = stated("original_max_position_embeddings", 8192)
    in_order = high >= low if found.get("may_be_sudden") else high > low
    if not (base > 0 and factor > 0 and low > 0 and in_order):
        raise ModelError("config.json's `rope_scaling` has factors that are not positive or not in order")
    return base, factor, low, high, context


def _factors(base: float, dim: int, factor: float, low: float, high: float, context: float) -> Iterator[float]:
    for column in range(0, dim, 2):
        frequency = _f32(1 / _f32(_power(_f32(base), _f32(column / dim))))
        wavelength = _f32(_f32(1 / frequency) * _f32(2 * math.pi))
        if wavelength < _f32(context / high):
            yield 1.0
        elif wavelength > _f32(context / low):
            yield _f32(factor)
        else:
            turns = _f32(_f32(1 / wavelength) * _f32(context))
            smooth = _f32(_f32(turns - _f32(low)) / _f32(high - low))
            yield _f32(1 / _f32(_f32(_f32(1 - smooth) / _f32(factor)) + smooth))


def _stated(name: str, value: Any) -> float:
    return float(number(name, value, ValueType.FLOAT32))


def _power(base: float, exponent: float) -> float:
    """base ** exponent to far more digits than a float has: libm's last bit differs between machines."""
    from decimal import Context, Decimal

    exact = Context(prec=40)
    return float(exact.power(Decimal(base), Decimal(exponent)))


def _rope_freqs(found: Mapping[str, Any]) -> list[float]:
    """llama3's, or Gemma 4's: pairs that turn, then those that do not, whose frequency is divided by a large number."""
    if found["rope_scaling"]["type"] != "proportional":
        return llama3_factors(found)
    turning: int = found["turning"]
    return [1.0] * turning + [1e30] * (found["head_dim"] // 2 - turning)


# The tensors that no checkpoint has: what computes their values of config.json's facts.
GENERATED: dict[str, Callable[[Mapping[str, Any]], list[float]]] = {
    "rope_freqs.weight": _rope_freqs,
    "rope_factors_long.weight": lambda found: list(found["rope_scaling"]["long_factor"]),
    "rope_factors_short.weight": lambda found: list(found["rope_scaling"]["short_factor"]),
}
