"""A mixture of a trillion weights, by its shapes alone: what its plan takes, and the memory of its largest tensor.

    python benchmarks/trillion.py [--folder DIR] [--ftype Q4_K_M] [--threads 2]

Plans the standard matrix from a configuration, in a process of its own. Then writes a sparse GGUF file whose one layer
has the model's experts, 2.7 G weights in each of three tensors, of which it quantizes the first (5.4 GB as BF16; the
file written has 1.6 GB, and is removed). Prints seconds by the clock and by processor time, and memory; ends with 1
where a plan takes longer than 10 s of processor time, or quantizing more than 600 MB.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from quantmill import gguf
from quantmill.gguf.types import TYPES
from quantmill.quant.quantizer import quantize_file

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "hidden_size": 6144,
    "intermediate_size": 12288,
    "num_hidden_layers": 122,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 192,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2304,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}
RECIPE = """llama_cpp = "b5490"
[base]
repo = "team/huge"
[quants]
matrix = "standard"
[imatrix]
file = "i.dat"
sha256 = "%s"
[publish]
owner = "team"
as_built = true
"""
SECONDS, BYTES = 10.0, 600_000_000


def plan(folder: Path) -> bool:
    recipes = folder / "recipes"
    recipes.mkdir()
    (recipes / "huge.toml").write_text(RECIPE % ("0" * 64))
    lock = {"format": 1, "base": {"repo": "team/huge", "revision": "main"}, "files": {}, "config": CONFIG}
    (recipes / "huge.lock").write_text(json.dumps({**lock, "metadata_bytes": None}))
    command = [str(Path(sys.executable).parent / "quantmill"), "plan", "huge", "--json"]
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    took, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout)
    largest = max(file["bytes"] for file in found["files"])
    spent = used.ru_utime + used.ru_stime
    print(
        f"plan: {took:.1f} s, {spent:.1f} s of the processor, {used.ru_maxrss / 1e3:.0f} MB; the base has "
        f"{largest / 1e12:.2f} TB, all {found['disk_bytes'] / 1e12:.1f} TB, as built {found['disk_peak'] / 1e12:.1f} TB"
    )
    return spent > SECONDS


def sparse(path: Path) -> None:
    """A base of the model's first layer: all of it is a hole."""
    width, experts, hidden = CONFIG["hidden_size"], CONFIG["num_experts"], CONFIG["moe_intermediate_size"]
    assert isinstance(width, int)
    assert isinstance(experts, int)
    assert isinstance(hidden, int)
    described = [
        ("token_embd.weight", (width, 256), TYPES["BF16"]),
        ("blk.0.ffn_gate_exps.weight", (width, hidden, experts), TYPES["BF16"]),
    ]
    facts = {"general.architecture": "qwen3moe", "qwen3moe.block_count": 1, "qwen3moe.attention.head_count": 64}
    kvs = [gguf.kv(key, value) for key, value in facts.items()]
    small = [(name, (width, 256, 1) if len(shape) == 3 else shape, type_) for name, shape, type_ in described]
    size = gguf.file_size(kvs, described)
    head = size - sum(2 * _weights(shape) for _, shape, _ in described)
    with gguf.Writer(path.with_suffix(".small"), kvs, small) as writer:
        for info in writer.tensors:
            writer.append(bytes(info.nbytes))
    data = bytearray(path.with_suffix(".small").read_bytes()[:head])
    at = data.index(b"blk.0.ffn_gate_exps.weight") + len("blk.0.ffn_gate_exps.weight") + 4 + 8
    data[at : at + 16] = hidden.to_bytes(8, "little") + experts.to_bytes(8, "little")
    with open(path, "wb") as file:
        file.write(data)
        file.truncate(size)


def _weights(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def anonymous() -> int:
    """RssAnon of this process in bytes."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def memory(folder: Path, ftype: str, threads: int) -> bool:
    base = folder / "base.gguf"
    sparse(base)
    print(
        f"sparse base: {base.stat().st_size / 1e9:.2f} GB, {base.stat().st_blocks * 512 / 1e6:.1f} MB of them on disk"
    )
    peak, ended = anonymous(), threading.Event()

    def sample() -> None:
        nonlocal peak
        while not ended.wait(0.002):
            peak = max(peak, anonymous())

    sampler = threading.Thread(target=sample)
    sampler.start()
    began, spent = time.monotonic(), time.process_time()
    try:
        quantize_file(base, folder / "out.gguf", ftype, threads=threads)
    finally:
        ended.set()
        sampler.join()
    took, spent = time.monotonic() - began, time.process_time() - spent
    size = os.path.getsize(folder / "out.gguf") / 1e9
    print(f"{ftype}: {took:.1f} s, {spent:.1f} s of the processor, {size:.2f} GB; anonymous memory {peak / 1e6:.0f} MB")
    return peak > BYTES


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--ftype", default="Q4_K_M")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        late = plan(Path(name))
        return int(memory(Path(name), options.ftype, options.threads) or late)


if __name__ == "__main__":
    sys.exit(main())
