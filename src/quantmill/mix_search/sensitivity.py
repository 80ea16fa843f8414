"""What rounding one tensor costs a model: the mean KL divergence to the base when that tensor alone is rounded.

A tensor that is changed in a layer leaves the states before that layer as they were. So all probes share the base's
states until their layer; from there on each has states of its own. A layer's weights are read once for all of them.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.disk import write_atomic
from quantmill.engine.budget import Budget, budget
from quantmill.engine.buffers import BufferPool, Floats, floats
from quantmill.engine.layer import LayerWeights
from quantmill.engine.model import Model
from quantmill.engine.output import Output, counted
from quantmill.engine.positions import Positions
from quantmill.engine.run import Run
from quantmill.engine.stream import Tokens, check_tokens, embedded, through_layer
from quantmill.engine.weight_source import WeightSource
from quantmill.gguf import KV
from quantmill.gguf.types import Type
from quantmill.mix_search.errors import NotSearchable
from quantmill.reference.tensor_order import layer_of
from quantmill.statistics import mean

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
DIGEST = 32  # bytes of what proves a kept file


class OneChanged:
    """A source of weights in which one tensor is another source's."""

    def __init__(self, source: WeightSource, changed: WeightSource, name: str) -> None:
        self.place: str = source.place
        self.metadata: Mapping[str, KV] = source.metadata
        self._source, self._changed, self._name = source, changed, name
        self._tensors = {**source.tensors(), name: changed.tensors()[name]}

    def _of(self, name: str) -> WeightSource:
        return self._changed if name == self._name else self._source

    def tensors(self) -> Mapping[str, tuple[tuple[int, ...], Type]]:
        return self._tensors

    def rows(self, name: str, begin: int, end: int) -> NDArray[np.uint8]:
        return self._of(name).rows(name, begin, end)

    def gather(self, name: str, ids: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        return self._of(name).gather(name, ids)

    def fingerprint(self) -> str:
        return f"{self._source.fingerprint()} {self._name} {self._changed.fingerprint()}"

    def close(self) -> None:
        """Whoever opened the two sources closes them."""


@dataclass(frozen=True)
class _Probe:
    """`layer` is the one that the tensor is in: -1 for the embedding, the number of layers for the output."""

    name: str
    layer: int
    model: Model


def sensitivities(
    model: Model, probes: WeightSource, names: Sequence[str], chunks: Tokens, run: Run, kept: Path | None = None
) -> dict[str, float]:
    """The mean KL divergence, in nats a token, when each of the tensors is as in `probes` and all else as in the model.

    `run.progress` counts passes of chunks through a layer. `kept`: a folder of this search alone, in which each chunk
    is kept once it is measured. Raises what `engine.evaluate` does, and NotSearchable.
    """
    check_tokens(model, chunks)
    found = [_probe(model, probes, name) for name in names]
    found.sort(key=lambda probe: probe.layer)  # stable: of one layer in the order of the names
    half = replace(run, memory=run.memory // 2)  # the other half is logits of two models
    length = chunks.shape[1]
    sets, at_once = _division(model, half, len(found), 1 if kept else len(chunks), length)
    first, last = counted(length)
    lost = np.zeros((len(found), len(chunks), last - first))
    passes = [(some, part) for some in range(0, len(found), sets) for part in range(0, len(chunks), at_once)]
    layers = model.hyper.n_layer
    each = [
        sum(layers - max(probe.layer, 0) for probe in found[some : some + sets]) + layers
        for some in range(0, len(found), sets)
    ]
    total, done = sum(each) * len(chunks), 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        run.progress(done, total)

    for some, part in passes:
        some_probes, some_chunks = found[some : some + sets], chunks[part : part + at_once]
        mine = lost[some : some + sets, part : part + at_once]
        file = kept / f"{some}-{len(some_probes)}-{part}" if kept else None
        if file is not None and _taken(file, mine):
            tell(each[some // sets] * len(some_chunks))
            continue
        plan = budget(model, half, len(some_chunks) * (len(some_probes) + 1), length)
        mine[:] = _Pass(model, half, plan, some_chunks, tell).lost(some_probes)
        if file is not None:
            file.parent.mkdir(exist_ok=True)
            write_atomic(file, _proof(file, data := mine.tobytes()) + data)
    return {probe.name: mean(lost[i].reshape(-1).tolist()) for i, probe in enumerate(found)}


def _taken(file: Path, into: NDArray[np.float64]) -> bool:
    """Whether a killed search has left what belongs there; it is taken over."""
    with suppress(OSError):
        found = file.read_bytes()
        proof, data = found[:DIGEST], found[DIGEST:]
        if len(data) == into.nbytes and proof == _proof(file, data):
            into[:] = np.frombuffer(data, np.float64).reshape(into.shape)
            return True
    return False


def _proof(file: Path, data: bytes) -> bytes:
    """What stands before the data of a kept file, so that a damaged one, or another's, is none."""
    return hashlib.sha256(file.name.encode() + data).digest()


def _probe(model: Model, probes: WeightSource, name: str) -> _Probe:
    layer = {EMBEDDING: -1, OUTPUT: model.hyper.n_layer}.get(name, layer_of(name))
    if layer is None or layer > model.hyper.n_layer or (layer == model.hyper.n_layer and name != OUTPUT):
        raise NotSearchable(
            f"{model.source.place}: {name} is in no layer that predictions pass, so that what rounding it costs "
            "cannot be measured; quantize the model to a stock type"
        )
    return _Probe(name, layer, Model(OneChanged(model.source, probes, name), model.hyper))


def _division(model: Model, run: Run, probes: int, chunks: int, length: int) -> tuple[int, int]:
    """How many probes, and how many chunks, go together, so that the states of all stay in memory."""
    sets, at_once = probes, chunks
    while at_once > 1 and budget(model, run, (sets + 1) * at_once, length).spilled:
        at_once = -(-at_once // 2)
    while sets > 1 and budget(model, run, (sets + 1) * at_once, length).spilled:
        sets = -(-sets // 2)
    return sets, at_once


class _Pass:
    """Some chunks through all layers, as the base has them and as some probes have."""

    def __init__(self, model: Model, run: Run, plan: Budget, chunks: Tokens, tell: Callable[[int], None]) -> None:
        self.model, self.run, self.plan, self.chunks, self.tell = model, run, plan, chunks, tell
        self.length = chunks.shape[1]
        self.rows = len(chunks) * self.length
        self.spaces = [BufferPool() for _ in range(run.threads)]
        self.positions = Positions(model, self.length)

    def lost(self, probes: Sequence[_Probe]) -> NDArray[np.float64]:
        """The KL divergence of each token that counts, shape (probes, chunks, rows)."""
        states = floats((len(probes) + 1) * self.rows, self.model.columns.width)
        states[: self.rows] = embedded(self.model, self.chunks, self.run, self.plan)
        begun = 1
        for probe in probes:
            if probe.layer < 0:
                self._of(states, begun)[:] = embedded(probe.model, self.chunks, self.run, self.plan)
                begun += 1
        free: dict[str, _kernels.Panels] = {}
        for index in range(self.model.hyper.n_layer):
            layer = LayerWeights(self.model, index, self.run, self.spaces[0], self.plan)
            if self.plan.piece:
                layer.load(free)
            before = begun
            for probe in probes:
                if probe.layer == index:
                    own = self._of(states, begun)
                    own[:] = states[: self.rows]
                    self._push(layer.changed(probe.model, probe.name), own)
                    begun += 1
            self._push(layer, states[: before * self.rows])
        return self._compared(states, probes)

    def _of(self, states: Floats, index: int) -> Floats:
        return states[index * self.rows : (index + 1) * self.rows]

    def _push(self, layer: LayerWeights, states: Floats) -> None:
        step = self.plan.group * self.length
        for begin in range(0, len(states), step):
            part = states[begin : begin + step]
            through_layer(layer, self.spaces, part, self.positions, None, lambda _: None, True)
            self.tell(len(part) // self.length)

    def _compared(self, states: Floats, probes: Sequence[_Probe]) -> NDArray[np.float64]:
        first, last = counted(self.length)
        count = last - first
        output = Output(self.model, self.run, self.plan, count)
        found = np.zeros((len(probes), len(self.chunks), count))
        own = {
            i: Output(probe.model, self.run, self.plan, count)
            for i, probe in enumerate(probes)
            if probe.name == self.model.output
        }
        for chunk in range(len(self.chunks)):
            begin = chunk * self.length

            def normed(index: int, begin: int = begin) -> Floats:
                return output.normed(self._of(states, index)[begin + first : begin + last])

            base = output.logits(normed(0))
            for i, probe in enumerate(probes):
                state = 0 if probe.layer == self.model.hyper.n_layer else i + 1
                logits = own.get(i, output).logits(normed(state))
                _kernels.kld(base, logits, found[i, chunk], self.run.threads)
        if not np.isfinite(found).all():
            raise NotSearchable(
                f"{self.model.source.place}: its logits are not finite on the text; convert the model anew"
            )
        return found
