"""A base whose weights lie on no grid, of a model that is to be had as Q4_1 alone.

    python benchmarks/spread_weights.py FILE.gguf BASE.gguf [--seed N]

A Q4_1 weight is one of sixteen steps of its block. Each is moved by up to half a step, evenly and by chance of a seed,
so that quantizing it again loses what it would lose of a model that was never quantized. Other tensors are expanded as
they are. BASE has F16 for matrices and F32 for vectors; the same seed makes the same bytes.
"""

import argparse
from pathlib import Path

import numpy as np

from quantmill import gguf
from quantmill.engine.evaluation import open_model
from quantmill.gguf.types import TYPES

BLOCK, BYTES = 32, 20  # of Q4_1: weights, and bytes with the step as a half first
F16 = 1  # as general.file_type


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    with gguf.read(options.file) as file, open_model(options.file) as model:
        kvs = [gguf.kv("general.file_type", F16) if e.key == "general.file_type" else e for e in file.metadata.values()]
        entries = [(name, shape, TYPES["F16" if len(shape) > 1 else "F32"]) for name, shape, _ in file.tensor_entries()]
        with gguf.Writer(options.base, kvs, entries) as writer:
            for name, shape, _ in entries:
                rows = shape[1] if len(shape) > 1 else 1
                info = file.tensors[name]
                if len(shape) == 1:
                    writer.append(file.data(info))
                    continue
                weights = model.dense(name, 0, rows).reshape(-1, BLOCK)
                if info.type.name == "Q4_1":
                    blocks = np.ascontiguousarray(file.data(info)).reshape(-1, BYTES)
                    step = blocks[:, :2].copy().view(np.float16).astype(np.float32)
                    weights += step * (random.random(weights.shape, np.float32) - np.float32(0.5))
                writer.append(weights.astype(np.float16))


if __name__ == "__main__":
    main()
