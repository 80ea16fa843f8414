"""Anonymous memory while quantizing: it must not grow with the tensor or the model.

    python benchmarks/memory.py [--folder DIR] [--ftypes Q4_K_M,Q8_0,F16] [--threads 2]

Writes two synthetic bf16 bases to DIR (about 4.2 GB in all, removed afterwards): one of a single 220 MB layer, one of
4 GB with an embedding of 152064 x 5120. Each is quantized in a process of its own with an importance vector for every
matrix, while RssAnon of /proc is sampled. Prints the peak and what importing alone takes.
"""

import argparse
import multiprocessing
import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from quantmill import _kernels, gguf
from quantmill.gguf.types import TYPES
from quantmill.imatrix import Entry, encode
from quantmill.quant.quantizer import quantize_file

SHAPES = {
    "220 MB, one layer": {"width": 4096, "ffn": 3584, "vocabulary": 256, "layers": 1},
    "4 GB, 152064 x 5120": {"width": 5120, "ffn": 32768, "vocabulary": 152064, "layers": 2},
}
BF16, F32 = TYPES["BF16"], TYPES["F32"]


def tensors(width: int, ffn: int, vocabulary: int, layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "token_embd.weight", (width, vocabulary)
    for i in range(layers):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            yield f"blk.{i}.{part}.weight", (width, width)
        yield f"blk.{i}.ffn_gate.weight", (width, ffn)
        yield f"blk.{i}.ffn_up.weight", (width, ffn)
        yield f"blk.{i}.ffn_down.weight", (ffn, width)


def write(folder: Path, width: int, ffn: int, vocabulary: int, layers: int) -> tuple[Path, Path]:
    """A base and its imatrix; the weights repeat one block of noise."""
    described = [(name, shape, BF16) for name, shape in tensors(width, ffn, vocabulary, layers)]
    noise = np.random.default_rng(1).standard_normal(1 << 22).astype(np.float32).view(np.uint32) >> 16
    block = noise.astype(np.uint16).view(np.uint8)
    facts = {"general.architecture": "llama", "llama.block_count": layers, "llama.attention.head_count": 32}
    base, imatrix = folder / "base.gguf", folder / "imatrix.dat"
    with gguf.Writer(base, [gguf.kv(key, value) for key, value in facts.items()], described) as writer:
        for info in writer.tensors:
            for at in range(0, info.nbytes, block.size):
                writer.append(block[: info.nbytes - at].data)
    values = np.random.default_rng(2).random(max(width, ffn)).astype(np.float32) + 0.1
    imatrix.write_bytes(encode([Entry(name, 1, values[: shape[0]]) for name, shape, _ in described], b"", 1))
    return base, imatrix


def anonymous() -> int:
    """RssAnon of this process in bytes."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def measure(
    base: Path, imatrix: Path, out: Path, ftype: str, threads: int, embedding: str | None = None
) -> tuple[int, int]:
    """(before, peak) in bytes; `embedding` is a type for the token embedding."""
    before = peak = anonymous()
    finished = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not finished.wait(0.002):
            peak = max(peak, anonymous())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        quantize_file(base, out, ftype, imatrix=imatrix, threads=threads, token_embedding_type=embedding)
    finally:
        finished.set()
        sampler.join()
    return before, peak


def largest(arguments: argparse.Namespace) -> None:
    """A 32B model's largest tensor, in every type that can be written."""
    types = (
        [t for t in _kernels.quantize_types() if t != "BF16"]
        if arguments.types == "all"
        else arguments.types.split(",")
    )
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        base, imatrix = write(Path(folder), width=5120, ffn=256, vocabulary=152064, layers=0)
        for type_ in types:
            call = (base, imatrix, Path(folder, "out.gguf"), "Q8_0", arguments.threads, type_)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                before, peak = pool.apply(measure, call)
            print(
                f"152064 x 5120 as {type_:8} anonymous: {before / 1e6:3.0f} MB before, {peak / 1e6:3.0f} MB peak",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--ftypes", default="Q4_K_M,Q8_0,F16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--types", default="", help="instead, the largest tensor alone, 152064 x 5120, in these types or in all"
    )
    arguments = parser.parse_args()
    if arguments.types:
        largest(arguments)
        return
    for label, shape in SHAPES.items():
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            base, imatrix = write(Path(folder), **shape)
            for ftype in arguments.ftypes.split(","):
                call = (base, imatrix, Path(folder, "out.gguf"), ftype, arguments.threads)
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    before, peak = pool.apply(measure, call)
                print(
                    f"{label:22} {base.stat().st_size / 1e9:5.2f} GB  {ftype:7} {arguments.threads} threads  "
                    f"anonymous: {before / 1e6:5.0f} MB before, {peak / 1e6:5.0f} MB peak",
                    flush=True,
                )


if __name__ == "__main__":
    main()
