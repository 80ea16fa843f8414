"""An architecture's operations as what the kernels compute: attention or what carries a state from token to token, a
feed-forward part, and what is around them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from quantmill.architectures.conditions import always, whole
from quantmill.architectures.hyperparameters import Hyper
from quantmill.architectures.operations import (
    Add,
    Attend,
    AttendCompressed,
    DeltaNet,
    Experts,
    Feed,
    Norm,
    Operation,
    Scan,
    ShortConvolve,
)
from quantmill.errors import UsageError

Recur = ShortConvolve | Scan | DeltaNet
Part = Attend | AttendCompressed | Recur | Feed | Experts

# By their numbers in kernels/infer.
_ACTIVATIONS = ("silu", "gelu", "relu_squared", "clamped")
_SCORINGS = ("softmax", "sigmoid", "softmax_chosen", "sigmoid_chosen")
_HEAD_NORMS = ("first", "turned", "whole")
_RECURRENCES = (type(None), ShortConvolve, Scan, DeltaNet)
# What an operation may say; a field that is not here must have its default.
_FIELDS: dict[type, tuple[str, ...]] = {
    Attend: ("rope", "qk_norm", "normed", "turns", "capped", "tempered", "gated", "sinks", "chunked", "of"),
    AttendCompressed: (),
    ShortConvolve: (),
    Scan: (),
    DeltaNet: ("interleaved",),
    Feed: ("activation", "fused", "gated", "of"),
    Experts: ("activation", "scoring", "normalized", "gated", "clamped", "before", "of"),
}
# The numbers of a model that the kernels know; who has others computes something else.
_NUMBERS = frozenset(
    {
        *("attention.scale", "embedding_scale", "residual_scale", "logit_scale", "attn_logit_softcapping"),
        *("final_logit_softcapping", "attention.temperature_scale", "rope.scaling.yarn_log_multiplier"),
    }
)
# Sizes that may be none in some layers, and are the same in all others.
_BY_LAYER = frozenset({"kv_heads", "ff", "recurrent"})
_ALPHA, _LIMIT = 1.702, 7.0  # of clamped gates
_CHUNKS_SCALE = 0.1  # of the growth of queries, where windows are chunks
_UNNORMED = 128  # experts of the only model with chunks that norms no queries and keys
_MOST_TAPS = 8  # of a convolution
# What the kernels call the norms before a layer's first part and behind it, and the feed-forward part's where it is not
# the first, whatever a file calls them.
NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")


class CannotRun(UsageError):
    """A model that the quantized kernels do not run. The message is the sentence."""


@dataclass(frozen=True)
class LayerParts:
    """Which parts a layer has; the feed-forward part may be a mixture."""

    attends: bool
    recurs: bool
    feeds: bool
    is_mixture: bool


@dataclass(frozen=True)
class LayerPlan:
    """What all layers of a model have in common, and what each has.

    `attend`, `recur`, `feed`, `experts`: what the parts of those layers compute that have them, None where none has
    `norms`: a file's name of a norm → the kernels', both without ".weight"
    `parallel`: the feed-forward part sees the rows that attention saw
    `parts`: of each layer, which it has; layers behind them compute nothing
    """

    attend: Attend | AttendCompressed | None
    recur: Recur | None
    feed: Feed | None
    experts: Experts | None
    norms: Mapping[str, str]
    parallel: bool
    scaled: bool
    parts: tuple[LayerParts, ...]

    def configuration(self, facts: Hyper, context: int) -> dict[str, float]:
        """The numbers that the kernels ask for."""
        numbers, routing = facts.numbers, facts.routing
        attend, experts = self.own_attend, self.experts or Experts()
        part, chunked = self.feed or experts, attend.chunked
        return {
            "layers": len(self.parts),
            "width": facts.n_embd,
            "hidden": facts.n_ff,
            "heads": facts.n_head,
            "kv_heads": facts.n_head_kv,
            "head_dim": facts.head,
            "vocabulary": facts.n_vocab,
            "context": context,
            "rotated": self.rotated(facts),
            "experts": facts.n_expert,
            "experts_used": facts.n_expert_used,
            "expert_hidden": facts.n_eff if self.experts else 0,
            "shared_hidden": self.shared(facts),
            "eps": facts.eps,
            "embedding_scale": facts.embedding_scale,
            "attention_scale": facts.attention_scale,
            "residual_scale": (numbers.get("residual_scale") if self.scaled else 0) or 1,
            "logit_scale": facts.logit_scale,
            "score_cap": numbers.get("attn_logit_softcapping", 0) if attend.capped else 0,
            "logit_cap": numbers.get("final_logit_softcapping", 0),
            "temper_scale": _CHUNKS_SCALE if chunked else numbers.get("attention.temperature_scale", 0),
            "temper_step": (facts.window if chunked else facts.rope.context) or context,
            "temper_first": chunked,
            "chunked": chunked,
            "halves_apart": attend.rope == "neox",
            "layer_norm": facts.row.norm == "layer",
            "attention_normed": "attn_norm" in self.norms.values(),
            "feed_normed": "ffn_norm" in self.norms.values(),
            "parallel": self.parallel,
            "gated": part.gated,
            "head_norm": _HEAD_NORMS.index("turned" if chunked else attend.normed),
            "activation": _ACTIVATIONS.index("clamped" if experts.clamped else part.activation),
            "gate_alpha": _ALPHA,
            "gate_limit": _LIMIT,
            "scoring": _SCORINGS.index(routing.scoring if experts.scoring == "stated" else experts.scoring),
            "shares_normed": routing.is_normalized if experts.normalized == "stated" else experts.normalized,
            "shares_before": experts.before,
            "shares_scale": routing.scale,
            "groups": routing.groups,
            "groups_used": routing.groups_chosen,
            **self._recurrence(facts),
            **self._compressed(facts),
        }

    @property
    def own_attend(self) -> Attend:
        """What layers with attention compute, compressed or not."""
        if isinstance(self.attend, AttendCompressed):
            return Attend("norm")
        return self.attend or Attend()

    def _compressed(self, facts: Hyper) -> dict[str, float]:
        if not isinstance(self.attend, AttendCompressed):
            return {}
        names = {"rank": "kv_rank", "query_rank": "q_rank", "head_key": "mla", "head_values": "v_head"}
        return {name: whole(facts.sizes[size]) for name, size in names.items()}

    def _recurrence(self, facts: Hyper) -> dict[str, float]:
        if not self.recur:
            return {}
        names = {"taps": "conv"}
        if not isinstance(self.recur, ShortConvolve):
            names |= {"inner": "inner", "state_groups": "groups", "states": "states", "state_heads": "ssm_heads"}
        return {
            "recurrence": _RECURRENCES.index(type(self.recur)),
            **{name: whole(facts.sizes[size]) for name, size in names.items()},
            "interleaved": isinstance(self.recur, DeltaNet) and self.recur.interleaved,
        }

    def shared(self, facts: Hyper) -> int:
        """Columns between the matrices of the expert that all tokens take; 0 where there is none."""
        return whole(facts.sizes.get("sff", 0)) if self.experts else 0

    def rotated(self, facts: Hyper) -> int:
        """Columns of a head that turn; 2, where in no layer any do."""
        return facts.rotated if any(self.layers(facts)["turns"]) else 2

    def unweighted(self, facts: Hyper) -> list[int]:
        """The layers whose queries and keys have norms without weights."""
        if not self.own_attend.chunked or facts.n_expert == _UNNORMED:
            return []
        return [layer for layer in range(len(self.parts)) if facts.turns(self.own_attend, layer)]

    def layers(self, facts: Hyper) -> dict[str, list[float]]:
        """The numbers that differ between layers, one a layer."""
        attend, every = self.own_attend, range(len(self.parts))
        turns: list[float] = [self.parts[layer].attends and facts.turns(attend, layer) for layer in every]
        return {
            "window": [facts.window if facts.windowed(layer) else 0 for layer in every],
            "turns": turns,
            "tempers": [attend.tempered and not (attend.chunked and turned) for turned in turns],
            "attends": [parts.attends for parts in self.parts],
            "recurs": [parts.recurs for parts in self.parts],
            "feeds": [parts.feeds for parts in self.parts],
            "mixture": [parts.is_mixture for parts in self.parts],
        }


def layer_plan(place: str, facts: Hyper) -> LayerPlan:
    """What the kernels shall compute; raises CannotRun where that is not what the architecture's operations say."""
    layers = [facts.operations(layer) for layer in range(facts.n_layer)]
    while layers and not layers[-1]:
        layers.pop()  # those that predict a token more
    plans = [_plan(operations, facts.row.norm) for operations in layers]
    joined = _joined([plan for plan in plans if plan is not None])
    differ = any(
        isinstance(size, tuple) and (name not in _BY_LAYER or len({*size} - {0}) > 1)
        for name, size in facts.more.items()
    )
    if joined is None or None in plans or differ or not _NUMBERS.issuperset(facts.row.numbers):
        raise CannotRun(f"{place}: a layer of {facts.architecture} computes what these kernels do not; llama.cpp's do")
    if joined.recur and (taps := whole(facts.sizes["conv"])) > _MOST_TAPS:
        raise CannotRun(f"{place}: has convolutions of {taps} tokens; these kernels have room for {_MOST_TAPS}")
    return joined


