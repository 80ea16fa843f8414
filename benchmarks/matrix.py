"""The standard matrix of 26 files, as a build makes it, beside 26 runs of llama-quantize: processor time and bytes.

    python benchmarks/matrix.py --llama-quantize PATH [--layers 2] [--vocabulary 32768] [--threads 2] [--folder DIR]

The base is a synthetic qwen2 model (hidden 2048, ffn 11008) of 0.2 G weights in bf16, with an importance vector for
every matrix of its layers. Both sides run as whole processes on a warm page cache; times are user + system of the
processes. Ours are `doit quant` (which shares tensors between the files, hashes and stores them) and, apart, the
whole release (split, verify and card too). Exits with 1 when a file differs.
"""

import argparse
import hashlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from quantmill import gguf
from quantmill.gguf.types import TYPES
from quantmill.imatrix import Entry, encode
from quantmill.reference.ftypes import FTYPES, STANDARD_MATRIX

ROOT = Path(__file__).resolve().parent.parent
WIDTH, FFN, KV = 2048, 11008, 256
LAYER = {
    "attn_k.weight": (WIDTH, KV),
    "attn_output.weight": (WIDTH, WIDTH),
    "attn_q.weight": (WIDTH, WIDTH),
    "attn_v.weight": (WIDTH, KV),
    "ffn_down.weight": (FFN, WIDTH),
    "ffn_gate.weight": (WIDTH, FFN),
    "ffn_up.weight": (WIDTH, FFN),
}


def write_base(folder: Path, layers: int, vocabulary: int) -> int:
    """Write base.gguf and imatrix.dat; returns the number of weights."""
    facts = {
        "general.architecture": "qwen2",
        "qwen2.block_count": layers,
        "qwen2.embedding_length": WIDTH,
        "qwen2.feed_forward_length": FFN,
        "qwen2.context_length": 512,
        "qwen2.attention.head_count": 16,
        "qwen2.attention.head_count_kv": 2,
        "qwen2.attention.layer_norm_rms_epsilon": 1e-6,
        "general.file_type": 32,
    }
    tensors = [
        ("token_embd.weight", (WIDTH, vocabulary), TYPES["BF16"]),
        ("output_norm.weight", (WIDTH,), TYPES["F32"]),
    ]
    for i in range(layers):
        tensors += [(f"blk.{i}.{name}", shape, TYPES["BF16"]) for name, shape in LAYER.items()]
        tensors += [(f"blk.{i}.{name}.weight", (WIDTH,), TYPES["F32"]) for name in ("attn_norm", "ffn_norm")]
    random = np.random.default_rng(3)
    with gguf.Writer(folder / "base.gguf", [gguf.kv(k, v) for k, v in facts.items()], tensors) as writer:
        for _, shape, type_ in tensors:
            rows = shape[1] if len(shape) > 1 else 1
            for first in range(0, rows, 1024):
                values = random.standard_t(5, (min(1024, rows - first), shape[0])).astype(np.float32) * np.float32(0.02)
                writer.append((values.view(np.uint32) >> 16).astype(np.uint16) if type_.name == "BF16" else values)
    entries = [
        Entry(f"blk.{i}.{name}", 1, random.gamma(0.5, 2.0, shape[0]).astype(np.float32))
        for i in range(layers)
        for name, shape in LAYER.items()
    ]
    (folder / "imatrix.dat").write_bytes(encode(entries, b"text", 1))
    return sum(int(np.prod(shape)) for _, shape, _ in tensors)


def processor_seconds(command: list[str], folder: Path) -> tuple[float, float]:
    """User + system seconds of a command and its children, and the seconds on the clock."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{command[0]} failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def peer(binary: Path, folder: Path, name: str, threads: int) -> tuple[str, float, float]:
    """llama-quantize's file's digest, its processor seconds and its seconds on the clock."""
    found = FTYPES[name]
    large = ["--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0"] if found.embedding_and_output else []
    command = [str(binary), "--imatrix", "imatrix.dat", *large, "base.gguf", "peer.gguf", found.base, str(threads)]
    spent, wall = processor_seconds(command, folder)
    digest = sha256(folder / "peer.gguf")
    (folder / "peer.gguf").unlink()
    return digest, spent, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-quantize", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        (folder / "recipes").mkdir()
        weights = write_base(folder, options.layers, options.vocabulary)
        print(f"{weights / 1e9:.3f} G weights", flush=True)
        shutil.move(folder / "base.gguf", folder / "recipes" / "base.gguf")
        shutil.move(folder / "imatrix.dat", folder / "recipes" / "imatrix.dat")
        (folder / "recipes" / "matrix.toml").write_text(
            f'llama_cpp = "b5490"\n[base]\ngguf = "base.gguf"\n[imatrix]\nfile = "imatrix.dat"\n'
            f'sha256 = "{sha256(folder / "recipes" / "imatrix.dat")}"\n[quants]\nmatrix = "standard"\n'
        )
        (folder / "dodo.py").write_text((ROOT / "dodo.py").read_text().replace('"tiny"', '"matrix"'))
        doit = str(Path(sys.executable).parent / "doit")
        threads = ["taskset", "-c", ",".join(map(str, range(options.threads)))]
        spent, wall = processor_seconds([*threads, doit, "quant"], folder)
        rest, _ = processor_seconds([*threads, doit], folder)
        print(
            f"ours: quantizing {spent:.1f} s of processor ({wall:.1f} s), the whole release {spent + rest:.1f} s",
            flush=True,
        )
        theirs, theirs_wall, wrong = 0.0, 0.0, []
        for ftype in STANDARD_MATRIX:
            digest, more, more_wall = peer(options.llama_quantize, folder / "recipes", ftype, options.threads)
            theirs, theirs_wall = theirs + more, theirs_wall + more_wall
            same = digest == sha256(folder / "release" / "matrix" / f"matrix-{ftype}.gguf")
            wrong += [] if same else [ftype]
            print(f"{ftype:8} llama-quantize {more:7.1f} s  {'same bytes' if same else 'DIFFERENT'}", flush=True)
    print(
        f"llama-quantize {theirs:.1f} s of processor ({theirs_wall:.1f} s): {theirs / spent:.1f} times ours, "
        f"{theirs / (spent + rest):.1f} times the whole release; on the clock {theirs_wall / wall:.1f} times; "
        f"{len(STANDARD_MATRIX) - len(wrong)} of {len(STANDARD_MATRIX)} files the same"
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
