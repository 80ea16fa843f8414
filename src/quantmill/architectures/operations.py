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
    sinks: bool = False
    chunked: bool = False
    of: Seen = "normed"
    where: Where = always


@dataclass(frozen=True)
class Feed:
    """The feed-forward part with a gate, whose result is the change; `fused`: gate and up are one matrix, ffn_up."""

    activation: Activation = "silu"
    fused: bool = False
    of: Seen = "normed"
    where: Where = always


@dataclass(frozen=True)
class Experts:
    """A mixture of experts, whose result is the change. Biases, and what is added for choosing alone (exp_probs_b), are
    used where the model has them.

    `scoring`: what makes scores of the router's logits, as _kernels.top_k names it
    `normalized`: shares are divided by their sum; then they are multiplied by expert_weights_scale, where it is there
    `clamped`: gates and what goes up are clamped, and gated as gpt-oss does
    `shared`: experts that all tokens take are added: "plain" as they are, "gated" by a share of each token's own
    `before`: shares multiply what an expert sees, not what it makes
    """

    activation: Activation = "silu"
    scoring: Scoring = "softmax"
    normalized: bool = True
    clamped: bool = False
    shared: Literal["", "plain", "gated"] = ""
    before: bool = False
    of: Seen = "normed"
    where: Where = always


@dataclass(frozen=True)
class Add:
    """The change is added to the states; `scaled`: times residual_scale, where the model has one."""

    scaled: bool = False
    where: Where = always


Operation = Norm | Attend | Feed | Experts | Add
