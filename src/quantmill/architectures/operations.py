"""What a layer computes: operations that the engine goes through in order, and the runtime compares with what it can.

They work on three sets of rows, one row a token. The states go from layer to layer, matrices see the normed rows, and
the change is what the last part of the layer made. A new operation is a class here, a function of the
engine and its line in engine/block.py.
"""

from dataclasses import dataclass
from typing import Literal

from quantmill.architectures.conditions import Where, always

Activation = Literal["silu", "gelu"]
Seen = Literal["normed", "states"]


@dataclass(frozen=True)
class Norm:
    """The root-mean-square norm: of the states, as the normed rows, or of the change in its place."""

    name: str
    of: Literal["states", "change"] = "states"
    where: Where = always


@dataclass(frozen=True)
class Attend:
    """Attention, whose result is the change. Biases and rope factors are used where the model has them.

    `rope`: how a head's columns are paired: "neox" pairs column i with i + half, "norm" pairs neighbours
    `qk_norm`: queries and keys are normed by the head
    `of`: the rows that are projected
    """

    rope: Literal["neox", "norm"] = "neox"
    qk_norm: bool = False
    of: Seen = "normed"
    where: Where = always


@dataclass(frozen=True)
class Feed:
    """The feed-forward part with a gate, whose result is the change."""

    activation: Activation = "silu"
    of: Seen = "normed"
    where: Where = always


@dataclass(frozen=True)
class Experts:
    """A mixture of experts, whose result is the change: shares by softmax, divided by their sum."""

    activation: Activation = "silu"
    of: Seen = "normed"
    where: Where = always


@dataclass(frozen=True)
class Add:
    """The change is added to the states."""

    where: Where = always


Operation = Norm | Attend | Feed | Experts | Add