@dataclass
class _Step:
    """A part of a layer, with the norms before and behind it; what it adds to the states is `scaled` or not."""

    part: Part
    before: Norm | None
    behind: Norm | None
    scaled: bool


def _plan(operations: Sequence[Operation], norm: str) -> LayerPlan | None:
    """Of one layer; None where the kernels do not compute it."""
    steps = _steps(list(operations), norm)
    if not steps or len({step.scaled for step in steps}) > 1:
        return None
    feeding = steps.pop() if isinstance(steps[-1].part, Feed | Experts) else None
    attending = steps.pop(0) if steps and isinstance(steps[0].part, Attend | AttendCompressed) else None
    recurring = steps.pop(0) if steps and isinstance(steps[0].part, Recur) else None
    first = attending or recurring or feeding
    second = recurring if attending else None  # which sees what attention does
    if steps or not first or (second and second.before) or (recurring and (recurring.behind or not first.before)):
        return None
    parallel = first is not feeding and bool(feeding and not feeding.before and _sees_normed(feeding.part))
    for step in (attending, feeding):
        if step and _sees_normed(step.part) != bool(step.before or (step is feeding and parallel)):
            return None
    if parallel and not first.before:
        return None
    norms: dict[str, str] = {}
    last = feeding if feeding is not first else None
    named = {"attn_norm": first.before, "ffn_norm": last and last.before, "post_ffw_norm": feeding and feeding.behind}
    for name, found in {**named, "post_attention_norm": attending and attending.behind}.items():
        if found:
            norms[found.name] = name
    part = feeding and feeding.part
    return LayerPlan(
        attend=attending.part if attending and isinstance(attending.part, Attend | AttendCompressed) else None,
        recur=recurring.part if recurring and isinstance(recurring.part, Recur) else None,
        feed=part if isinstance(part, Feed) else None,
        experts=part if isinstance(part, Experts) else None,
        norms=norms,
        parallel=parallel,
        scaled=first.scaled,
        parts=(LayerParts(bool(attending), bool(recurring), bool(feeding), isinstance(part, Experts)),),
    )


