"""One layer of a model: its weights, and what they are applied to the rows of whole chunks with."""

from copy import copy
from dataclasses import replace
from typing import Self

import numpy as np

from quantmill import _kernels
from quantmill.architectures.conditions import of, whole
from quantmill.architectures.operations import LayerInputs
from quantmill.engine.budget import Budget
from quantmill.engine.buffers import BufferPool, Floats
from quantmill.engine.importance import Importance
from quantmill.engine.matrix import Matrix
from quantmill.engine.model import Model
from quantmill.engine.run import Run
from quantmill.engine.workers import InTurn

Taps = Importance | InTurn

# Matrices that no product takes.
_NO_FACTORS = ("shortconv.conv", "ssm_conv1d", "ssm_a", "ssm_d", "ssm_norm")
_ROUTER = "ffn_gate_inp"  # whose scale is of what it sees
_ROWS = 64  # whose answers are looked at together
_ACTIVATIONS = {"silu": "silu_mul", "gelu": "gelu_mul"}


class LayerWeights:
    """The weights of a layer, read when they are first needed."""

    def __init__(self, model: Model, index: int, run: Run, space: BufferPool, plan: Budget) -> None:
        self.hyper, self.index = model.hyper, index
        self.model, self.run, self.space, self.plan, self.prefix = model, run, space, plan, f"blk.{index}."
        self.window = self.hyper.window if self.hyper.windowed(index) else 0
        self.rope, self.sizes = self.hyper.rope_of(index), self.hyper.sizes
        self.head = of("head", self.sizes, index)
        self.operations = self.hyper.operations(index)
        self._vectors: dict[str, Floats | None] = {}
        self._tables: dict[str, Floats] = {}
        self._biases: dict[str, Floats | None] = {}
        self._matrices: dict[str, Matrix] = {}

    def vector(self, name: str) -> Floats | None:
        if name not in self._vectors:
            self._vectors[name] = self.model.vector(self.prefix + name)
        return self._vectors[name]

    def has(self, name: str) -> bool:
        """Whether the layer has a tensor of that whole name."""
        return self.model.has(self.prefix + name)

    def needed(self, name: str) -> Floats:
        """A vector that the layer has."""
        vector = self.vector(name)
        assert vector is not None  # checked when the model was opened
        return vector

    def table(self, name: str) -> Floats:
        """All rows of a small matrix, which no product takes."""
        if name not in self._tables:
            self._tables[name] = self.model.table(self.prefix + name)
        return self._tables[name]

    def biases(self, name: str) -> Floats | None:
        """The biases of a stack, one row an expert; None where it has none."""
        tensor = f"{self.prefix}{name}.bias"
        if name not in self._biases:
            count = self.hyper.n_expert
            self._biases[name] = self.model.dense(tensor, 0, count) if self.model.has(tensor) else None
        return self._biases[name]

    def matrix(self, name: str) -> Matrix:
        if name not in self._matrices:
            tensor = f"{self.prefix}{name}.weight"
            step = self.plan.rows(self.model.described(tensor)[0][0])
            self._matrices[name] = Matrix(self.model, tensor, self.run, self.space, step)
        return self._matrices[name]

    def inputs_matrix(self, rows: int) -> Matrix:
        """The layer's rows, so many, of the matrix that makes all layers' inputs of embeddings."""
        name = "per_layer_model_proj"
        if name not in self._matrices:
            step = self.plan.rows(self.hyper.n_embd)
            part = self.index * rows, rows
            self._matrices[name] = Matrix(self.model, f"{name}.weight", self.run, self.space, step, part)
        return self._matrices[name]

    def beside(self, space: BufferPool) -> Self:
        """The same layer for one thread of several, with buffers of its own; no mixtures."""
        other = copy(self)
        other.run, other.space = replace(self.run, threads=1), space
        return other

    def changed(self, model: Model, tensor: str) -> Self:
        """The same layer with the tensor of another model in the place of its own."""
        name = tensor.removeprefix(self.prefix).removesuffix(".weight")
        other = copy(self)
        other.model = model
        other._matrices = {key: matrix for key, matrix in self._matrices.items() if key != name}
        if self.plan.piece:
            other.matrix(name).hold(None)
        return other

    def load(self, free: dict[str, _kernels.Panels]) -> None:
        """Packs all matrices that are to be kept, by all threads, into the panels that a layer before had; `free` holds
        them, and then this layer's."""
        for each in self.names():
            name = each.removeprefix(self.prefix).removesuffix(".weight")
            is_factor = each.endswith(".weight") and not name.startswith(_NO_FACTORS)
            if len(self.model.described(each)[0]) == 2 and is_factor:
                self.matrix(name).hold(free.get(name))
                if held := self.matrix(name).held:
                    free[name] = held
        if any(isinstance(operation, LayerInputs) for operation in self.operations):
            self.inputs_matrix(whole(self.sizes["per_layer"])).hold(None)

    def product(self, name: str, x: Floats) -> Floats:
        """x times the matrix, plus its bias if it has one; in a buffer of the workspace."""
        (out,) = self.products([name], x)
        return out

    def products(self, names: list[str], x: Floats) -> list[Floats]:
        """x times each of the matrices, as `product`."""
        matrices = [self.matrix(name) for name in names]
        outs = [self.space.floats(name, len(x), matrix.rows) for name, matrix in zip(names, matrices, strict=True)]
        held = [matrix.held for matrix in matrices]
        together = [panels for panels in held if panels is not None]
        if len(together) == len(outs):
            _kernels.matmuls(x, together, outs, self.run.threads)
        else:
            for matrix, out in zip(matrices, outs, strict=True):
                matrix.apply(x, out, self.run.threads)
        for name, out in zip(names, outs, strict=True):
            scale = self.vector(f"{name}.scale") if name != _ROUTER else None
            bias = self.vector(f"{name}.bias")
            late = name.startswith("ffn_")  # as build_ffn of llama-graph.cpp has it
            if scale is not None and not late:
                _kernels.scale(out, float(scale[0]), self.run.threads)
            if bias is not None:
                _kernels.add(out, bias, out, self.run.threads)
            if scale is not None and late:
                _kernels.scale(out, float(scale[0]), self.run.threads)
        return outs

    def norm(self, name: str, x: Floats, out: Floats, kind: str = "rms") -> Floats:
        """A norm of the rows of x, of a kind as operations.Norm's. `out` may be x."""
        weight = self.vector(f"{name}.weight" if self.has(f"{name}.weight") else name)
        assert weight is not None  # checked when the model was opened
        if kind == "layer":
            _kernels.layer_norm(x, weight, None, out, self.hyper.eps, self.run.threads)
            return out
        _kernels.rms_norm(x, weight, out, self.hyper.eps, self.run.threads)
        return out

    def tap(self, importance: Taps | None, names: str, x: Floats) -> None:
        if importance is not None:
            importance.dense(tuple(f"{self.prefix}{name}.weight" for name in names.split()), x)

    def activate(self, activation: str, gate: Floats, up: Floats) -> None:
        """gate = activation(gate) * up."""
        getattr(_kernels, _ACTIVATIONS[activation])(gate, up, gate, self.run.threads)

    def names(self) -> list[str]:
        """Every tensor of the layer, for a search of what is wrong with it."""
        return [name for name in self.model.source.tensors() if name.startswith(self.prefix)]


def finite(x: Floats) -> bool:
    """Whether all states are finite."""
    return all(bool(np.isfinite(x[begin : begin + _ROWS]).all()) for begin in range(0, len(x), _ROWS))
