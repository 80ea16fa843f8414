"""What a layer computes: operations that the engine goes through in order, and the runtime compares with what it can.

They work on three sets of rows, one row a token. The states go from layer to layer, matrices see the normed rows, and
the change is what the last part of the layer made. A new operation is a class here, a function of the
engine and its line in engine/block.py.
"""

from dataclasses import dataclass
from typing import Literal

from quantmill.architectures.conditions import Where, always, never

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
    """Attention, whose result is the change. Biases and rope factors are used where the model has them; queries, keys
    and values may be one matrix, attn_qkv.

    `rope`: how a head's columns are paired: "neox" pairs column i with i + half, "norm" pairs neighbours
    `qk_norm`: queries and keys are normed by the head
    `normed`: "first" norms them before they turn, "turned" behind it, "whole" before it and all heads together
    `turns`: the layers whose queries and keys turn; "windowed" are those with a window, or all where none has one
    `capped`: scores are capped by attn_logit_softcapping
    `tempered`: queries grow with their position by attention.temperature_scale
    `gated`: the result is multiplied by the sigmoid of gates, which attn_q makes beside a head's queries
    `sinks`: each head has one more score, of attn_sinks, which has a weight and no value
    `value_norm`: values are normed by the head, without weights; they are the keys where a model has no attn_v
    `shared`: the layers that take keys and values of the last layer before them that has its own, and a window as they
    `chunked`: layers with a window see their chunk of that many tokens alone, and norms that have no weights are only
    where queries and keys turn, behind it
    `of`: the rows that are projected
    """

    rope: Literal["neox", "norm"] = "neox"
    qk_norm: bool = False
    normed: Literal["first", "turned", "whole"] = "first"
    turns: Where | Literal["windowed"] = always
    capped: bool = False
    tempered: bool = False
    gated: bool = False
    sinks: bool = False
    value_norm: bool = False
    shared: Where = never
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

    `sparse`: the layers in which only gates far above the mean of their row's pass the activation
    """

    activation: Activation = "silu"
    fused: bool = False
    gated: bool = True
    sparse: Where = never
    of: Seen = "normed"
    where: Where = always


@dataclass(frozen=True)
class Experts:
    """A mixture of experts, whose result is the change. Biases, what is added for choosing alone (exp_probs_b) and
    scales of results (ffn_down_exps.scale) are used where the model has them. So are experts that all tokens take
    (ffn_*_shexp), and what shares of their result tokens take (ffn_gate_inp_shexp). Gates and what goes up may be one
    stack, ffn_gate_up_exps.

    `scoring`: what makes scores of the router's logits, as _kernels.top_k names it; "stated" by expert_gating_func
    `normalized`: shares are divided by their sum, "stated" by expert_weights_norm; then they are multiplied by
    expert_weights_scale, where it is there
    `gated`: experts have gates; without, the activation is of what goes up alone
    `routed`: "seen": the router sees the rows that experts see; "states": the states, normed, divided by the root of
    their width, times ffn_gate_inp.scale
    `clamped`: gates and what goes up are clamped, and gated as gpt-oss does
    `before`: shares multiply what an expert sees, not what it makes
    """

    activation: Activation = "silu"
    scoring: Scoring | Literal["stated"] = "softmax"
    normalized: bool | Literal["stated"] = True
    gated: bool = True
    routed: Literal["seen", "states"] = "seen"
    clamped: bool = False
    before: bool = False
    of: Seen = "normed"
    where: Where = always


@dataclass(frozen=True)
class Add:
    """The change is added to the states; `scaled`: times residual_scale, where the model has one.

    `to`: "others": it is added to AltUp's sets that are not active
    """

    scaled: bool = False
    to: Literal["states", "others"] = "states"
    where: Where = always


@dataclass(frozen=True)
class Aside:
    """The change is put aside."""

    where: Where = always


@dataclass(frozen=True)
class Join:
    """What was put aside is added to the change."""

    where: Where = always


@dataclass(frozen=True)
class Scale:
    """The states are multiplied by a number, or by the one in the tensor of that name, where the model has it."""

    by: float | str
    where: Where = always


@dataclass(frozen=True)
class LayerInputs:
    """What the layer is told of each token beside its state, through a gate made of the states (inp_gate, proj): that
    is the change. The states are multiplied by altup_correct_scale before, where the model has it."""

    where: Where = always


@dataclass(frozen=True)
class Laurel:
    """The normed rows, and what two narrow matrices make of them, normed: that is the change."""

    where: Where = always


@dataclass(frozen=True)
class Predict:
    """AltUp's first step: each of several sets of states is predicted from all; the active one are the states."""

    where: Where = always


@dataclass(frozen=True)
class Correct:
    """AltUp's last step: all predictions are corrected by how far the states are from the active one."""

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


Part = Attend | AttendCompressed | Feed | Experts | ShortConvolve | Scan | DeltaNet | LayerInputs | Laurel
Operation = Part | Norm | Add | Aside | Join | Scale | Predict | Correct
