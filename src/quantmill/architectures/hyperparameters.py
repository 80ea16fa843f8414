"""A model's hyperparameters from its metadata, read as llama.cpp reads them (llama-model.cpp at b5490)."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from quantmill.architectures.architecture import Architecture
from quantmill.architectures.conditions import Sizes, dense, of
from quantmill.architectures.errors import UnsuitableModel
from quantmill.architectures.key_reader import KeyReader
from quantmill.architectures.known import ARCHITECTURES, computed, is_computed, listed
from quantmill.architectures.metadata_keys import own_sizes
from quantmill.architectures.operations import Attend, AttendCompressed, Experts, Feed, Operation, Scoring
from quantmill.architectures.rope_scaling import Rope, rope_of_file
from quantmill.architectures.sizes import with_products
from quantmill.gguf import KV, model_facts
from quantmill.gguf.kinds import check_kind

_LOG_MULTIPLIER = "rope.scaling.yarn_log_multiplier"


@dataclass(frozen=True)
class Routing:
    """How a mixture's router chooses, where its metadata say it."""

    scoring: Scoring = "softmax"
    is_normalized: bool = False
    scale: float = 1.0
    groups: int = 1
    groups_chosen: int = 1


_SCORES: dict[int, Scoring] = {1: "softmax", 2: "sigmoid"}
_SIGMOID = {
    (47, 154880),
    (48, 154880),
}  # layers and tokens of GLM 4.7 Flash, a deepseek2 whose first files do not say it


@dataclass(frozen=True)
class Hyper:
    """`attention_scale` multiplies the products of queries and keys; `window` is 0 where all layers see everything;
    `n_eff` is n_ff of an expert; `more` are the sizes that the architecture has keys of its own for, `numbers` its
    other numbers; `windows` says which layers have a window, where there is one, and `window_rope` how those turn."""

    architecture: str
    row: Architecture
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    head: int
    n_ff: int
    n_eff: int
    n_vocab: int
    n_expert: int
    n_expert_used: int
    eps: float
    context: int
    rope: Rope
    attention_scale: float
    window: int
    more: Sizes = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    windows: tuple[bool, ...] = ()
    routing: Routing = Routing()
    window_rope: Rope | None = None

    def windowed(self, layer: int) -> bool:
        """Whether the layer attends to a sliding window."""
        return self.window > 0 and self.windows[layer]

    def operations(self, layer: int) -> list[Operation]:
        """What the layer computes."""
        return [operation for operation in self.row.operations if operation.where(self.sizes, layer)]

    def rope_of(self, layer: int) -> Rope:
        """The layer's rotary positions."""
        return (self.windowed(layer) and self.window_rope) or self.rope

    def turns(self, attend: Attend, layer: int) -> bool:
        """Whether the layer's queries and keys turn."""
        if attend.turns == "windowed":
            return self.windowed(layer) or not self.window
        return attend.turns(self.sizes, layer)

    @property
    def n_next(self) -> int:
        """Layers behind the model's own, which predict further tokens and are not computed."""
        nextn = self.more.get("nextn", 0)
        return nextn if isinstance(nextn, int) else 0

    def giver(self, attend: Attend, layer: int, sizes: Sizes) -> int | None:
        """The layer whose keys and values a layer attends to; None where there is none."""
        if not attend.shared(sizes, layer):
            return layer
        alike = (own for own in reversed(range(layer)) if self.windowed(own) == self.windowed(layer))
        return next((own for own in alike if not attend.shared(sizes, own)), None)

    @property
    def rotated(self) -> int:
        """Columns of a head that turn."""
        rotary = self.more.get("rotary")
        return rotary if isinstance(rotary, int) and rotary else self.head

    def rotated_of(self, layer: int) -> int:
        """Columns of the layer's heads that turn."""
        return self.rotated if self.more.get("rotary") else of("head", self.sizes, layer)

    @property
    def embedding_scale(self) -> float:
        """What embeddings are multiplied by, as a float32."""
        if self.row.embedding_scale:
            return _float32(math.sqrt(self.n_embd))
        return self.numbers.get("embedding_scale") or 1.0

    @property
    def logit_scale(self) -> float:
        """What logits are multiplied by, as a float32."""
        scale = _float32(self.numbers.get("logit_scale", 1.0)) or 1.0
        return _float32(1 / scale) if self.row.logits == "over" else scale

    @property
    def sizes(self) -> Sizes:
        """The sizes that the tables of tensors name."""
        return with_products(
            self.row,
            {
                "layers": self.n_layer + self.n_next,
                "embd": self.n_embd,
                "vocab": self.n_vocab,
                "heads": self.n_head,
                "kv_heads": self.n_head_kv,
                "head": self.head,
                "ff": self.n_ff,
                "eff": self.n_eff,
                "experts": self.n_expert,
                "experts_used": self.n_expert_used,
                **self.more,
            },
        )


