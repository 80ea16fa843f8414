"""One operation of ggml's graphs at a time, computed by the wheel's libggml-cpu through ctypes."""

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

import ggml_oracle

TENSOR, INT, FLOAT, LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_float, ctypes.c_int64
_TYPES = {np.dtype(np.float32): 0, np.dtype(np.int32): 26}


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


@functools.cache
def _libraries() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    base = ggml_oracle.load()
    base.ggml_init.argtypes = None  # ggml_oracle's structure and this one are equal, but not one type
    cpu = ctypes.CDLL(str(Path(base._name).with_name("libggml-cpu.so")))
    cpu.ggml_cpu_init()
    return base, cpu


class Graph:
    """Tensors have the shapes of arrays, which are ggml's in reverse."""

    def __init__(self) -> None:
        self._base, self._cpu = _libraries()
        self._base.ggml_init.restype = TENSOR
        self._context = TENSOR(self._base.ggml_init(_InitParams(1 << 26, None, False)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.ggml_free(self._context)

    def tensor(self, values: np.ndarray) -> ctypes.c_void_p:
        values = np.ascontiguousarray(values)
        shape = [*values.shape[::-1], 1, 1, 1][:4]
        self._base.ggml_new_tensor_4d.restype = TENSOR
        made = self._base.ggml_new_tensor_4d(self._context, _TYPES[values.dtype], *map(LONG, shape))
        ctypes.memmove(self._data(TENSOR(made)), values.ctypes.data, values.nbytes)
        return TENSOR(made)

    def apply(self, name: str, *arguments: object) -> ctypes.c_void_p:
        """ggml_<name> of arrays, tensors, and numbers that have a C type."""
        function = self._base[f"ggml_{name}"]
        function.restype = TENSOR
        given = [self.tensor(each) if isinstance(each, np.ndarray) else each for each in arguments]
        return TENSOR(function(self._context, *given))

    def add_sinks(self, tensor: ctypes.c_void_p, sinks: np.ndarray) -> None:
        self._base.ggml_soft_max_add_sinks.restype = None
        self._base.ggml_soft_max_add_sinks(tensor, self.tensor(sinks))

    def compute(self, tensor: ctypes.c_void_p, shape: Sequence[int]) -> np.ndarray:
        """The tensor's values, or as many of them as the shape has."""
        self._base.ggml_new_graph.restype = TENSOR
        graph = TENSOR(self._base.ggml_new_graph(self._context))
        self._base.ggml_build_forward_expand(graph, tensor)
        assert self._cpu.ggml_graph_compute_with_ctx(self._context, graph, 1) == 0
        out = np.empty(shape, np.float32)
        ctypes.memmove(out.ctypes.data, self._data(tensor), out.nbytes)
        return out

    def _data(self, tensor: ctypes.c_void_p) -> int:
        self._base.ggml_get_data.restype = TENSOR
        address = self._base.ggml_get_data(tensor)
        assert address
        return int(address)