def _sees_normed(part: Part) -> bool:
    return not isinstance(part, Attend | Feed | Experts) or part.of == "normed"


def _steps(rest: list[Operation], norm: str) -> list[_Step] | None:
    """The layer's parts; None where something else is there."""
    steps: list[_Step] = []
    while rest:
        before = _norm(rest, "states", norm)
        part = rest.pop(0) if rest else None
        behind, added = _norm(rest, "change", norm), rest.pop(0) if rest else None
        if not isinstance(part, Part) or not isinstance(added, Add):
            return None
        plain = replace(part, where=always)
        if not _is_known(plain):
            return None
        steps.append(_Step(plain, before, behind, added.scaled))
    return steps


def _norm(rest: list[Operation], of: str, kind: str) -> Norm | None:
    """The first of the operations, where it is such a norm; one of another kind stays."""
    if rest and isinstance(first := rest[0], Norm) and first.of == of and first.kind == kind:
        del rest[0]
        return first
    return None


def _is_known(operation: Part) -> bool:
    """Whether the kernels compute all that the operation says."""
    if isinstance(operation, Feed | Experts) and operation.activation not in _ACTIVATIONS:
        return False
    if isinstance(operation, Experts) and (
        operation.scoring not in (*_SCORINGS, "stated") or operation.normalized not in (True, False, "stated")
    ):
        return False
    plain = type(operation)()
    known = {field: getattr(plain, field) for field in _FIELDS[type(operation)]}
    return replace(operation, **known) == plain


def _joined(plans: Sequence[LayerPlan]) -> LayerPlan | None:
    """Of all layers, which are the same but for what a plan has of each; None where they are not."""
    kinds = "attend", "recur", "feed", "experts"
    found = {kind: {getattr(plan, kind) for plan in plans} - {None} for kind in kinds}
    if not plans or any(len(parts) > 1 for parts in found.values()):
        return None
    attend, recur, feed, mixture = (next(iter(found[kind]), None) for kind in kinds)
    if feed and mixture and (feed.activation, feed.gated) != (mixture.activation, mixture.gated):
        return None
    if mixture and mixture.clamped and feed:
        return None
    norms: dict[str, str] = {}
    alike: dict[tuple[bool, bool], Mapping[str, str]] = {}
    for plan in plans:
        (parts,) = plan.parts
        if alike.setdefault((parts.attends or parts.recurs, parts.feeds), plan.norms) != plan.norms:
            return None
        if any(norms.setdefault(name, norm) != norm for name, norm in plan.norms.items()):
            return None
    if len({(plan.parallel, plan.scaled) for plan in plans}) > 1:
        return None
    every = tuple(parts for plan in plans for parts in plan.parts)
    return LayerPlan(attend, recur, feed, mixture, norms, plans[0].parallel, plans[0].scaled, every)
