"""GGUF files: read (validate all, then map), describe (sizes without data), write (streamed, whole or not at all)."""

from quantmill.gguf.errors import GGUFError
from quantmill.gguf.layout import ALIGNMENT, TensorEntry, TensorInfo, file_size, ggml_shape, header, header_size
from quantmill.gguf.reader import GGUFFile, read
from quantmill.gguf.shard_set import merge, split
from quantmill.gguf.shards import describe, find_shards, plan_shards, shard_sizes
from quantmill.gguf.values import KV, ValueType, kv, model_facts
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
