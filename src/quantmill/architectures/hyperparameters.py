"""A model's hyperparameters from its metadata, read as llama.cpp reads them (llama-model.cpp at b5490)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantmill.architectures.errors import CannotEvaluate, UnsuitableModel
from quantmill.architectures.graph_tensors import ARCHITECTURES, MAX_EXPERTS, GraphArchitecture, Has
from quantmill.gguf import KV

_MOST = 1 << 24  # no size of a model is larger; a claimed one must not overflow a product of two


@dataclass(frozen=True)
class Rope:
    """Rotary positions of a layer.

    `scaling`: "none", "linear" or "yarn"
    `scale`: one over the factor
    `context`: the training context of the model that YaRN stretched
    `attention`: what cosine and sine are multiplied by
    """

    base: float
    scaling: str = "none"
    scale: float = 1.0
    context: int = 0
    attention: float = 1.0


@dataclass(frozen=True)
class Hyper:
    """`attention_scale` multiplies the products of queries and keys; `window` is 0 where all layers see everything."""

    architecture: str
    row: GraphArchitecture
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    head: int
    n_ff: int
    n_vocab: int
    n_expert: int
    n_expert_used: int
    eps: float
    context: int
    rope: Rope
    attention_scale: float
    window: int

    def windowed(self, layer: int) -> bool:
        """Whether the layer attends to a sliding window."""
        pattern = self.row.window_pattern
        return pattern > 0 and self.window > 0 and layer % pattern < pattern - 1

    def rope_of(self, layer: int) -> Rope:
        """The layer's rotary positions."""
        return Rope(self.row.window_base) if self.windowed(layer) else self.rope

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that the table of tensors names."""
        return {
            "embd": self.n_embd,
            "vocab": self.n_vocab,
            "pairs": self.head // 2,
            "q": self.n_head * self.head,
            "kv": self.n_head_kv * self.head,
            "head": self.head,
            "ff": self.n_ff,
            "experts": self.n_expert,
        }


class _Keys:
    """The metadata of one architecture, and what is wrong with a value in it."""

    def __init__(self, place: str, architecture: str, metadata: Mapping[str, KV]) -> None:
        self.place, self.architecture, self.metadata = place, architecture, metadata

    def value(self, key: str) -> Any:
        """A list of one value for every layer, all the same, is that value; None when the key is not there."""
        found = self.metadata.get(f"{self.architecture}.{key}")
        if found is None:
            return None
        value = found.value
        if isinstance(value, list):
            if not value or any(item != value[0] for item in value):
                raise self.wrong(key, "differs between layers", "one number for all of them")
            value = value[0]
        return value

    def size(self, key: str, default: int | None = None, least: int = 1) -> int:
        value = self.value(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST:
            raise self.wrong(key, "is missing" if value is None else f"is {value!r}", f"a whole number from {least}")
        return value

    def number(self, key: str, default: float | None = None, least: float = 0.0) -> float:
        value = self.value(key)
        if value is None and default is not None:
            return default
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not good or value < least:
            raise self.wrong(key, "is missing" if value is None else f"is {value!r}", f"a number from {least:g}")
        return float(value)

    def text(self, key: str, default: str) -> str:
        value = self.value(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, f"is {value!r}", "a word")
        return default if value is None else value

    def wrong(self, key: str, what: str, right: str) -> CannotEvaluate:
        return CannotEvaluate(f"{self.place}: {self.architecture}.{key} {what}; {right} would be right")


def hyper(place: str, metadata: Mapping[str, KV], n_vocab: int) -> Hyper:
    """The hyperparameters of the model whose metadata this is; `n_vocab` is the number of rows of token_embd.weight.

    Raises a ForwardError with what is missing or impossible.
    """
    found = metadata.get("general.architecture")
    name = found.value if found is not None and isinstance(found.value, str) else ""
    if name not in ARCHITECTURES:
        raise UnsuitableModel(
            f"{place}: the architecture {name!r} cannot be evaluated; {', '.join(ARCHITECTURES)} can, any other with "
            "llama.cpp's own tools"
        )
    row, keys = ARCHITECTURES[name], _Keys(place, name, metadata)
    n_embd, n_head = keys.size("embedding_length"), keys.size("attention.head_count")
    n_layer, n_head_kv = keys.size("block_count"), keys.size("attention.head_count_kv", n_head)
    if n_head % n_head_kv:
        raise keys.wrong("attention.head_count_kv", f"is {n_head_kv}", f"a divisor of the {n_head} heads")
    head = keys.size("attention.key_length", max(1, n_embd // n_head))
    for key in ("attention.value_length", "rope.dimension_count"):
        if keys.size(key, head) != head:
            raise keys.wrong(key, f"is {keys.size(key)}", f"the length of a key, {head},")
    if head % 2:
        raise keys.wrong("attention.key_length", f"is {head}", "an even one")
    if row.whole_heads and n_head * head != n_embd:
        raise keys.wrong("attention.key_length", f"is {head} for each of {n_head} heads", f"{n_embd} for all of them")
    n_expert, n_expert_used = _experts(keys, row)
    context = keys.size("context_length")
    width = n_embd // n_head if n_layer == row.wide_scale_layers else head
    return Hyper(
        architecture=name,
        row=row,
        n_layer=n_layer,
        n_embd=n_embd,
        n_head=n_head,
        n_head_kv=n_head_kv,
        head=head,
        n_ff=_feed_forward(keys, n_expert, n_expert_used),
        n_vocab=n_vocab,
        n_expert=n_expert,
        n_expert_used=n_expert_used,
        eps=keys.number("attention.layer_norm_rms_epsilon"),
        context=context,
        rope=_rope(keys, context),
        attention_scale=1 / math.sqrt(width),
        window=keys.size("attention.sliding_window") if row.window_pattern else 0,
    )


def _experts(keys: _Keys, row: GraphArchitecture) -> tuple[int, int]:
    """(experts, experts used for a token), both 0 for a dense model."""
    n_expert = keys.size("expert_count", 0, least=0)
    if row.experts is None and n_expert:
        raise keys.wrong("expert_count", f"is {n_expert}", f"none (no {keys.architecture} is a mixture)")
    if row.experts is Has.ALWAYS and not n_expert:
        raise keys.wrong("expert_count", "is 0 or missing", "the number of experts")
    if not n_expert:
        return 0, 0
    used = keys.size("expert_used_count")
    if n_expert > MAX_EXPERTS:
        raise keys.wrong("expert_count", f"is {n_expert}", f"at most {MAX_EXPERTS}")
    if used > n_expert:
        raise keys.wrong("expert_used_count", f"is {used}", f"at most the {n_expert} experts")
    return n_expert, used


def _feed_forward(keys: _Keys, n_expert: int, used: int) -> int:
    """Columns between the feed-forward matrices; an expert's may have a key of their own."""
    if not n_expert:
        return keys.size("feed_forward_length")
    if own := keys.size("expert_feed_forward_length", 0, least=0):
        return own
    whole = keys.size("feed_forward_length")
    return whole if ARCHITECTURES[keys.architecture].experts is Has.MAYBE else max(1, whole // used)


def _rope(keys: _Keys, context: int) -> Rope:
    """Where nothing is said, scaling is linear by no factor at all."""
    scaling = keys.text("rope.scaling.type", "linear")
    if scaling not in ("none", "linear", "yarn"):
        raise keys.wrong("rope.scaling.type", f"is {scaling!r}", "none, linear or yarn")
    factor = keys.number("rope.scaling.factor", -1.0, least=-1.0)
    if factor == -1.0:
        factor = keys.number("rope.scale_linear", 0.0)
    return Rope(
        base=keys.number("rope.freq_base", 10000.0, least=1.0),
        scaling=scaling,
        scale=1.0 if scaling == "none" or factor <= 0.0 else 1.0 / factor,
        context=keys.size("rope.scaling.original_context_length", context),
        attention=keys.number("rope.scaling.attn_factor", 1.0),
    )
