"""An architecture's operations as what the kernels compute: attention, a feed-forward part, and what is around them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from quantmill.architectures.conditions import always
from quantmill.architectures.hyperparameters import Hyper
from quantmill.architectures.operations import Add, Attend, Experts, Feed, Norm, Operation
from quantmill.errors import UsageError

Kind = TypeVar("Kind", Norm, Attend, Feed, Experts, Add)

# By their numbers in kernels/infer.
_ACTIVATIONS = ("silu", "gelu", "relu_squared", "clamped")
_SCORINGS = ("softmax", "sigmoid", "softmax_chosen", "sigmoid_chosen")
_HEAD_NORMS = ("first", "turned", "whole")
# What an operation may say; a field that is not here must have its default.
_FIELDS: dict[type, tuple[str, ...]] = {
    Attend: ("rope", "qk_norm", "normed", "turns", "fused", "capped", "tempered", "sinks", "chunked", "of"),
    Feed: ("activation", "fused", "of"),
    Experts: ("activation", "scoring", "normalized", "clamped", "before", "of"),
}
# The numbers of a model that the kernels know; who has others computes something else.
_NUMBERS = frozenset(
    {
        *("attention.scale", "embedding_scale", "residual_scale", "logit_scale", "attn_logit_softcapping"),
        *("final_logit_softcapping", "attention.temperature_scale", "rope.scaling.yarn_log_multiplier"),
    }
)
_ALPHA, _LIMIT = 1.702, 7.0  # of clamped gates
_CHUNKS_SCALE = 0.1  # of the growth of queries, where windows are chunks
_UNNORMED = 128  # experts of the only model with chunks that norms no queries and keys
# What the kernels call the norms before a part and behind it, whatever a file calls them.
NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")


class CannotRun(UsageError):
    """A model that the quantized kernels do not run. The message is the sentence."""


@dataclass(frozen=True)
class LayerPlan:
    """What all layers of a model have in common, and what each has.

    `norms`: a file's name of a norm → the kernels', both without ".weight"
    `parallel`: the feed-forward part sees the rows that attention saw
    `feed`, `experts`: the parts of dense layers and of mixtures, None where no layer is one
    `mixtures`: of each layer, whether it is one; layers behind them compute nothing
    """

    attend: Attend
    feed: Feed | None
    experts: Experts | None
    norms: Mapping[str, str]
    parallel: bool
    scaled: bool
    mixtures: tuple[bool, ...]

    def configuration(self, facts: Hyper, context: int) -> dict[str, float]:
        """The numbers that the kernels ask for."""
        numbers, routing = facts.numbers, facts.routing
        experts = self.experts or Experts()
        part, chunked = self.feed or experts, self.attend.chunked
        shared = facts.sizes.get("sff", 0) if self.experts else 0
        assert isinstance(shared, int)  # layer_plan
        return {
            "layers": len(self.mixtures),
            "width": facts.n_embd,
            "hidden": facts.n_ff,
            "heads": facts.n_head,
            "kv_heads": facts.n_head_kv,
            "head_dim": facts.head,
            "vocabulary": facts.n_vocab,
            "context": context,
            "rotated": facts.rotated,
            "experts": facts.n_expert,
            "experts_used": facts.n_expert_used,
            "expert_hidden": facts.n_eff if self.experts else 0,
            "shared_hidden": shared,
            "eps": facts.eps,
            "embedding_scale": facts.embedding_scale,
            "attention_scale": facts.attention_scale,
            "residual_scale": (numbers.get("residual_scale") if self.scaled else 0) or 1,
            "logit_scale": facts.logit_scale,
            "score_cap": numbers.get("attn_logit_softcapping", 0) if self.attend.capped else 0,
            "logit_cap": numbers.get("final_logit_softcapping", 0),
            "temper_scale": _CHUNKS_SCALE if chunked else numbers.get("attention.temperature_scale", 0),
            "temper_step": (facts.window if chunked else facts.rope.context) or context,
            "temper_first": chunked,
            "chunked": chunked,
            "halves_apart": self.attend.rope == "neox",
            "layer_norm": facts.row.norm == "layer",
            "attention_normed": "attn_norm" in self.norms.values(),
            "feed_normed": "ffn_norm" in self.norms.values(),
            "parallel": self.parallel,
            "gated": True,
            "head_norm": _HEAD_NORMS.index("turned" if chunked else self.attend.normed),
            "activation": _ACTIVATIONS.index("clamped" if experts.clamped else part.activation),
            "gate_alpha": _ALPHA,
            "gate_limit": _LIMIT,
            "scoring": _SCORINGS.index(routing.scoring if experts.scoring == "stated" else experts.scoring),
            "shares_normed": routing.is_normalized if experts.normalized == "stated" else experts.normalized,
            "shares_before": experts.before,
            "shares_scale": routing.scale,
            "groups": routing.groups,
            "groups_used": routing.groups_chosen,
        }

    def unweighted(self, facts: Hyper) -> list[int]:
        """The layers whose queries and keys have norms without weights."""
        if not self.attend.chunked or facts.n_expert == _UNNORMED:
            return []
        return [layer for layer in range(len(self.mixtures)) if facts.turns(self.attend, layer)]

    def layers(self, facts: Hyper) -> dict[str, list[float]]:
        """The numbers that differ between layers, one a layer."""
        every = range(len(self.mixtures))
        turns: list[float] = [facts.turns(self.attend, layer) for layer in every]
        return {
            "window": [facts.window if facts.windowed(layer) else 0 for layer in every],
            "turns": turns,
            "tempers": [self.attend.tempered and not (self.attend.chunked and turned) for turned in turns],
            "mixture": list(self.mixtures),
        }


def layer_plan(place: str, facts: Hyper) -> LayerPlan:
    """What the kernels shall compute; raises CannotRun where that is not what the architecture's operations say."""
    layers = [facts.operations(layer) for layer in range(facts.n_layer)]
    while layers and not layers[-1]:
        layers.pop()  # those that predict a token more
    plans = [_plan(operations, facts.row.norm) for operations in layers]
    whole = _joined([plan for plan in plans if plan is not None])
    differ = any(isinstance(size, tuple) for size in facts.more.values())
    if whole is None or None in plans or differ or not _NUMBERS.issuperset(facts.row.numbers):
        raise CannotRun(f"{place}: a layer of {facts.architecture} computes what these kernels do not; llama.cpp's do")
    return whole


