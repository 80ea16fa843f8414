"""What a layer computes: operations that the engine goes through in order, and the runtime compares with what it can.

They work on three sets of rows, one row a token. The states go from layer to layer, matrices see the normed rows, and
the change is what the last part of the layer made. A new operation is a class here, a function of the
engine and its line in engine/block.py.
"""

from dataclasses import dataclass
from typing import Literal

from quantmill.architectures.conditions import Where, always

Activation = Literal["silu", "gelu", "relu_squared"]
Seen = Literal["normed", "states"]
Scoring = Literal["softmax", "sigmoid", "softmax_chosen", "sigmoid_chosen"]


@dataclass(frozen=True)
class Norm:
    """A norm of the states, as the normed rows, or of the change in its place.

    `kind`: "rms" divides by the root of the mean square, "layer" by the deviation from the mean
    """

    name: str
    of: Literal["states", "change"] = "states"
    kind: Literal["rms", "layer"] = "rms"
    where: Where = always


@dataclass(frozen=True)
class Attend:
    """Attention, whose result is the change. Biases and rope factors are used where the model has them.

    `rope`: how a head's columns are paired: "neox" pairs column i with i + half, "norm" pairs neighbours
    `qk_norm`: queries and keys are normed by the head
    `normed`: "first" norms them before they turn, "turned" behind it, "whole" before it and all heads together
    `turns`: the layers whose queries and keys turn; "windowed" are those with a window, or all where none has one
    `fused`: queries, keys and values are one matrix
    `capped`: scores are capped by attn_logit_softcapping
    `tempered`: queries grow with their position by attention.temperature_scale
    `gated`: the result is multiplied by the sigmoid of gates, which attn_q makes beside a head's queries
    `sinks`: each head has one more score, of attn_sinks, which has a weight and no value
    `chunked`: layers with a window see their chunk of that many tokens alone, and norms that have no weights are only
    where queries and keys turn, behind it
    `of`: the rows that are projected
    """

    rope: Literal["neox", "norm"] = "neox"
    qk_norm: bool = False
    normed: Literal["first", "turned", "whole"] = "first"
    turns: Where | Literal["windowed"] = always
    fused: bool = False
    capped: bool = False
    tempered: bool = False
    gated: bool = False
    sinks: bool = False
    chunked: bool = False
    of: Seen = "normed"
    where: Where = always


@dataclass(frozen=True)
class AttendCompressed:
    """Attention to one compressed key-value of all heads, whose result is the change; neighbours of a head's last
    columns are paired."""

    where: Where = always


@dataclass(frozen=True)
class Feed:
    """The feed-forward part, whose result is the change; `fused`: gate and up are one matrix, ffn_up; `gated`: it has a
    gate, or else the activation is of ffn_up alone.
    """

    activation: Activation = "silu"
    fused: bool = False
    gated: bool = True
    of: Seen = "normed"
    where: Where = always


@dataclass(frozen=True)
class Experts:
    """A mixture of experts, whose result is the change. Biases, what is added for choosing alone (exp_probs_b), and
    experts that all tokens take (ffn_*_shexp) are used where the model has them: their result is added as it is, or
    by the sigmoid of ffn_gate_inp_shexp.

    `scoring`: what makes scores of the router's logits, as _kernels.top_k names it; "stated" by expert_gating_func
    `normalized`: shares are divided by their sum, "stated" by expert_weights_norm; then they are multiplied by
    expert_weights_scale, where it is there
    `gated`: experts have gates; without, the activation is of what goes up alone
    `clamped`: gates and what goes up are clamped, and gated as gpt-oss does
    `before`: shares multiply what an expert sees, not what it makes
    """

    activation: Activation = "silu"
    scoring: Scoring | Literal["stated"] = "softmax"
    normalized: bool | Literal["stated"] = True
    gated: bool = True
    clamped: bool = False
    before: bool = False
    of: Seen = "normed"
    where: Where = always


@dataclass(frozen=True)
class Add:
    """The change is added to the states; `scaled`: times residual_scale, where the model has one."""

    scaled: bool = False
    where: Where = always


@dataclass(frozen=True)
class ShortConvolve:
    """A convolution over few tokens between two gates, whose result is the change."""

    where: Where = always


@dataclass(frozen=True)
class Scan:
    """Mamba 2: a convolution and a recurrence by heads, gated, whose result is the change."""

    where: Where = always


@dataclass(frozen=True)
class DeltaNet:
    """A gated delta net, whose result is the change.

    `interleaved`: value heads that share a key head are neighbours
    """

    interleaved: bool = False
    where: Where = always


Operation = Norm | Attend | AttendCompressed | Feed | Experts | ShortConvolve | Scan | DeltaNet | Add
