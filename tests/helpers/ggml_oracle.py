"""ggml 0.20.2 itself, through ctypes: what the kernels of generation 2 are compared with, in tests and benchmarks."""

import ctypes
import functools
import importlib.util
from pathlib import Path

import numpy as np

from quantmill.gguf.types import TYPES


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class _Traits(ctypes.Structure):
    """The beginning of ggml_type_traits."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("interleave", ctypes.c_int64),
        ("size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("libggml")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    (directory,) = spec.submodule_search_locations
    (path,) = Path(directory).glob("lib*/libggml-base.so")
    library = ctypes.CDLL(str(path))
    library.ggml_init.argtypes = [_InitParams]
    library.ggml_init.restype = ctypes.c_void_p
    # This fills ggml's table of fp16 values. Without it every scale is read back as zero.
    library.ggml_init(_InitParams(1 << 20, None, False))
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        *[ctypes.c_int64] * 3,
        ctypes.c_void_p,
    ]
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    return library


def quantize_into(type_: str, src: np.ndarray, dst: np.ndarray, importance: np.ndarray | None) -> None:
    """ggml_quantize_chunk on all rows of `src`; no check of anything."""
    rows, cols = src.shape
    weights = None if importance is None else importance.ctypes.data
    _library().ggml_quantize_chunk(TYPES[type_].id, src.ctypes.data, dst.ctypes.data, 0, rows, cols, weights)


def quantize(type_: str, src: np.ndarray, importance: np.ndarray | None = None) -> np.ndarray:
    """The bytes of `src`, shape (rows, cols), as ggml quantizes it."""
    dst = np.zeros(src.shape[0] * TYPES[type_].row_bytes(src.shape[1]), np.uint8)
    quantize_into(type_, src, dst, importance)
    return dst


def dequantize(type_: str, src: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """The weights, shape (rows, cols), that ggml reads from `src`."""
    dst = np.zeros((rows, cols), np.float32)
    traits = _library().ggml_get_type_traits(TYPES[type_].id).contents
    assert traits.name.decode().upper() == type_
    traits.to_float(src.ctypes.data, dst.ctypes.data, rows * cols)
    return dst
