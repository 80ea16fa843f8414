"""A GGUF file as a model that evaluates tokens on its quantized blocks."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.architectures.conditions import whole
from quantmill.architectures.hyperparameters import Hyper, hyper
from quantmill.architectures.operations import AttendCompressed, DeltaNet, Scan
from quantmill.architectures.tensor_check import check, shapes
from quantmill.gguf import model_facts
from quantmill.gguf.kinds import check_kind
from quantmill.gguf.source import Source
from quantmill.runtime.layer_plan import CannotRun, LayerPlan, layer_plan
from quantmill.runtime.placing import Tensors, is_matrix, rope_factors, set_tensors

Logits = NDArray[np.float32]


class LoadedModel:
    """A model with its cache of keys and values.

    `hyper`: what its metadata says
    `context`: how many tokens the cache has room for
    `bytes`: the size of its tensors in the file
    `parameters`: the number of its weights
    `backend`: the kernels' name
    """

    def __init__(self, path: Path, hyper: Hyper, source: Source, model: _kernels.Model, context: int) -> None:
        self.path, self.hyper, self.context = path, hyper, context
        self.metadata = source.metadata
        tensors = [source.info(name) for name, _, _ in source.tensors()]
        self.bytes = sum(info.nbytes for info in tensors)
        self.parameters = sum(info.n_elements for info in tensors)
        self.backend = _kernels.infer_isa()
        self._model = model

    def evaluate(self, tokens: NDArray[np.int32], position: int, *, every: bool = False) -> Logits:
        """Logits, float32 (1 or len(tokens), vocabulary), of the last token or of every one.

        The tokens stand at the positions from `position` on; those before must have been evaluated. ValueError when
        they have not, when the context has no room, or for a token that does not exist.
        """
        logits = np.empty((len(tokens) if every else 1, self.hyper.n_vocab), np.float32)
        self._model.evaluate(np.ascontiguousarray(tokens, np.int32), position, logits)
        return logits


def load(
    path: Path,
    *,
    context: int | None = None,
    threads: int = 1,
    repack: bool = True,
    activation_bits: int = 16,
) -> LoadedModel:
    """Load a GGUF file, or the first of its shards; `context` is at most the model's own, which is the default.

    With `repack` the weights are copied into the order that the kernels like best; without, the file's blocks are used
    where they lie. Activations are rounded to 8 or 16 bits for each 32 of them. Raises a QuantmillError of one sentence
    for what cannot be read or run.
    """
    with Source(path) as source:
        found = {name: (tuple(shape), type_) for name, shape, type_ in source.tensors()}
        place = str(path)
        if "token_embd.weight" not in found:
            check_kind(place, model_facts(source.metadata.values()))
            raise CannotRun(f"{place}: lacks the tensor 'token_embd.weight'; give a whole model that generates text")
        facts = hyper(place, source.metadata, found["token_embd.weight"][0][-1])
        check(place, facts, found)
        found = {name: (shape, found[name][1]) for name, shape in shapes(facts, found).items() if name in found}
        plan = _check_runnable(place, facts, found)
        room = min(facts.context, context or facts.context)
        settings = plan.configuration(facts, room), plan.layers(facts)
        model = _kernels.Model(*settings, threads, repack, activation_bits)
        turns = any(plan.layers(facts)["turns"])
        factors = rope_factors(place, source, found, long=room > facts.rope.context) if turns else None
        _set_positions(model, plan, facts, room, factors)
        set_tensors(place, model, source, plan, facts, found)
        return LoadedModel(path, facts, source, model, room)


def _check_runnable(place: str, facts: Hyper, found: Tensors) -> LayerPlan:
    plan = layer_plan(place, facts)
    known = set(_kernels.infer_types())
    for name, (shape, type_) in found.items():
        if is_matrix(name, shape) and type_.name not in known:
            raise CannotRun(f"{place}: {name} has the type {type_.name}, which no kernel multiplies")
    for head in (facts.head, *_state_heads(plan, facts)):
        if head % 16:
            raise CannotRun(f"{place}: has heads of {head} columns; these kernels need a multiple of 16")
    for size in (
        facts.n_embd,
        facts.n_ff,
        facts.n_eff,
        plan.shared(facts),
        facts.n_head * facts.head,
        *_inner(plan, facts),
        *_compressed(plan, facts),
    ):
        if size % 32:
            raise CannotRun(f"{place}: has rows of {size} weights; these kernels need a multiple of 32")
    return plan


def _compressed(plan: LayerPlan, facts: Hyper) -> list[int]:
    """Columns of the matrices of compressed attention."""
    if not isinstance(plan.attend, AttendCompressed):
        return []
    return [whole(facts.sizes[name]) for name in ("nope", "kv_rank", "q_rank", "values")]


def _inner(plan: LayerPlan, facts: Hyper) -> list[int]:
    """Columns of what carries a state by heads."""
    return [whole(facts.sizes["inner"])] if isinstance(plan.recur, Scan | DeltaNet) else []


def _state_heads(plan: LayerPlan, facts: Hyper) -> list[int]:
    """Columns and rows of the heads of such a state."""
    heads = [(inner // whole(facts.sizes["ssm_heads"]), whole(facts.sizes["states"])) for inner in _inner(plan, facts)]
    return [size for head in heads for size in head]


def _set_positions(
    model: _kernels.Model, plan: LayerPlan, facts: Hyper, context: int, factors: NDArray[np.float32] | None
) -> None:
    windowed = next((layer for layer in range(facts.n_layer) if facts.windowed(layer)), None)
    ropes = {"": facts.rope}
    if windowed is not None and facts.rope_of(windowed) != facts.rope:
        ropes["local_"] = facts.rope_of(windowed)
    for prefix, rope in ropes.items():
        rotated = plan.rotated(facts)
        cosines = np.empty((context, rotated // 2), np.float32)
        sines = np.empty_like(cosines)
        stretched = rope.scaling == "yarn"
        _kernels.rope_table(
            rotated,
            rope.base,
            cosines,
            sines,
            scale=rope.scale,
            freq_factors=factors,
            ext_factor=1.0 if stretched else 0.0,
            attn_factor=rope.attention,
            original_context=rope.context,
        )
        model.set_vector(f"{prefix}cosines", cosines.reshape(-1))
        model.set_vector(f"{prefix}sines", sines.reshape(-1))
