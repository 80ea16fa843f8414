"""Shapes of models, small in every number that the choice of types does not look at. No data, no numpy."""

from collections.abc import Iterator
from typing import Any

from quantmill.gguf import TensorEntry
from quantmill.gguf.types import TYPES

F16, F32 = TYPES["F16"], TYPES["F32"]
Model = tuple[dict[str, Any], list[TensorEntry]]

ROWS = 2


def metadata(arch: str, layers: int, heads: Any, kv_heads: Any, width: int = 256, **more: Any) -> dict[str, Any]:
    """The keys without which llama.cpp does not load a model's shape."""
    facts = {
        "general.architecture": arch,
        "general.file_type": 1,
        f"{arch}.context_length": 64,
        f"{arch}.embedding_length": width,
        f"{arch}.block_count": layers,
        f"{arch}.feed_forward_length": width,
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{arch}.attention.layer_norm_epsilon": 1e-5,
        f"{arch}.attention.head_count": heads,
        f"{arch}.attention.head_count_kv": kv_heads,
    }
    return facts | {f"{arch}.{key}": value for key, value in more.items()}


def layer(i: int, width: int, ffn: int, experts: int = 0, shared: bool = False) -> Iterator[TensorEntry]:
    """A layer of the llama family; `experts` stacks feed-forward matrices, `shared` adds one for all tokens."""
    b = f"blk.{i}."
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        yield b + part + ".weight", (width, ROWS), F16
    yield b + "attn_norm.weight", (width,), F32
    yield b + "ffn_norm.weight", (width,), F32
    if experts:
        yield b + "ffn_gate_inp.weight", (width, experts), F32
        for part, columns in (("ffn_gate_exps", width), ("ffn_up_exps", width), ("ffn_down_exps", ffn)):
            yield b + part + ".weight", (columns, ROWS, experts), F16
    if not experts or shared:
        suffix = "_shexp" if shared else ""
        for part, columns in (("ffn_gate", width), ("ffn_up", width), ("ffn_down", ffn)):
            yield b + part + suffix + ".weight", (columns, ROWS), F16


def family(
    arch: str,
    layers: int,
    heads: int,
    kv_heads: int,
    *,
    width: int = 256,
    ffn: int = 256,
    tied: bool = False,
    experts: int = 0,
    shared: bool = False,
    **more: Any,
) -> Model:
    """A model of the llama family."""
    if experts:
        more |= {"expert_count": experts, "expert_used_count": 2, "expert_feed_forward_length": ffn}
    if shared:
        more |= {"expert_shared_feed_forward_length": ffn}
    tensors: list[TensorEntry] = [("token_embd.weight", (width, ROWS), F16), ("output_norm.weight", (width,), F32)]
    if not tied:
        tensors.append(("output.weight", (width, ROWS), F16))
    for i in range(layers):
        tensors += layer(i, width, ffn, experts, shared)
    return metadata(arch, layers, heads, kv_heads, width, **more), tensors


def split_experts(layers: int, experts: int) -> Model:
    """Mixtral as it was first converted: a tensor for every expert."""
    facts, tensors = family("llama", layers, 8, 2, expert_count=experts, expert_used_count=2)
    tensors = [tensor for tensor in tensors if ".ffn_" not in tensor[0] or "norm" in tensor[0]]
    for i in range(layers):
        for expert in range(experts):
            for part in ("ffn_gate", "ffn_up", "ffn_down"):
                tensors.append((f"blk.{i}.{part}.{expert}.weight", (256, ROWS), F16))
    return facts, tensors


