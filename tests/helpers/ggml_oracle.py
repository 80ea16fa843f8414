"""ggml itself, through ctypes: the wheel's 0.20.2, with which tests compare the kernels, or any libggml-base.so."""

import ctypes
import functools
import hashlib
import importlib.util
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from quantmill.gguf.types import TYPES
from quantmill.reference.arithmetic import QuantArithmetic


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


ARITHMETIC = QuantArithmetic.B8356  # of the wheel


@functools.cache
def load(path: Path | None = None) -> ctypes.CDLL:
    """A libggml-base.so; the wheel's where none is named."""
    if path is None:
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


def quantize_into(
    type_: str, src: np.ndarray, dst: np.ndarray, importance: np.ndarray | None, path: Path | None = None
) -> None:
    """ggml_quantize_chunk on all rows of `src`; no check of anything."""
    rows, cols = src.shape
    weights = None if importance is None else importance.ctypes.data
    load(path).ggml_quantize_chunk(TYPES[type_].id, src.ctypes.data, dst.ctypes.data, 0, rows, cols, weights)


def quantize(type_: str, src: np.ndarray, importance: np.ndarray | None = None, path: Path | None = None) -> np.ndarray:
    """The bytes of `src`, shape (rows, cols), as ggml quantizes it."""
    dst = np.zeros(src.shape[0] * TYPES[type_].row_bytes(src.shape[1]), np.uint8)
    quantize_into(type_, src, dst, importance, path)
    return dst


def dequantize(type_: str, src: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """The weights, shape (rows, cols), that ggml reads from `src`."""
    dst = np.zeros((rows, cols), np.float32)
    traits = load().ggml_get_type_traits(TYPES[type_].id).contents
    assert traits.name.decode().upper() == type_
    traits.to_float(src.ctypes.data, dst.ctypes.data, rows * cols)
    return dst


_DIRTY = """
#include <stddef.h>
typedef size_t (*Chunk)(int, const float *, void *, long, long, long, const float *);
static void __attribute__((noinline)) dirty(int fill) {
    volatile char stack[1 << 18];
    for (size_t i = 0; i < sizeof stack; ++i) stack[i] = (char)fill;
}
size_t run(Chunk f, int fill, int type, const float *src, void *dst, long rows, long cols, const float *weights) {
    dirty(fill);
    return f(type, src, dst, 0, rows, cols, weights);
}
"""


@functools.cache
def _dirty() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "dirty.so")
        command = ["cc", "-O1", "-shared", "-fPIC", "-xc", "-o", str(library), "-"]
        subprocess.run(command, input=_DIRTY, text=True, check=True)
        return ctypes.CDLL(str(library))


Job = tuple[str, np.ndarray, np.ndarray | None]  # type, rows, importance vector


def digests(jobs: Sequence[Job], path: Path | None = None, fill: int = 0) -> Iterator[bytes | None]:
    """sha256 of each job's bytes by the library at `path`, in processes of their own; None where it stops there.

    Its stack is full of bytes `fill` before: where the answers for two of them differ, it reads what it never wrote.
    """
    os.environ["GGML_NO_BACKTRACE"] = "1"  # by a debugger, which takes seconds
    for type_ in {type_ for type_, *_ in jobs}:
        load(path).ggml_quantize_init(TYPES[type_].id)  # its tables, once
    _dirty()
    while jobs:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            for descriptor in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            for job in jobs:
                os.write(writing, _digest(*job, path, fill))
            os._exit(0)
        os.close(writing)
        with open(reading, "rb") as pipe:
            found = pipe.read()
        os.waitpid(child, 0)
        whole = len(found) // 32
        yield from (found[32 * n : 32 * n + 32] for n in range(whole))
        if whole < len(jobs):
            yield None
        jobs = jobs[whole + 1 :]


def _digest(type_: str, src: np.ndarray, importance: np.ndarray | None, path: Path | None, fill: int) -> bytes:
    out = np.zeros(src.shape[0] * TYPES[type_].row_bytes(src.shape[1]), np.uint8)
    chunk = ctypes.cast(load(path).ggml_quantize_chunk, ctypes.c_void_p)
    arrays = [ctypes.c_void_p(array.ctypes.data) for array in (src, out)]
    weights = None if importance is None else ctypes.c_void_p(importance.ctypes.data)
    _dirty().run(chunk, fill, TYPES[type_].id, *arrays, *map(ctypes.c_long, src.shape), weights)
    return hashlib.sha256(out).digest()
