"""Quantized kernels beside llama-bench on models of many kinds of layers, by processor time: prompts and generation.

    python benchmarks/kinds.py LLAMA_BENCH [--kinds qwen3moe,gemma3,...] [--types Q8_0,...] [-r 3]

Makes models of some 100 to 200 M random weights, quantizes them, and measures one thread of ours and of theirs in turn.
What a repetition takes llama-bench is the difference of its processes with one repetition and with three, so that
loading and warming up are not in it. A figure is the median of the tokens a second, a ratio the median of the turns'.
Exits with 1 when a median ratio of prompts is below 1, or of generation below 0.9.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "helpers"))

from forward_models import Small, metadata
from quantmill.architectures.hyperparameters import hyper
from quantmill.architectures.tensor_check import expected
from quantmill.gguf import Writer, kv
from quantmill.gguf.types import TYPES
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.spans import newest
from quantmill.runtime.loader import LoadedModel, load

VOCABULARY = 16384
_HEADS = {"attention.key_length": 64, "attention.value_length": 64}
_EXPERTS = {"expert_count": 32, "expert_used_count": 4, "expert_feed_forward_length": 384}
_SHARED = {**_EXPERTS, "expert_count": 16, "expert_shared_feed_forward_length": 512}
_MAMBA = {"ssm.conv_kernel": 4, "ssm.state_size": 128, "ssm.group_count": 1, "ssm.time_step_rank": 24}
_DELTA = {
    "attention.key_length": 128,
    "attention.value_length": 128,
    "rope.dimension_count": 32,
    "ssm.conv_kernel": 4,
    "ssm.state_size": 128,
    "ssm.group_count": 8,
    "ssm.time_step_rank": 16,
    "ssm.inner_size": 2048,
    "full_attention_interval": 4,
    "attention.recurrent_layers": [True, True, True, False] * 2,
}
_SECTIONS = {"rope.dimension_sections": [8, 4, 4, 0]}
_COMPRESSED = {
    "attention.key_length": 320,
    "attention.value_length": 256,
    "attention.q_lora_rank": 0,
    "attention.kv_lora_rank": 256,
    "attention.key_length_mla": 192,
    "attention.value_length_mla": 128,
    "rope.dimension_count": 64,
    "leading_dense_block_count": 1,
    **_EXPERTS,
    "expert_count": 16,
    "expert_shared_count": 1,
    "expert_weights_scale": 1.0,
}
_SCALES = {"attention.scale": 0.125, "embedding_scale": 12.0, "residual_scale": 0.22, "logit_scale": 8.0}
KINDS = {
    "qwen3moe": Small("qwen3moe", 6, 768, 2048, 12, 4, {**_HEADS, **_EXPERTS}),
    "gemma3": Small("gemma3", 12, 768, 3072, 12, 4, {**_HEADS, "attention.sliding_window": 256}, ("output.weight",)),
    "lfm2": Small(
        *("lfm2", 12, 1024, 2560, 16, 8),
        {"attention.head_count_kv": [0, 0, 8] * 4, "shortconv.l_cache": 3},
        ("output.weight",),
    ),
    "granitehybrid": Small(
        *("granitehybrid", 12, 768, 2048, 12, 4),
        {
            "attention.head_count_kv": [0, 0, 0, 4] * 3,
            "rope.scaling.finetuned": False,
            **_MAMBA,
            **_SCALES,
            "ssm.inner_size": 1536,
        }
        | {"expert_shared_feed_forward_length": 2048},
    ),
    "falcon-h1": Small("falcon-h1", 10, 768, 2048, 12, 4, {**_HEADS, **_MAMBA, "ssm.inner_size": 1536}),
    "nemotron_h": Small(
        *("nemotron_h", 16, 1024, 4096, 16, 4),
        {**_HEADS, **_MAMBA, "ssm.time_step_rank": 32, "ssm.group_count": 8, "ssm.inner_size": 2048}
        | {"attention.head_count_kv": [0, 0, 4, 0] * 4, "feed_forward_length": [0, 4096, 0, 4096] * 4}
        | {"attention.layer_norm_epsilon": 1e-5, "rope.scaling.finetuned": False},
    ),
    "qwen35": Small("qwen35", 8, 1024, 2816, 8, 2, {**_DELTA, **_SECTIONS}),
    "qwen35moe": Small("qwen35moe", 8, 768, 2048, 8, 2, {**_DELTA, **_SECTIONS, **_SHARED}),
    "qwen3next": Small("qwen3next", 8, 768, 2048, 8, 2, {**_DELTA, **_SHARED}),
    "deepseek2": Small("deepseek2", 6, 768, 2048, 12, 1, _COMPRESSED, ("exp_probs",)),
}


def write(small: Small, path: Path) -> Path:
    """The model with random F32 weights, which keep states small."""
    tokens = [f"<{i}>" for i in range(VOCABULARY)]
    own = {
        f"{small.architecture}.context_length": 4096,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * VOCABULARY,
    }
    entries = [kv(entry.key, own.get(entry.key, entry.value)) for entry in metadata(small)]
    facts, state = hyper("", {entry.key: entry for entry in entries}, VOCABULARY), np.random.default_rng(0)
    found = [
        (name, shape, TYPES["F32"])
        for name, shape, optional in expected(facts)
        if not (optional and any(part in name for part in (*small.without, "rope_f")))
    ]
    with Writer(path, entries, found) as writer:
        for name, shape, _ in found:
            values = state.standard_normal(int(np.prod(shape)), dtype=np.float32) * np.float32(0.02)
            values = -1 + values if name.endswith("ssm_a") else values + ("norm" in name)
            writer.append(values.astype(np.float32).view(np.uint8))
    return path


def ours(model: LoadedModel, prompt: int, generated: int) -> float:
    """Seconds of one repetition."""
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, max(prompt, generated)).astype(np.int32)
    began = time.process_time()
    if prompt:
        model.evaluate(tokens[:prompt], 0)
    for position in range(generated):
        model.evaluate(tokens[position : position + 1], position)
    return time.process_time() - began


def theirs(program: Path, file: Path, prompt: int, generated: int) -> float:
    spent = []
    for repetitions in (1, 3):
        command = [program, "-m", file, "-t", 1, "-p", prompt, "-n", generated, "-r", repetitions]
        child = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{program} -m {file} ended with {child.returncode}")
        spent.append(usage.ru_utime + usage.ru_stime)
    return (spent[1] - spent[0]) / 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llama_bench", type=Path)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--types", default="Q8_0,Q4_K_M")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where the models are made")
    parser.add_argument("-r", type=int, default=3)
    parser.add_argument("-p", type=int, default=512)
    parser.add_argument("-n", type=int, default=64)
    options = parser.parse_args()
    missed = 0
    for name in options.kinds.split(","):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            base = write(KINDS[name], Path(folder) / "base.gguf")
            for ftype in options.types.split(","):
                file = Path(folder) / f"{ftype}.gguf"
                quantize_file(base, file, ftype, reference=newest(), threads=2)
                model = load(file, context=1024)
                ours(model, 64, 1)
                line = f"{name:14} {model.parameters / 1e6:4.0f} M {ftype:7}"
                for kind, prompt, generated in (("pp", options.p, 0), ("tg", 0, options.n)):
                    pairs = [
                        (ours(model, prompt, generated), theirs(options.llama_bench, file, prompt, generated))
                        for _ in range(options.r)
                    ]
                    count, ratio = prompt or generated, statistics.median(other / own for own, other in pairs)
                    rates = [count / statistics.median(side) for side in zip(*pairs, strict=True)]
                    line += f"  {kind}{count} {rates[0]:7.1f}, llama.cpp {rates[1]:7.1f}: {ratio:5.2f}"
                    missed += ratio < (1 if prompt else 0.9)
                print(line, flush=True)
                del model
                file.unlink()
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
