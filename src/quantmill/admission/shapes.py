"""Shapes of models, small in every number that the choice of types does not look at. No data, no numpy."""

from collections.abc import Iterable, Iterator
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
        yield TensorEntry(b + part + ".weight", (width, ROWS), F16)
    yield TensorEntry(b + "attn_norm.weight", (width,), F32)
    yield TensorEntry(b + "ffn_norm.weight", (width,), F32)
    if experts:
        yield TensorEntry(b + "ffn_gate_inp.weight", (width, experts), F32)
        for part, columns in (("ffn_gate_exps", width), ("ffn_up_exps", width), ("ffn_down_exps", ffn)):
            yield TensorEntry(b + part + ".weight", (columns, ROWS, experts), F16)
    if not experts or shared:
        suffix = "_shexp" if shared else ""
        for part, columns in (("ffn_gate", width), ("ffn_up", width), ("ffn_down", ffn)):
            yield TensorEntry(b + part + suffix + ".weight", (columns, ROWS), F16)


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
    tensors: list[TensorEntry] = [
        TensorEntry("token_embd.weight", (width, ROWS), F16),
        TensorEntry("output_norm.weight", (width,), F32),
    ]
    if not tied:
        tensors.append(TensorEntry("output.weight", (width, ROWS), F16))
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
                tensors.append(TensorEntry(f"blk.{i}.{part}.{expert}.weight", (256, ROWS), F16))
    return facts, tensors


