"""How much faster importance is collected than by llama-imatrix: the same model, text, chunks and threads, in turn.

python benchmarks/imatrix.py LLAMA_IMATRIX [--model F.gguf]... [--synthetic] [--text T] [--chunks 20] [--threads 2]
                             [--arithmetic f32,bf16x2] [--repeats 2] [--vocabulary 151936]

`--synthetic` adds a qwen2 model of hidden 2048 and 4 layers with random F16 weights. Prints a line a model and
arithmetic: llama-imatrix's tokens a second (as it prints them: without loading, with the logits of all tokens, which it
computes whether they are wanted or not), then those of quantmill with the perplexity (logits of the half of the tokens
that count) and without it (no logits, which the file does not need), and how many times the tool's they are. Every
repeat runs all in turn; speeds are of the best repeat, ratios are of those speeds. Where other processes take part of
the machine, trust the last column more: the ratio of tokens a second of processor time (the tool's with its loading).
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from quantmill import _kernels, gguf
from quantmill.architectures.hyperparameters import hyper
from quantmill.architectures.json_file import load_config
from quantmill.architectures.tensor_check import expected
from quantmill.engine import chunks
from quantmill.engine.evaluation import Run, collect, open_model
from quantmill.gguf import kv
from quantmill.gguf.types import TYPES
from quantmill.vocabulary import tokenizer
from quantmill.vocabulary.entries import vocabulary

ROOT = Path(__file__).parents[1]
LENGTH = 512
BARS = {"f32": "2.5x (SmolLM2-135M), 2x (synthetic)", "bf16x2": "6x with AMX"}


def synthetic(path: Path, n_vocab: int) -> Path:
    """Hidden 2048, 4 layers, feed-forward 5632, 16 heads of 128, 4 for keys; the tiny model's tokenizer, padded."""
    facts = {
        "block_count": 4,
        "context_length": 4096,
        "embedding_length": 2048,
        "feed_forward_length": 5632,
        "attention.head_count": 16,
        "attention.head_count_kv": 4,
        "attention.layer_norm_rms_epsilon": 1e-6,
    }
    entries = [kv("general.architecture", "qwen2"), *(kv(f"qwen2.{key}", value) for key, value in facts.items())]
    tiny = ROOT / "recipes" / "tiny"
    files = {file.name: file for file in tiny.iterdir()}
    entries += vocabulary(files, {**load_config(files), "vocab_size": n_vocab}, None)
    found = hyper("synthetic", {entry.key: entry for entry in entries}, n_vocab)
    tensors = [(name, shape) for name, shape, optional in expected(found) if not optional]
    described = [(name, shape, TYPES["F16" if len(shape) > 1 else "F32"]) for name, shape in tensors]
    random = np.random.default_rng(1)
    with gguf.Writer(path, entries, described) as writer:
        for name, shape, type_ in described:
            values = random.standard_normal(tuple(reversed(shape)), np.float32) * np.float32(shape[0] ** -0.5)
            values = np.ones_like(values) if "norm" in name else values
            writer.append(values.astype({"F16": np.float16, "F32": np.float32}[type_.name]).reshape(-1).view(np.uint8))
    return path


Speed = tuple[float, float]  # tokens a second, by the clock on the wall and by processor time


def peer(binary: str, model: Path, text: Path, count: int, threads: int) -> Speed:
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "-m", str(model), "-f", str(text), "-o", f"{folder}/out.dat", "-c", str(LENGTH)]
        command += ["--chunks", str(count), "-t", str(threads)]
        before = os.times()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"prompt eval time.* ([\d.]+) tokens per second", done.stdout + done.stderr)
    assert found is not None
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return float(found[1]), count * LENGTH / spent


def own(model: Path, tokens: np.ndarray, run: Run, perplexity: bool) -> Speed:
    with open_model(model) as opened:
        begin, spent = time.perf_counter(), time.process_time()
        collect(opened, tokens, run, perplexity=perplexity)
        return tokens.size / (time.perf_counter() - begin), tokens.size / (time.process_time() - spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer")
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--text", type=Path, default=ROOT / "recipes" / "tiny" / "calibration.txt")
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--arithmetic", default="f32")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=151936)
    options = parser.parse_args()
    print(
        f"levels {', '.join(_kernels.forward_levels())}; {options.threads} threads, {options.chunks} chunks of {LENGTH}"
    )
    with tempfile.TemporaryDirectory() as folder:
        models = list(options.model)
        if options.synthetic:
            models.append(synthetic(Path(folder) / "synthetic.gguf", options.vocabulary))
        for model in models:
            words = tokenizer.load(model)
            ids = words.encode(chunks.read_text(options.text))
            tokens = chunks.chunks(ids, LENGTH, words.bos if words.add_bos else None, count=options.chunks)
            theirs: list[Speed] = []
            ours: dict[tuple[str, bool], list[Speed]] = {}
            for _ in range(options.repeats):
                theirs.append(peer(options.peer, model, options.text, options.chunks, options.threads))
                for arithmetic in options.arithmetic.split(","):
                    for perplexity in (True, False):
                        run = Run(arithmetic, threads=options.threads)
                        ours.setdefault((arithmetic, perplexity), []).append(own(model, tokens, run, perplexity))
            wall, processor = map(max, zip(*theirs, strict=True))
            print(f"{model.name}: llama-imatrix {wall:.0f} tokens/s, {processor:.0f} of processor time")
            for (arithmetic, perplexity), speeds in ours.items():
                what = "with perplexity" if perplexity else "without"
                mine, own_processor = map(max, zip(*speeds, strict=True))
                ratios = f"{mine / wall:5.2f}x  {own_processor / processor:5.2f}x of processor time"
                print(f"  {arithmetic:6} {what:15} {mine:7.0f} tokens/s  {ratios}   bar {BARS[arithmetic]}")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