def _plan(operations: Sequence[Operation], norm: str) -> LayerPlan | None:
    """Of one layer; None where the kernels do not compute it."""
    rest = list(operations)
    norms: dict[str, str] = {}
    before, attend = _norm(rest, "states"), _taken(rest, Attend)
    behind, added = _norm(rest, "change"), _taken(rest, Add)
    before_feed = _norm(rest, "states")
    feed, experts = _taken(rest, Feed), _taken(rest, Experts)
    behind_feed, added_feed = _norm(rest, "change"), _taken(rest, Add)
    part = feed or experts
    if rest or not (attend and added and part and added_feed) or (feed and experts) or added != added_feed:
        return None
    for name, found in zip(NORMS, (before, behind, before_feed, behind_feed), strict=True):
        if found:
            if found.kind != norm:
                return None
            norms[found.name] = name
    parallel = part.of == "normed" and before is not None and before_feed is None
    sees = attend.of == "normed", part.of == "normed" and not parallel
    if sees != (before is not None, before_feed is not None) or not _is_known(attend) or not _is_known(part):
        return None
    return LayerPlan(attend, feed, experts, norms, parallel, added.scaled, (experts is not None,))


def _taken(rest: list[Operation], kind: type[Kind]) -> Kind | None:
    """The first of the operations, where it is of that kind; it is in all layers from now on."""
    if not rest or not isinstance(first := rest[0], kind):
        return None
    del rest[0]
    return replace(first, where=always)


def _norm(rest: list[Operation], of: str) -> Norm | None:
    return _taken(rest, Norm) if rest and isinstance(rest[0], Norm) and rest[0].of == of else None


def _is_known(operation: Attend | Feed | Experts) -> bool:
    """Whether the kernels compute all that the operation says."""
    if not isinstance(operation, Attend) and operation.activation not in _ACTIVATIONS:
        return False
    if isinstance(operation, Experts) and operation.scoring not in (*_SCORINGS, "stated"):
        return False
    plain = type(operation)()
    known = {field: getattr(plain, field) for field in _FIELDS[type(operation)]}
    return replace(operation, **known) == plain


def _joined(plans: Sequence[LayerPlan]) -> LayerPlan | None:
    """Of all layers, which are the same but for what a plan has of each; None where they are not."""
    feeds = {plan.feed for plan in plans if plan.feed}
    experts = {plan.experts for plan in plans if plan.experts}
    if not plans or len(feeds) > 1 or len(experts) > 1 or len({part.activation for part in feeds | experts}) > 1:
        return None
    feed, mixture = next(iter(feeds), None), next(iter(experts), None)
    if mixture and mixture.clamped and feed:
        return None
    mixtures = tuple(flag for plan in plans for flag in plan.mixtures)
    first, *others = (replace(plan, feed=feed, experts=mixture, mixtures=mixtures) for plan in plans)
    return first if all(other == first for other in others) else None