def fused(arch: str, layers: int, heads: int, kv_heads: int, extra: tuple[str, ...] = (), tied: bool = False) -> Model:
    """Query, key and value in one matrix; `extra` are further matrices outside the layers."""
    names = ["token_embd.weight", *extra, *([] if tied else ["output.weight"])]
    for i in range(layers):
        names += [f"blk.{i}.{part}.weight" for part in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")]
    return metadata(arch, layers, heads, kv_heads), [TensorEntry(name, (256, ROWS), F16) for name in names]


def bert(layers: int) -> Model:
    """An encoder with embeddings of positions and of token types, which stay as they are."""
    facts, tensors = fused("bert", layers, 8, 8, ("position_embd.weight", "token_types.weight"), tied=True)
    return facts | {"bert.attention.causal": False, "tokenizer.ggml.token_type_count": 2}, tensors


def deepseek2(layers: int, experts: int) -> Model:
    """Latent attention: the value matrix is part of attn_kv_b."""
    more: dict[str, Any] = {
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
    tensors: list[TensorEntry] = [
        TensorEntry("token_embd.weight", (256, ROWS), F16),
        TensorEntry("output.weight", (256, ROWS), F16),
    ]
    for i in range(layers):
        for part in ("attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_kv_b", "attn_output"):
            tensors.append(TensorEntry(f"blk.{i}.{part}.weight", (256, ROWS), F16))
        tensors += [t for t in layer(i, 256, 256, experts if i else 0, shared=bool(i)) if ".ffn_" in t[0]]
    return metadata("deepseek2", layers, 8, 8, **more), tensors


def mamba(layers: int) -> Model:
    """No attention at all."""
    more = {"ssm.conv_kernel": 4, "ssm.inner_size": 512, "ssm.state_size": 16, "ssm.time_step_rank": 16}
    tensors: list[TensorEntry] = [
        TensorEntry("token_embd.weight", (256, ROWS), F16),
        TensorEntry("output.weight", (256, ROWS), F16),
    ]
    for i in range(layers):
        for part in ("ssm_in", "ssm_x", "ssm_dt", "ssm_out"):
            tensors.append(TensorEntry(f"blk.{i}.{part}.weight", (256, ROWS), F16))
        tensors += [
            TensorEntry(f"blk.{i}.ssm_conv1d.weight", (4, ROWS), F32),
            TensorEntry(f"blk.{i}.ssm_a", (16, ROWS), F32),
        ]
    facts = metadata("mamba", layers, 0, 0, **more)
    return facts, tensors


def t5(layers: int) -> Model:
    """Encoder and decoder: three attentions a layer."""
    tensors: list[TensorEntry] = [
        TensorEntry("token_embd.weight", (256, ROWS), F16),
        TensorEntry("output.weight", (256, ROWS), F16),
    ]
    for i in range(layers):
        for side in ("enc", "dec"):
            for part in ("attn_q", "attn_k", "attn_v", "attn_o", "ffn_gate", "ffn_up", "ffn_down"):
                tensors.append(TensorEntry(f"{side}.blk.{i}.{part}.weight", (256, ROWS), F16))
            tensors.append(TensorEntry(f"{side}.blk.{i}.attn_rel_b.weight", (256, ROWS), F16))
        for part in ("q", "k", "v", "o"):
            tensors.append(TensorEntry(f"dec.blk.{i}.cross_attn_{part}.weight", (256, ROWS), F16))
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


def extended(model: Model, keys: dict[str, Any], layer: Iterable[str] = (), top: Iterable[str] = ()) -> Model:
    """`model` with further keys, and further matrices, in each layer or outside, named without `.weight`."""
    facts, tensors = model
    arch = facts["general.architecture"]
    names = [*top, *(f"blk.{i}.{part}" for i in range(facts[f"{arch}.block_count"]) for part in layer)]
    facts = facts | {f"{arch}.{key}": value for key, value in keys.items()}
    return facts, [*tensors, *(TensorEntry(f"{name}.weight", (256, ROWS), F16) for name in names)]


def taller(model: Model, rows: int) -> Model:
    """`model` with matrices of so many rows, in which kernels meet more."""
    facts, tensors = model
    return facts, [TensorEntry(name, (s[0], rows) if len(s) == 2 else s, type_) for name, s, type_ in tensors]


def gemma3n(layers: int) -> Model:
    """Embeddings per layer, and small matrices that stay as they are."""
    keys: dict[str, Any] = {
        "attention.sliding_window": 512,
        "attention.sliding_window_pattern": [True] * layers,
        "attention.shared_kv_layers": 2,
        "embedding_length_per_layer_input": 256,
        "altup.num_inputs": 4,
        "altup.active_idx": 0,
        "activation_sparsity_scale": [0.5] * layers,
    }
    model = family("gemma3n", layers, 8, 2, tied=True)
    top = ("per_layer_token_embd", "per_layer_model_proj", "altup_proj")
    return extended(model, keys, ("altup_router", "laurel_l", "inp_gate", "proj"), top)


def qwen35(layers: int, mtp: int) -> Model:
    """Three linear attentions to one full; the last `mtp` layers predict further tokens."""
    keys: dict[str, Any] = {
        "rope.dimension_sections": [11, 11, 10, 0],
        "ssm.conv_kernel": 4,
        "ssm.inner_size": 512,
        "ssm.state_size": 64,
        "ssm.time_step_rank": 8,
        "ssm.group_count": 4,
        "full_attention_interval": 4,
    }
    if mtp:
        keys["nextn_predict_layers"] = mtp
    facts, tensors = extended(family("qwen35", layers, 8, 2), keys)
    linear = tuple(f"blk.{i}.attn_" for i in range(layers) if i % 4 != 3)
    tensors = [tensor for tensor in tensors if not tensor[0].startswith(linear) or "norm" in tensor[0]]
    for start in linear:
        for part in ("attn_qkv", "attn_gate", "ssm_alpha", "ssm_beta", "ssm_out"):
            tensors.append(TensorEntry(start.replace("attn_", part + ".weight"), (256, ROWS), F16))
        tensors.append(TensorEntry(start.replace("attn_", "ssm_conv1d.weight"), (4, ROWS), F32))
    if mtp:
        tensors.append(TensorEntry(f"blk.{layers - 1}.nextn.eh_proj.weight", (256, ROWS), F16))
    return facts, tensors


def projector(layers: int) -> Model:
    """What sees for a model, of which llama-quantize reads no facts."""
    facts = {"general.architecture": "clip", "general.type": "mmproj", "general.file_type": 1}
    facts |= {"clip.has_vision_encoder": True, "clip.projector_type": "gemma3", "clip.vision.block_count": layers}
    parts = ("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_out", "ffn_up", "ffn_gate")
    names = ["mm.input_projection", "mm.0", *(f"v.blk.{i}.{part}" for i in range(layers) for part in parts)]
    tensors = [TensorEntry(f"{name}.weight", (256, ROWS), F16) for name in names]
    tensors += [TensorEntry(f"v.blk.{i}.ffn_down.weight", (544, ROWS), F16) for i in range(layers)]
    tensors += [TensorEntry(f"v.blk.{i}.ln1.weight", (256,), F32) for i in range(layers)]
    patches = TensorEntry("v.patch_embd.weight", (14, 14, 3, ROWS), F32)
    return facts, [*tensors, patches, TensorEntry("v.position_embd.weight", (256, 16), F32)]


_KEPT = """
time_mix_w0 time_mix_first time_mix_lerp_fused time_mix_key shortconv.conv ssm_conv1d ssm_conv1d_q altup_router laurel_l
inp_gate ffn_gate_inp ffn_gate_inp_shexp ffn_gate_tid2eid indexer.k_proj indexer.attn_k attn_rel_b ssm_in attn_k_b
attn_gate nextn.eh_proj position_embd rel_pos hc_x
"""
_KEPT_TOP = """
position_embd token_types per_layer_model_proj per_layer_token_embd altup_proj v.position_embd v.patch_embd
sam.pos_embd sam.neck.0 mm.patch_merger a.rvq.codebook mm.a.code_embd cls
"""
_GLM: dict[str, Any] = {
    "leading_dense_block_count": 8,
    "expert_count": 0,
    "expert_used_count": 0,
    "expert_feed_forward_length": 256,
    "expert_shared_count": 1,
    "expert_weights_scale": 1.0,
    "expert_weights_norm": True,
}

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
    "gemma3": extended(family("gemma3", 18, 8, 4, tied=True), {"attention.sliding_window": 512}),
    "deepseek2": deepseek2(5, 6),
    "mamba": mamba(4),
    "t5": t5(4),
    "uneven": uneven(8),
}

LATER: dict[str, Model] = {  # whose rules came after b5490, or that tell kernels apart
    "qwen2vl-80": extended(family("qwen2vl", 80, 64, 8), {"rope.dimension_sections": [16, 24, 24, 0]}),
    "width-336": family("llama", 4, 8, 2, width=336, ffn=1000),
    "phi3": extended(fused("phi3", 32, 8, 8), {"rope.dimension_count": 32, "attention.sliding_window": 512}),
    "gemma-output": family("gemma", 4, 8, 2),
    "gemma3n": gemma3n(8),
    "glm4moe": extended(family("glm4moe", 8, 8, 2), _GLM),
    "glm4moe-mtp": extended(family("glm4moe", 9, 8, 2), _GLM | {"nextn_predict_layers": 1}, ["nextn.eh_proj"]),
    "qwen35": qwen35(16, 0),
    "qwen35-mtp": qwen35(17, 1),
    "gpt-oss": extended(
        family("gpt-oss", 6, 64, 8, width=2880, ffn=2880, experts=4), {"attention.sliding_window": 128}
    ),
    "clip": projector(9),
    "kept": extended(family("llama", 2, 8, 2), {}, _KEPT.split(), _KEPT_TOP.split()),
    "kernels": taller(family("llama", 1, 8, 2, width=512, ffn=768), 32),
    "nasty": taller(family("llama", 1, 8, 2), 64),
}
