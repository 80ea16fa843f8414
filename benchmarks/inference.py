"""Quantized kernels beside llama-bench, file by file in one run: prompts, generation, and what repacking gives.

python benchmarks/inference.py BASE.gguf --imatrix FILE --llama-bench PROGRAM [--types Q4_0,...] [-t 2] [-r 3]
python benchmarks/inference.py --synthetic --llama-bench PROGRAM      a qwen2 of width 2048, random weights
Every repetition measures ours and theirs one after the other in each test. Figures are medians; a ratio is the median
of the repetitions' ratios, whose two sides ran next to each other. Generation is also given as a share of the bandwidth
at which as many threads, doing nothing else, read memory just before and after it.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np

from quantmill import _kernels
from quantmill.gguf import Writer, kv
from quantmill.gguf.types import TYPES
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.runtime.runners import Kernels, LlamaBench
from quantmill.runtime.speeds import Trial

FTYPES = "Q4_0,Q8_0,Q4_K_M,Q6_K,IQ4_XS,IQ3_M,IQ2_XXS"
TRIALS = [Trial("pp", 512), Trial("tg", 128)]


def bandwidth(threads: int) -> float:
    """Bytes a second that the threads read of memory: 512 MB, six times."""
    return statistics.harmonic_mean([_kernels.read_rate(2**29, threads) for _ in range(6)])


def synthetic(path: Path, width: int = 2048, hidden: int = 11008, layers: int = 8, vocabulary: int = 32000) -> Path:
    """A qwen2 of random F16 weights."""
    keys = {
        "context_length": 4096,
        "embedding_length": width,
        "block_count": layers,
        "feed_forward_length": hidden,
        "attention.head_count": width // 128,
        "attention.head_count_kv": 2,
        "rope.freq_base": 1e6,
        "attention.layer_norm_rms_epsilon": 1e-6,
    }
    tokens = [f"<{i}>" for i in range(vocabulary)]
    kvs = [
        kv("general.architecture", "qwen2"),
        kv("general.name", "synthetic"),
        *(kv(f"qwen2.{key}", value) for key, value in keys.items()),
        kv("tokenizer.ggml.model", "gpt2"),
        kv("tokenizer.ggml.pre", "default"),
        kv("tokenizer.ggml.tokens", tokens),
        kv("tokenizer.ggml.token_type", [1] * vocabulary),
        kv("tokenizer.ggml.merges", ["a b"]),
    ]
    shapes: list[tuple[str, tuple[int, ...]]] = [
        ("token_embd.weight", (width, vocabulary)),
        ("output_norm.weight", (width,)),
    ]
    for i in range(layers):
        matrices = {"attn_q": (width, width), "attn_k": (width, 256), "attn_v": (width, 256)}
        matrices |= {"attn_output": (width, width), "ffn_gate": (width, hidden), "ffn_up": (width, hidden)}
        shapes += [(f"blk.{i}.{name}.weight", shape) for name, shape in matrices.items()]
        shapes += [(f"blk.{i}.ffn_down.weight", (hidden, width))]
        shapes += [(f"blk.{i}.{name}_norm.weight", (width,)) for name in ("attn", "ffn")]
        shapes += [(f"blk.{i}.attn_{x}.bias", (size,)) for x, size in (("q", width), ("k", 256), ("v", 256))]
    described = [(name, shape, TYPES["F16" if len(shape) > 1 else "F32"]) for name, shape in shapes]
    state = np.random.default_rng(0)
    with Writer(path, kvs, described) as writer:
        for name, shape, type_ in described:
            values = state.standard_normal(shape[::-1], dtype=np.float32) * 0.02 + ("norm" in name)
            writer.append(values.astype(np.float16 if type_.name == "F16" else np.float32).view(np.uint8).reshape(-1))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, nargs="?")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--llama-bench", type=Path)
    parser.add_argument("--types", default=FTYPES)
    parser.add_argument("--plain", default="Q4_0,IQ4_NL", help="ftypes to measure without repacking as well")
    parser.add_argument("--keep", type=Path, help="a folder for the quantized files, used again when they are there")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="where files go without --keep")
    parser.add_argument("--activation-bits", type=int, choices=(8, 16), default=16, help="llama.cpp takes 8")
    parser.add_argument("-t", type=int, default=2)
    parser.add_argument("-r", type=int, default=3)
    options = parser.parse_args()
    if options.llama_bench:
        os.environ["PATH"] = f"{options.llama_bench.resolve().parent}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(dir=options.memory) as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        base = options.base
        names = list(dict.fromkeys([*options.types.split(","), *filter(None, options.plain.split(","))]))
        wanted = {name: folder / f"{name}.gguf" for name in names}
        if options.synthetic and not all(file.exists() for file in wanted.values()):
            base = synthetic(folder / "base.gguf")
        for name, file in wanted.items():
            if not file.exists():
                kind = {"imatrix": options.imatrix} if options.imatrix else {"imatrix": flat(base, folder)}
                quantize_file(base, file, name, reference=B4867, threads=options.t, **kind)
        print(f"memory: {bandwidth(options.t) / 1e9:.1f} GB/s read by {options.t} threads; {_kernels.infer_isa()}")
        for name, file in wanted.items():
            report(name, file, options)


def flat(base: Path, folder: Path) -> Path:
    """An importance matrix of ones, for the types that need one."""
    import struct

    from quantmill.gguf import read

    path = folder / "flat.dat"
    with read(base) as file:
        found = [info for info in file.tensors.values() if len(info.shape) > 1]
        body = b"".join(
            struct.pack("<i", len(name := info.name.encode()))
            + name
            + struct.pack("<ii", 1, info.shape[0])
            + np.ones(info.shape[0], np.float32).tobytes()
            for info in found
        )
    path.write_bytes(struct.pack("<i", len(found)) + body)
    return path


def report(name: str, file: Path, options: argparse.Namespace) -> None:
    runners: dict[str, Kernels | LlamaBench] = {"ours": Kernels(1024, options.t, True, options.activation_bits)}
    if options.llama_bench:
        runners["llama.cpp"] = LlamaBench(options.t)
    if name in options.plain.split(","):
        runners["plain"] = Kernels(1024, options.t, False, options.activation_bits)
    line = f"{name:8}"
    for trial in TRIALS:
        rates: dict[str, list[float]] = {who: [] for who in runners}
        shares = []
        for _ in range(options.r):
            before = bandwidth(options.t) if trial.kind == "tg" else 0.0
            for who, runner in runners.items():
                if (who, trial.kind) == ("plain", "tg"):
                    continue
                (row,) = runner.run(file, [trial])
                rates[who] += row.rates
                if who == "ours" and before:
                    shares.append(row.rates[0] * row.size / statistics.fmean([before, bandwidth(options.t)]))
        line += f"  {trial.name} {statistics.median(rates['ours']):7.1f}"
        if shares:
            line += f" ({statistics.median(shares):4.0%} of memory)"
        for who in [who for who in list(runners)[1:] if rates[who]]:
            ratio = statistics.median(ours / other for ours, other in zip(rates["ours"], rates[who], strict=True))
            line += f" {who} {statistics.median(rates[who]):7.1f} ratio {ratio:5.2f}"
    print(line, flush=True)


if __name__ == "__main__":
    main()