def fused(arch: str, layers: int, heads: int, kv_heads: int, extra: tuple[str, ...] = (), tied: bool = False) -> Model:
    """Query, key and value in one matrix; `extra` are further matrices outside the layers."""
    names = ["token_embd.weight", *extra, *([] if tied else ["output.weight"])]
    for i in range(layers):
        names += [f"blk.{i}.{part}.weight" for part in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")]
    return metadata(arch, layers, heads, kv_heads), [(name, (256, ROWS), F16) for name in names]


def bert(layers: int) -> Model:
    """An encoder with embeddings of positions and of token types, which stay as they are."""
    facts, tensors = fused("bert", layers, 8, 8, ("position_embd.weight", "token_types.weight"), tied=True)
    return facts | {"bert.attention.causal": False, "tokenizer.ggml.token_type_count": 2}, tensors


def deepseek2(layers: int, experts: int) -> Model:
    """Latent attention: the value matrix is part of attn_kv_b."""
    more = {
        "leading_dense_block_count": 1,
        "attention.kv_lora_rank": 256,
        "expert_feed_forward_length": 256,
        "expert_shared_count": 1,
        "expert_weights_scale": 1.0,
        "expert_count": experts,
        "expert_used_count": 2,
        "rope.scaling.yarn_log_multiplier": 0.1,
        "attention.q_lora_rank": 256,
    }
    tensors: list[TensorEntry] = [("token_embd.weight", (256, ROWS), F16), ("output.weight", (256, ROWS), F16)]
    for i in range(layers):
        for part in ("attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_kv_b", "attn_output"):
            tensors.append((f"blk.{i}.{part}.weight", (256, ROWS), F16))
        tensors += [t for t in layer(i, 256, 256, experts if i else 0, shared=bool(i)) if ".ffn_" in t[0]]
    return metadata("deepseek2", layers, 8, 8, **more), tensors


def mamba(layers: int) -> Model:
    """No attention at all."""
    more = {"ssm.conv_kernel": 4, "ssm.inner_size": 512, "ssm.state_size": 16, "ssm.time_step_rank": 16}
    tensors: list[TensorEntry] = [("token_embd.weight", (256, ROWS), F16), ("output.weight", (256, ROWS), F16)]
    for i in range(layers):
        for part in ("ssm_in", "ssm_x", "ssm_dt", "ssm_out"):
            tensors.append((f"blk.{i}.{part}.weight", (256, ROWS), F16))
        tensors += [(f"blk.{i}.ssm_conv1d.weight", (4, ROWS), F32), (f"blk.{i}.ssm_a", (16, ROWS), F32)]
    facts = metadata("mamba", layers, 0, 0, **more)
    return facts, tensors


def t5(layers: int) -> Model:
    """Encoder and decoder: three attentions a layer."""
    tensors: list[TensorEntry] = [("token_embd.weight", (256, ROWS), F16), ("output.weight", (256, ROWS), F16)]
    for i in range(layers):
        for side in ("enc", "dec"):
            for part in ("attn_q", "attn_k", "attn_v", "attn_o", "ffn_gate", "ffn_up", "ffn_down"):
                tensors.append((f"{side}.blk.{i}.{part}.weight", (256, ROWS), F16))
            tensors.append((f"{side}.blk.{i}.attn_rel_b.weight", (256, ROWS), F16))
        for part in ("q", "k", "v", "o"):
            tensors.append((f"dec.blk.{i}.cross_attn_{part}.weight", (256, ROWS), F16))
    return metadata("t5", layers, 8, 8, **{"attention.relative_buckets_count": 32}), tensors


def uneven(layers: int) -> Model:
    """Key/value heads given layer by layer; some layers have none and no attention tensors."""
    facts, tensors = family("deci", layers, 8, 8)
    counts = [0 if i % 4 == 3 else 2 for i in range(layers)]
    facts["deci.attention.head_count_kv"] = counts
    facts["deci.attention.head_count"] = [8 if count else 0 for count in counts]
    facts["deci.feed_forward_length"] = [256] * layers
    gone = tuple(f"blk.{i}.attn_" for i, count in enumerate(counts) if not count)
    return facts, [tensor for tensor in tensors if not tensor[0].startswith(gone)]


MODELS: dict[str, Model] = {
    "tiny": family("qwen2", 4, 4, 2, ffn=768, tied=True),
    "qwen2-24": family("qwen2", 24, 28, 4),
    "qwen2-80": family("qwen2", 80, 64, 8),
    "qwen3-28-tied": family("qwen3", 28, 16, 8, tied=True),
    "llama-32-mha": family("llama", 32, 8, 8),
    "llama-80": family("llama", 80, 8, 1),
    "llama-80-mha": family("llama", 80, 8, 8),
    "smollm2": family("llama", 30, 9, 3, width=576, ffn=1536, tied=True),
    "width-272": family("qwen2", 4, 4, 2, width=272, ffn=544),
    "ffn-272": family("qwen2", 4, 4, 2, ffn=272),
    "mixtral": family("llama", 32, 8, 2, experts=8),
    "mixtral-split": split_experts(4, 8),
    "qwen3moe": family("qwen3moe", 12, 32, 4, experts=16),
    "qwen2moe-shared": family("qwen2moe", 9, 8, 8, experts=4, shared=True),
    "falcon": fused("falcon", 32, 8, 1),
    "gpt2": fused("gpt2", 12, 8, 8, ("position_embd.weight",), tied=True),
    "bert": bert(4),
    "command-r": family("command-r", 8, 8, 8, tied=True, logit_scale=1.0),
    "gemma3": family("gemma3", 18, 8, 4, tied=True, **{"attention.sliding_window": 512}),
    "deepseek2": deepseek2(5, 6),
    "mamba": mamba(4),
    "t5": t5(4),
    "uneven": uneven(8),
}

# Options of llama-quantize, on a few models and ftypes: (options, what they are to plan_types).
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--pure", {"pure": True}),
    ("--leave-output-tensor", {"leave_output_tensor": True}),
    ("--output-tensor-type f16", {"output_tensor_type": "F16"}),
    ("--token-embedding-type q4_1", {"token_embedding_type": "Q4_1"}),
    (
        "--pure --token-embedding-type q8_0 --output-tensor-type bf16",
        {"pure": True, "token_embedding_type": "Q8_0", "output_tensor_type": "BF16"},
    ),
    ("--tensor-type attn_v=q8_0", {"tensor_types": (("attn_v", "Q8_0"),)}),
    (
        "--tensor-type ffn_down=q5_0 --tensor-type attn_v=q6_k --output-tensor-type q8_0",
        {"tensor_types": (("ffn_down", "Q5_0"), ("attn_v", "Q6_K")), "output_tensor_type": "Q8_0"},
    ),
    ("--pure --tensor-type attn_v=q8_0", {"pure": True, "tensor_types": (("attn_v", "Q8_0"),)}),
]
OPTION_MODELS = ("tiny", "qwen2-24", "smollm2", "mixtral")
OPTION_FTYPES = ("Q4_K_M", "Q4_0", "Q3_K_S", "F16", "Q5_K_L")


def role(name: str) -> tuple[str, int]:
    """A tensor's name without its layer and ending, and the layer (-1 outside)."""
    head, blk, rest = name.removesuffix(".weight").partition("blk.")
    if not blk:
        return head, -1
    number, _, part = rest.partition(".")
    return f"{head}*.{part}", int(number)


def run_lengths(types: dict[str, str]) -> dict[str, str]:
    """Roles by their types in layer order: {"Q6_K*2 Q4_K*22": "*.attn_v *.ffn_down", "Q6_K": "output"}."""
    by_role: dict[str, list[tuple[int, str]]] = {}
    for name, type_ in types.items():
        part, number = role(name)
        by_role.setdefault(part, []).append((number, type_))
    found: dict[str, list[str]] = {}
    for part, members in sorted(by_role.items()):
        runs: list[list[Any]] = []
        for _, type_ in sorted(members):
            if runs and runs[-1][0] == type_:
                runs[-1][1] += 1
            else:
                runs.append([type_, 1])
        found.setdefault(" ".join(t if count == 1 else f"{t}*{count}" for t, count in runs), []).append(part)
    return {runs: " ".join(parts) for runs, parts in found.items()}
