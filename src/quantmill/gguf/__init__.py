"""GGUF files: read (validate all, then map), describe (sizes without data), write (streamed, whole or not at all).

A name is imported when it is first asked for: a build with nothing to do needs the types alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantmill.gguf.errors import GGUFError
    from quantmill.gguf.layout import ALIGNMENT, TensorEntry, TensorInfo, file_size, ggml_shape, header, header_size
    from quantmill.gguf.reader import GGUFFile, read
    from quantmill.gguf.shard_set import merge, split
    from quantmill.gguf.shards import describe, find_shards, plan_shards, shard_sizes
    from quantmill.gguf.types import ValueType
    from quantmill.gguf.values import KV, kv, model_facts
    from quantmill.gguf.verification import VerifyReport, verify, verify_files
    from quantmill.gguf.writer import Writer
__all__ = [
    "ALIGNMENT",
    "KV",
    "GGUFError",
    "GGUFFile",
    "TensorEntry",
    "TensorInfo",
    "ValueType",
    "VerifyReport",
    "Writer",
    "describe",
    "file_size",
    "find_shards",
    "ggml_shape",
    "header",
    "header_size",
    "kv",
    "merge",
    "model_facts",
    "plan_shards",
    "read",
    "shard_sizes",
    "split",
    "verify",
    "verify_files",
]

_FILES = {
    "errors": "GGUFError",
    "layout": "ALIGNMENT TensorEntry TensorInfo file_size ggml_shape header header_size",
    "reader": "GGUFFile read",
    "shard_set": "merge split",
    "shards": "describe find_shards plan_shards shard_sizes",
    "types": "ValueType",
    "values": "KV kv model_facts",
    "verification": "VerifyReport verify verify_files",
    "writer": "Writer",
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)
    return found
