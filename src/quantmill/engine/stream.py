"""A text through all layers: each layer's weights are read once, all chunks pass them, and the next layer follows."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.architectures.errors import ForwardError
from quantmill.engine.block import push
from quantmill.engine.budget import Budget
from quantmill.engine.buffers import BufferPool, Floats, floats
from quantmill.engine.errors import not_finite
from quantmill.engine.importance import Importance
from quantmill.engine.layer import LayerWeights, finite
from quantmill.engine.model import Model
from quantmill.engine.parts.altup import spread
from quantmill.engine.parts.layer_inputs import embed
from quantmill.engine.positions import Positions
from quantmill.engine.resume import Checkpoint
from quantmill.engine.run import Run
from quantmill.engine.states import States
from quantmill.engine.workers import InTurn, Turns, share
from quantmill.errors import UsageError

VERSION = 1  # of what a checkpoint holds
Tokens = NDArray[np.int32]


def check_tokens(model: Model, chunks: Tokens) -> None:
    """Raises UsageError unless `chunks` is a C-contiguous int32 array of at least one chunk, ForwardError for an id
    that the model has no embedding of."""
    if chunks.ndim != 2 or chunks.dtype != np.int32 or not chunks.flags.c_contiguous or not chunks.size:
        raise UsageError(f"tokens come as int32 of shape (chunks, tokens), not {chunks.dtype} of {chunks.shape}")
    for token in (int(chunks.min()), int(chunks.max())):
        if not 0 <= token < model.hyper.n_vocab:
            raise ForwardError(
                f"the text has the token id {token}, but the model has {model.hyper.n_vocab} tokens; use its own "
                "tokenizer"
            )


def key(model: Model, chunks: Tokens, run: Run, purpose: str) -> str:
    """Of everything that states and sums come from."""
    parts = [VERSION, purpose, model.source.fingerprint(), run.arithmetic, list(chunks.shape)]
    text = hashlib.sha256(chunks.tobytes()).hexdigest()
    return hashlib.sha256(json.dumps([*parts, text]).encode()).hexdigest()[:32]


def through_layers(
    model: Model,
    chunks: Tokens,
    run: Run,
    plan: Budget,
    states: States,
    checkpoint: Checkpoint,
    importance: Importance | None,
    progress: Callable[[int], None],
    wanted: bool = True,
    layers: range | None = None,
) -> None:
    """Fills `states` with those after the last layer, if they are `wanted`, and `importance` with the sums; goes on
    after a checkpoint.

    `progress` is told the number of chunks that have passed, counted once for each layer. Of the `layers`, all without,
    the first that is not 0 needs a checkpoint before it; ForwardError where there is none.
    """
    layers = layers or range(model.hyper.n_layer)
    count, length = chunks.shape
    free: dict[str, _kernels.Panels] = {}
    positions, spaces = Positions(model, length), [BufferPool() for _ in range(run.threads)]
    groups = [(first, min(first + plan.group, count)) for first in range(0, count, plan.group)]
    if not checkpoint.resume(states, importance):
        if layers.start:
            raise ForwardError(f"{checkpoint.folder}: the states before layer {layers.start} are not there or damaged")
        for first, last in groups:
            states.start(first, embedded(model, chunks[first:last], run, plan))
    for index in range(states.layer, layers.stop):
        layer = LayerWeights(model, index, run, spaces[0], plan)
        if plan.piece:
            layer.load(free)
        for first, last in groups:
            x = states.get(first, last)
            told = partial(_report, progress, index * count + first)
            through_layer(layer, spaces, x, positions, importance, told, wanted or index < model.hyper.n_layer - 1)
            states.put(first, x)
        states.turn()
        checkpoint.after(states, importance, last=index == layers.stop - 1)


def through_layer(
    layer: LayerWeights,
    spaces: list[BufferPool],
    x: Floats,
    positions: Positions,
    importance: Importance | None,
    progress: Callable[[int], None],
    wanted: bool,
) -> None:
    """The states of whole chunks through a layer: pieces of them by a thread each, where the plan says so; the threads
    that find none left help with the last."""
    length, piece = positions.length, layer.plan.piece
    chunks, threads = len(x) // length, layer.run.threads
    if not piece:
        push(layer, x, positions, importance, wanted)
        _check(layer, x)
        progress(chunks)
        return
    layers = [layer.beside(space) for space in spaces]

    def work(turn: int, thread: int, turns: Turns) -> None:
        part = x[turn * piece * length : (turn + 1) * piece * length]
        push(layers[thread], part, positions, InTurn(importance, turns, turn) if importance else None, wanted)
        _check(layer, part)

    def help_them(busy: int) -> None:
        for other in layers:
            other.run = replace(other.run, threads=threads // busy)

    share(-(-chunks // piece), threads, work, lambda done: progress(min(done * piece, chunks)), help_them)


def _report(progress: Callable[[int], None], before: int, done: int) -> None:
    progress(before + done)


def _check(layer: LayerWeights, x: Floats) -> None:
    if not finite(x):
        layer.model.find_bad(layer.names())
        what = f"layer {layer.index} gives values that are not finite; the model cannot be evaluated in float32"
        raise not_finite(layer.model.source.place, what)


def embedded(model: Model, chunks: Tokens, run: Run, plan: Budget) -> Floats:
    """The states before the first layer, shape (tokens, all columns)."""
    ids, columns = chunks.reshape(-1), model.columns
    x = embed(model, ids, floats(len(ids), model.hyper.n_embd))
    if not finite(x):
        model.find_bad(["token_embd.weight"])
    if columns.width == x.shape[1]:
        return x
    states = floats(len(ids), columns.width)
    states[:, : x.shape[1]] = x
    if columns.sets > 1:
        spread(model, x, states, run, plan.rows(x.shape[1]))
    if columns.token >= 0:
        states[:, columns.token] = ids
    return states
