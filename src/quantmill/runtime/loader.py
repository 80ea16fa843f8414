"""A GGUF file as a model that evaluates tokens on its quantized blocks."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.architectures.conditions import always
from quantmill.architectures.hyperparameters import Hyper, hyper
from quantmill.architectures.operations import Add, Attend, Experts, Feed, Norm, Operation
from quantmill.architectures.rope_scaling import Rope
from quantmill.architectures.tensor_check import check
from quantmill.errors import UsageError
from quantmill.gguf.source import Source
from quantmill.gguf.types import Type

Logits = NDArray[np.float32]


class CannotRun(UsageError):
    """A model that the quantized kernels do not run. The message is the sentence."""


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
            raise CannotRun(f"{place}: lacks the tensor 'token_embd.weight'; give a whole model that generates text")
        facts = hyper(place, source.metadata, found["token_embd.weight"][0][-1])
        check(place, facts, found)
        _check_runnable(place, facts, found)
        room = min(facts.context, context or facts.context)
        model = _kernels.Model(_configuration(place, facts, room), threads, repack, activation_bits)
        _set_positions(model, facts, room, _factors(source, found))
        for name, (shape, type_) in found.items():
            _set(model, source, name, shape, type_)
        if "output.weight" not in found:
            _set_matrix(model, source, "output", "token_embd.weight")
        return LoadedModel(path, facts, source, model, room)


def _check_runnable(place: str, facts: Hyper, found: dict[str, tuple[tuple[int, ...], Type]]) -> None:
    known = set(_kernels.infer_types())
    for name, (shape, type_) in found.items():
        if name.endswith(".bias") and name.split(".")[-2] not in ("attn_q", "attn_k", "attn_v"):
            raise CannotRun(f"{place}: has the bias {name}, which these kernels do not add; llama.cpp's do")
        if len(shape) > 1 and type_.name not in known:
            raise CannotRun(f"{place}: {name} has the type {type_.name}, which no kernel multiplies")
    if facts.head % 16:
        raise CannotRun(f"{place}: has heads of {facts.head} columns; these kernels need a multiple of 16")
    for size in (facts.n_embd, facts.n_ff, facts.n_head * facts.head):
        if size % 32:
            raise CannotRun(f"{place}: has rows of {size} weights; these kernels need a multiple of 32")


def _configuration(place: str, facts: Hyper, context: int) -> dict[str, float]:
    attend, part = layer_parts(place, facts)
    return {
        "layers": facts.n_layer,
        "width": facts.n_embd,
        "hidden": facts.n_ff,
        "heads": facts.n_head,
        "kv_heads": facts.n_head_kv,
        "head_dim": facts.head,
        "vocabulary": facts.n_vocab,
        "context": context,
        "rotated": facts.head,
        "experts": facts.n_expert,
        "experts_used": facts.n_expert_used,
        "window": facts.window,
        "pattern": facts.row.window_pattern,
        "eps": facts.eps,
        "embedding_scale": facts.embedding_scale,
        "attention_scale": facts.attention_scale,
        "halves_apart": attend.rope == "neox",
        "gelu": part.activation == "gelu",
    }


def layer_parts(place: str, facts: Hyper) -> tuple[Attend, Feed | Experts]:
    """What differs between the layers that these kernels run; all layers of a model are the same. Raises CannotRun."""
    first, *others = ([replace(each, where=always) for each in facts.operations(n)] for n in range(facts.n_layer))
    attend = next((each for each in first if isinstance(each, Attend)), Attend())
    part = next((each for each in first if isinstance(each, Feed | Experts)), Feed())
    attend, part = Attend(attend.rope, attend.qk_norm), type(part)(part.activation)
    plain: list[Operation] = [Norm("attn_norm"), attend, Add(), Norm("ffn_norm"), part, Add()]
    after = [Norm(f"post_{name}_norm", of="change") for name in ("attention", "ffw")]
    if first not in (plain, [*plain[:2], after[0], *plain[2:5], after[1], Add()]) or any(o != first for o in others):
        raise CannotRun(f"{place}: a layer of {facts.architecture} computes what these kernels do not; llama.cpp's do")
    return attend, part


def _factors(source: Source, found: dict[str, tuple[tuple[int, ...], Type]]) -> NDArray[np.float32] | None:
    if "rope_freqs.weight" not in found:
        return None
    return _floats(source, "rope_freqs.weight")


def _set_positions(model: _kernels.Model, facts: Hyper, context: int, factors: NDArray[np.float32] | None) -> None:
    for prefix, rope in (("", facts.rope), ("local_", Rope(facts.row.window_base))):
        if prefix and not facts.window:
            continue
        cosines = np.empty((context, facts.head // 2), np.float32)
        sines = np.empty_like(cosines)
        stretched = rope.scaling == "yarn"
        _kernels.rope_table(
            facts.head,
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


def _set(model: _kernels.Model, source: Source, name: str, shape: tuple[int, ...], type_: Type) -> None:
    if name == "rope_freqs.weight":
        return
    if len(shape) > 1:
        _set_matrix(model, source, name.removesuffix(".weight"), name)
    else:
        model.set_vector(name.removesuffix(".weight"), _floats(source, name))


def _set_matrix(model: _kernels.Model, source: Source, as_name: str, name: str) -> None:
    info = source.info(name)
    rows = math.prod(info.shape[1:])  # of all experts
    model.set_matrix(as_name, info.type.name, source.data(name), rows, info.shape[0])


def _floats(source: Source, name: str) -> NDArray[np.float32]:
    info = source.info(name)
    out = np.empty((1, info.n_elements), np.float32)
    _kernels.dequantize(info.type.name, source.data(name), out)
    return out.reshape(-1)