def uncomputed(place: str, name: str) -> UnsuitableModel:
    """What is wrong with a model of an architecture that is not computed."""
    return UnsuitableModel(
        f"{place}: the architecture {name!r} cannot be evaluated; {listed(computed())} can, any other with "
        "llama.cpp's own tools"
    )


def hyper(place: str, metadata: Mapping[str, KV], n_vocab: int) -> Hyper:
    """The hyperparameters of the model whose metadata this is; `n_vocab` is the number of rows of token_embd.weight.

    Raises a ForwardError with what is missing or impossible.
    """
    found = metadata.get("general.architecture")
    name = found.value if found is not None and isinstance(found.value, str) else ""
    if not is_computed(name):
        check_kind(place, model_facts(metadata.values()))
        raise uncomputed(place, name)
    row, keys = ARCHITECTURES[name], KeyReader(place, name, metadata)
    n_embd, n_head = keys.size("embedding_length"), keys.attending("attention.head_count")
    more = {key.size: keys.per_layer(key.key, keys.size("block_count"), key.absent) for key in own_sizes(row)}
    nextn = more.get("nextn", 0)
    n_layer = keys.size("block_count") - (nextn if isinstance(nextn, int) else 0)
    if n_layer < 1:
        raise keys.wrong("nextn_predict_layers", f"is {nextn}", "fewer than `block_count`")
    most = {size: max(value) for size, value in more.items() if isinstance(value, tuple)}  # of any layer
    n_head_kv = most.get("kv_heads") or keys.size("attention.head_count_kv", n_head)
    if not more.get("kv_heads", 1):
        more["kv_heads"] = n_head_kv
    if n_head % n_head_kv:
        raise keys.wrong("attention.head_count_kv", f"is {n_head_kv}", f"a divisor of the {n_head} heads")
    head = keys.size("attention.key_length", max(1, n_embd // n_head))
    partial = any(key.size == "rotary" for key in own_sizes(row))
    compressed = any(isinstance(operation, AttendCompressed) for operation in row.operations)
    same = () if compressed else ("attention.value_length",)
    for key in (*same, *(() if partial else ("rope.dimension_count",))):
        if keys.size(key, head) != head:
            raise keys.wrong(key, f"is {keys.size(key)}", f"the length of a key, {head},")
    if partial and ((rotary := keys.size("rope.dimension_count", head)) > head or rotary % 2):
        raise keys.wrong("rope.dimension_count", f"is {rotary}", f"an even one up to the length of a key, {head},")
    if head % 2:
        raise keys.wrong("attention.key_length", f"is {head}", "an even one")
    if row.whole_heads and n_head * head != n_embd:
        raise keys.wrong("attention.key_length", f"is {head} for each of {n_head} heads", f"{n_embd} for all of them")
    if not compressed:
        _check_apart(keys, row, head, keys.size("rope.dimension_count", head))
    n_expert, n_expert_used = _experts(keys, row)
    context = keys.size("context_length")
    n_ff, n_eff = _feed_forward(keys, n_expert, n_expert_used, _both(row) or bool(more.get("leading")), most.get("ff"))
    width = n_embd // n_head if n_layer == row.wide_scale_layers else head
    numbers = {key: keys.number(key, default) for key, default in row.numbers.items()}
    scale = numbers.get("attention.scale") or 1 / math.sqrt(width)
    if compressed:
        mla = keys.size("attention.key_length_mla")
        if keys.number("attention.temperature_scale", 0.0):
            raise keys.wrong("attention.temperature_scale", "is not 0", "none, which is not computed,")
        rope, scale = _compressed(rope_of_file(keys, context), mla, keys.number(_LOG_MULTIPLIER, 0.0))
    else:
        rope = _rope(keys, row, context, numbers.get(_LOG_MULTIPLIER, 0.0))
    made = Hyper(
        architecture=name,
        row=row,
        n_layer=n_layer,
        n_embd=n_embd,
        n_head=n_head,
        n_head_kv=n_head_kv,
        head=head,
        n_ff=n_ff,
        n_eff=n_eff,
        n_vocab=n_vocab,
        n_expert=n_expert,
        n_expert_used=n_expert_used,
        eps=keys.number(row.eps),
        context=context,
        rope=rope,
        attention_scale=scale,
        window=_window(keys, row, n_layer),
        more=more,
        numbers=numbers,
        windows=_windows(keys, row, n_layer),
        routing=_routing(keys, row, n_layer, n_vocab),
        window_rope=_window_rope(keys, row, rope),
    )
    _check_givers(keys, made)
    return made


def _check_givers(keys: KeyReader, made: Hyper) -> None:
    sizes = made.sizes
    for layer in range(made.n_layer):
        for operation in made.row.operations:
            if isinstance(operation, Attend) and made.giver(operation, layer, sizes) is None:
                what = f"leaves layer {layer} keys and values of no layer before it that sees as much as it does"
                raise keys.wrong("attention.shared_kv_layers", what, "fewer")


def _routing(keys: KeyReader, row: Architecture, layers: int, n_vocab: int) -> Routing:
    scores = keys.size("expert_gating_func", 0, least=0)
    stated = any(isinstance(each, Experts) and each.normalized == "stated" for each in row.operations)
    if scores and scores not in _SCORES:
        raise keys.wrong("expert_gating_func", f"is {scores}", "1 for softmax or 2 for sigmoid")
    return Routing(
        scoring=_SCORES.get(scores, "sigmoid" if (layers, n_vocab) in _SIGMOID else row.scoring),
        is_normalized=bool(keys.value("expert_weights_norm")),
        scale=(stated and keys.number("expert_weights_scale", 1.0)) or 1.0,
        groups=keys.size("expert_group_count", 1, least=0) or 1,
        groups_chosen=keys.size("expert_group_used_count", 1, least=0) or 1,
    )


def _compressed(rope: Rope, key: int, multiplier: float) -> tuple[Rope, float]:
    """The rotary positions and the scale of attention of DeepSeek's, as llama.cpp makes them of YaRN's multiplier."""
    grown = 1 + 0.1 * math.log(max(1.0, 1 / rope.scale))
    if rope.scaling == "yarn" and multiplier:
        rope = replace(rope, attention=rope.attention / grown)
    every = rope.attention * grown * (1 + multiplier * math.log(max(1.0, 1 / rope.scale)))
    return rope, every * every / math.sqrt(key)


def _both(row: Architecture) -> bool:
    """Whether some layers of a mixture are dense, with a width of their own."""
    return any(isinstance(each, Feed) and each.where is not dense for each in row.operations)


def _rope(keys: KeyReader, row: Architecture, context: int, multiplier: float) -> Rope:
    """The model's rotary positions; a multiplier of YaRN's logarithm undoes so much of what YaRN multiplies."""
    rope = rope_of_file(keys, context)
    if rope.scaling != "yarn" or _LOG_MULTIPLIER not in row.numbers:
        return rope
    for key, right in (("rope.scaling.yarn_beta_fast", 32.0), ("rope.scaling.yarn_beta_slow", 1.0)):
        if keys.number(key, right) != right:
            raise keys.wrong(key, f"is {keys.number(key)}", f"{right}")
    return replace(rope, attention=rope.attention / (1 + 0.1 * multiplier * math.log(max(1.0, 1 / rope.scale))))


def _window(keys: KeyReader, row: Architecture, layers: int) -> int:
    if not _lists_windows(row) and (not row.window_pattern or row.windowed_layers not in (0, layers)):
        return 0
    if row.chunk:  # llama.cpp's own, whatever the file says, but for none
        keys.size("attention.sliding_window", row.chunk)
        return row.chunk
    none = {"default": 0, "least": 0} if row.may_lack_windows else {}
    return keys.size("attention.sliding_window", **none)


def _lists_windows(row: Architecture) -> bool:
    """Whether each file says which layers have a window."""
    return any(key.size == "windowed" for key in own_sizes(row))


def _windows(keys: KeyReader, row: Architecture, layers: int) -> tuple[bool, ...]:
    """Which layers have a window: those that a file lists, or all but every n-th."""
    name = "attention.sliding_window_pattern"
    found = keys.metadata.get(f"{row.name}.{name}")
    if found is None and _lists_windows(row):
        raise keys.wrong(name, "is missing", f"{layers} truths")
    value = row.window_pattern if found is None else found.value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return tuple(value == 0 or layer % value < value - 1 for layer in range(layers))
    if not isinstance(value, list) or len(value) < layers or not {0, 1}.issuperset(value):
        raise keys.wrong(name, "is another list", f"{layers} truths")
    return tuple(map(bool, value[:layers]))


def _window_rope(keys: KeyReader, row: Architecture, rope: Rope) -> Rope:
    base = keys.number("rope.freq_base_swa", row.window_base, least=1.0 if row.window_base else 0.0)
    if row.window_base:
        return Rope(base, factored=False)
    if row.unscaled_windows:
        return Rope(base or rope.base)
    return replace(rope, base=base) if base else rope


def _check_apart(keys: KeyReader, row: Architecture, head: int, rotary: int) -> None:
    """Raises CannotEvaluate for heads of other layers that are of another shape, or turn by the place in an image."""
    for key, right in (
        ("attention.key_length_swa", head),
        ("attention.value_length_swa", head),
        ("rope.dimension_count_swa", rotary),
    ):
        if row.window_pattern and keys.size(key, right) != right:
            raise keys.wrong(key, f"is {keys.size(key)}", f"that of all layers, {right},")
    name = "rope.dimension_sections"
    found = keys.metadata.get(f"{row.name}.{name}")
    sections = found.value if found is not None and isinstance(found.value, list) else []
    if any(sections) and row.image_places:
        raise keys.wrong(name, f"is {sections}", "none, for heads that turn by an image's places are not computed,")


def _float32(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _experts(keys: KeyReader, row: Architecture) -> tuple[int, int]:
    """(experts, experts used for a token), both 0 for a dense model."""
    n_expert = keys.size("expert_count", 0, least=0)
    if row.experts == "never" and n_expert:
        raise keys.wrong("expert_count", f"is {n_expert}", f"none (no {keys.architecture} is a mixture)")
    if row.experts == "always" and not n_expert:
        raise keys.wrong("expert_count", "is 0 or missing", "the number of experts")
    if not n_expert:
        return 0, 0
    used = keys.size("expert_used_count")
    if n_expert > row.most_experts:
        raise keys.wrong("expert_count", f"is {n_expert}", f"at most {row.most_experts}")
    if used > n_expert:
        raise keys.wrong("expert_used_count", f"is {used}", f"at most the {n_expert} experts")
    return n_expert, used


def _feed_forward(keys: KeyReader, n_expert: int, used: int, both: bool, most: int | None) -> tuple[int, int]:
    """Columns between the feed-forward matrices, and between an expert's, which may have a key of their own; where no
    layers are dense, both are the same; `most` is the widest layer's, where they differ."""
    if not n_expert:
        return (most or keys.size("feed_forward_length"),) * 2
    own = keys.size("expert_feed_forward_length", 0, least=0)
    if not own:
        whole = keys.size("feed_forward_length")
        own = whole if ARCHITECTURES[keys.architecture].experts == "maybe" else max(1, whole // used)
    return (most or keys.size("feed_forward_length")) if both else own, own
