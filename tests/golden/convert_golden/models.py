"""Small models in Hugging Face layout, the same bytes on every machine: seeded weights, vocabularies made by rule.

Each is written into a folder of the name that the converter is to read out of it. `digests.json` holds, for each model
and type, the sha256 of the file that llama.cpp's convert_hf_to_gguf.py (b5490, transformers 4.52.4, torch 2.13.0,
safetensors 0.5.3) made of it; `benchmarks/convert_peer.py CONVERTER --record` wrote it. The converter's table of hashes
cannot know these vocabularies, so the pre-tokenizer's name (`PRE`) was put in its place.
"""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert_golden.vocabularies import DIGITS, LLAMA3, QWEN2, added, byte_level, split, spm_json, spm_model

Shapes = dict[str, tuple[int, ...]]

PRE = {
    "Qwen2.5-Tiny-7B-Instruct-v0.2": "qwen2",
    "qwen2-sharded": "qwen2",
    "Qwen3-0.6B": "qwen2",
    "Qwen3-mixture": "qwen2",
    "Qwen3-shards": "qwen2",
    "Meta-Llama-3.1-8B-Instruct": "llama-bpe",
    "SmolLM2-135M": "smollm",
    "DeepSeek-R1-Distill-Qwen-1.5B": "deepseek-r1-qwen",
}
CARD = """---
license: apache-2.0
license_link: https://example.org/LICENSE
language:
- en
- no
base_model:
- Qwen/Qwen2.5-7B
- https://huggingface.co/Some-org/other-v2
datasets: [org/some-data, https://example.org/data]
tags: [chat, code]
pipeline_tag: text-generation
---
# A card
"""


def save_safetensors(path: Path, tensors: Mapping[str, tuple[str, np.ndarray]]) -> None:
    header, offset, blocks = {}, 0, []
    for name, (dtype, values) in tensors.items():
        data = values.tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
        blocks.append(data)
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blocks))


def weight(name: str, shape: tuple[int, ...], dtype: str) -> tuple[str, np.ndarray]:
    """Seeded by the name, from integers alone; with values that are hard to round, among them infinities."""
    random = np.random.Generator(np.random.PCG64(sum(name.encode()) * 7919 + len(name)))
    values = (random.integers(-(2**23), 2**23, shape).astype("<f4") * np.float32(2**-24)).reshape(-1)
    hard = np.array([0, -0.0, 65519.5, 65520, 1e-8, -6e-8, 1.00390625, 1.01171875, 3e38, np.inf, -np.inf, 1e-40], "<f4")
    values[: len(hard)] = hard[: len(values)]
    if dtype == "BF16":
        return dtype, (values.view("<u4") >> 16).astype("<u2").reshape(shape)
    with np.errstate(over="ignore"):
        return dtype, values.astype({"F16": "<f2", "F32": "<f4"}[dtype]).reshape(shape)


def write(
    folder: Path,
    config: Mapping[str, Any],
    dtype: str,
    files: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    shards: int = 1,
) -> None:
    """`files` by name: bytes, text, or what is to be JSON; `shapes` are the checkpoint's tensors, rows first."""
    folder.mkdir(parents=True)
    for name, data in {"config.json": config, **files}.items():
        text = data if isinstance(data, str | bytes) else json.dumps(data, ensure_ascii=False)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    names = list(reversed(shapes))  # not the order that the converter takes
    if shards == 1:
        save_safetensors(folder / "model.safetensors", {name: weight(name, shapes[name], dtype) for name in names})
        return
    places = {}
    for index in range(shards):
        file = f"model-{index + 1:05d}-of-{shards:05d}.safetensors"
        part = names[index::shards]
        save_safetensors(folder / file, {name: weight(name, shapes[name], dtype) for name in part})
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def shapes_of(
    config: Mapping[str, Any], biases: tuple[str, ...] = (), norms: bool = False
) -> dict[str, tuple[int, ...]]:
    """The checkpoint's tensors, written down apart from the table that is tested."""
    embd, ff = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or embd // config["num_attention_heads"]
    q, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    found: Shapes = {"model.embed_tokens.weight": (config["vocab_size"], embd)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        matrices = {"q": (q, embd), "k": (kv, embd), "v": (kv, embd), "o": (embd, q)}
        found |= {f"{prefix}self_attn.{name}_proj.weight": shape for name, shape in matrices.items()}
        found |= {f"{prefix}self_attn.{name}_proj.bias": (matrices[name][0],) for name in biases if name in matrices}
        mlp = {"gate": (ff, embd), "up": (ff, embd), "down": (embd, ff)}
        found |= {f"{prefix}mlp.{name}_proj.weight": shape for name, shape in mlp.items()}
        found |= {f"{prefix}mlp.{name}_proj.bias": (mlp[name][0],) for name in biases if name in mlp}
        found |= {f"{prefix}{name}_layernorm.weight": (embd,) for name in ("input", "post_attention")}
        if norms:
            found |= {f"{prefix}self_attn.{name}_norm.weight": (head,) for name in "qk"}
    found["model.norm.weight"] = (embd,)
    if not config.get("tie_word_embeddings"):
        found["lm_head.weight"] = (config["vocab_size"], embd)
    return found


def config(class_: str, type_: str, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 288}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return {"architectures": [class_], "model_type": type_, **sizes, **heads, "rms_norm_eps": 1e-5, **more}


_QWEN_TOKENS = [
    ("<|endoftext|>", True, False),
    ("<|im_start|>", True, False),
    ("<|im_end|>", False, False),
    ("<tool_call>", False, False),
    ("▁under Ġscore", False, False),
    ("Ġodd\u00e9", False, False),
    ("raw Ġ", False, True),
]
_QWEN_CONFIG = {
    "tokenizer_class": "Qwen2Tokenizer",
    "add_bos_token": False,
    "bos_token": None,
    "eos_token": "<|im_end|>",
    "pad_token": "<|endoftext|>",
    "unk_token": None,
    "chat_template": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
}
_SPM_CONFIG = {
    "tokenizer_class": "LlamaTokenizer",
    "add_bos_token": True,
    "add_eos_token": False,
    "add_prefix_space": True,
    "bos_token": "<s>",
    "eos_token": {"content": "</s>", "special": True},
    "unk_token": "<unk>",
    "added_tokens_decoder": {
        "1": {"content": "<s>", "special": True},
        "273": {"content": "▁my word", "special": False},
        "274": {"content": "<|x|>", "special": False},
        "9999": {"content": "far", "special": False},
    },
}


def qwen2(folder: Path) -> None:
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    facts = config("Qwen2ForCausalLM", "qwen2", rope_theta=1e6, rope_scaling=yarn, eos_token_id=[270, 271])
    tokenizer = byte_level(split(QWEN2), _QWEN_TOKENS, {"type": "NFC"})
    files = {"tokenizer.json": tokenizer, "tokenizer_config.json": _QWEN_CONFIG, "README.md": CARD}
    write(folder, facts, "BF16", files, shapes_of(facts, ("q", "k", "v")))


def qwen2_sharded(folder: Path) -> None:
    more = {"_name_or_path": "Org/QwQ-32B-128k-Preview", "bos_token_id": 269, "tie_word_embeddings": True}
    facts = config("Qwen2ForCausalLM", "qwen2", max_position_embeddings=4096, **more) | {"num_hidden_layers": 11}
    tokenizer = byte_level(split(QWEN2), _QWEN_TOKENS, {"type": "NFC"})
    files = {"tokenizer.json": tokenizer, "tokenizer_config.json": {**_QWEN_CONFIG, "pad_token": "[NEW]"}}
    write(folder, facts, "F32", files, shapes_of(facts, ("q", "k", "v")), shards=3)


def qwen3(folder: Path) -> None:
    facts = config("Qwen3ForCausalLM", "qwen3", head_dim=32, rope_theta=1000000, tie_word_embeddings=True)
    tokenizer = byte_level(split(QWEN2), _QWEN_TOKENS, {"type": "NFC"})
    files = {"tokenizer.json": tokenizer, "tokenizer_config.json": _QWEN_CONFIG}
    write(folder, facts, "BF16", files, shapes_of(facts, norms=True))


def qwen3moe(folder: Path, shards: int = 1) -> None:
    """Twelve experts, so that 10 comes before 2; in shards, a layer's experts lie in several files."""
    more = {"num_experts": 12, "num_experts_per_tok": 3, "moe_intermediate_size": 32, "head_dim": 32}
    facts = config("Qwen3MoeForCausalLM", "qwen3_moe", rope_theta=1000000.0, **more)
    shapes = {name: shape for name, shape in shapes_of(facts, norms=True).items() if ".mlp." not in name}
    for layer in range(facts["num_hidden_layers"]):
        prefix = f"model.layers.{layer}.mlp."
        shapes[f"{prefix}gate.weight"] = (12, 64)
        for expert in range(12):
            for name, shape in {"gate": (32, 64), "up": (32, 64), "down": (64, 32)}.items():
                shapes[f"{prefix}experts.{expert}.{name}_proj.weight"] = shape
    tokenizer = byte_level(split(QWEN2), _QWEN_TOKENS, {"type": "NFC"})
    files = {"tokenizer.json": tokenizer, "tokenizer_config.json": _QWEN_CONFIG}
    write(folder, facts, "BF16", files, shapes, shards)


def llama3(folder: Path) -> None:
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"original_max_position_embeddings": 8192}
    facts = config(
        "LlamaForCausalLM",
        "llama",
        rope_theta=500000.0,
        rope_scaling=scaling | {"original_max_position_embeddings": 8192},
    )
    facts |= {"hidden_size": 256, "max_position_embeddings": 131072}
    tokens = [("<|begin_of_text|>", True, False), ("<|end_of_text|>", True, False), ("<|reserved|>", False, False)]
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>"}
    settings |= {"eos_token": "<|end_of_text|>", "clean_up_tokenization_spaces": True}
    settings |= {"chat_template": [{"name": "default", "template": "D"}, {"name": "tool-use", "template": "T"}]}
    tokenizer = byte_level(split(LLAMA3), tokens, ignore_merges=True)
    write(folder, facts, "F16", {"tokenizer.json": tokenizer, "tokenizer_config.json": settings}, shapes_of(facts))


def llama_spm(folder: Path) -> None:
    linear = {"type": "linear", "factor": 2.0}
    facts = config("LlamaForCausalLM", "llama", rope_scaling=linear, attention_bias=True, mlp_bias=True)
    files = {"tokenizer.model": spm_model(), "tokenizer_config.json": _SPM_CONFIG}
    files["added_tokens.json"] = {"<extra>": 272, "<far>": 5000}
    write(folder, facts, "F16", files, shapes_of(facts, ("q", "k", "v", "o", "gate", "up", "down")))


def llama_json(folder: Path) -> None:
    """Of as many tokens as rows: for more rows the converter makes a file that llama.cpp does not load."""
    facts = config("LlamaForCausalLM", "llama", num_key_value_heads=4, tie_word_embeddings=True) | {"vocab_size": 271}
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    files = {"tokenizer.json": spm_json(), "tokenizer_config.json": settings}
    write(folder, facts, "BF16", files, shapes_of(facts))


def mistral(folder: Path) -> None:
    facts = config("MistralForCausalLM", "mistral", head_dim=32, sliding_window=4096, bos_token_id=1, eos_token_id=2)
    write(folder, facts, "BF16", {"tokenizer.model": spm_model()}, shapes_of(facts))


def smollm(folder: Path) -> None:
    facts = config("LlamaForCausalLM", "llama", tie_word_embeddings=True, max_position_embeddings=8192)
    tokens = [("<|endoftext|>", True, False), ("<|im_start|>", True, False), ("<|im_end|>", True, False)]
    settings = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    settings |= {"pad_token": "<|im_end|>", "add_prefix_space": False}
    files = {"tokenizer.json": byte_level(DIGITS, tokens), "tokenizer_config.json": settings}
    write(folder, facts, "BF16", files, shapes_of(facts))


def deepseek(folder: Path) -> None:
    facts = config("Qwen2ForCausalLM", "qwen2")
    bar = "\uff5c"
    tokens = [(f"<{bar}begin▁of▁sentence{bar}>", True, False), (f"<{bar}User{bar}>", False, False)]
    settings = {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, "unk_token": None}
    settings |= {"bos_token": {"__type": "AddedToken", **added(0, tokens[0][0])}, "eos_token": tokens[0][0]}
    settings["bos_token"].pop("id")
    files = {"tokenizer.json": byte_level(split(QWEN2), tokens), "tokenizer_config.json": settings}
    write(folder, facts, "BF16", files, shapes_of(facts, ("q", "k", "v")))


_GEMMA_CONFIG = {
    "tokenizer_class": "GemmaTokenizer",
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "chat_template": "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n{{ m.content }}{% endfor %}",
    "added_tokens_decoder": {
        "0": {"content": "<pad>", "special": True},
        "1": {"content": "<eos>", "special": True},
        "2": {"content": "<bos>", "special": True},
        "4": {"content": "<mask>", "special": False},
        "5": {"content": "\n\n", "special": False},
        "6": {"content": "▁▁", "special": False},
        "300": {"content": "<image_soft_token>", "special": True},
    },
}
_GEMMA_PIECES = [("<pad>", 0.0, 3), ("<eos>", 0.0, 3), ("<bos>", 0.0, 3), ("<unk>", 0.0, 2)]
_GEMMA_PIECES += [(text, 0.0, 4) for text in ("<mask>", "\n\n", "▁▁", "<unused0>", "<start_of_turn>")]


def gemma3_shapes(config: Mapping[str, Any], prefix: str = "") -> Shapes:
    """The checkpoint's tensors of a text model, `prefix` before them all."""
    found = {name: shape for name, shape in shapes_of(config, norms=True).items() if name != "lm_head.weight"}
    for layer in range(config["num_hidden_layers"]):
        for name in ("pre_feedforward", "post_feedforward"):
            found[f"model.layers.{layer}.{name}_layernorm.weight"] = (config["hidden_size"],)
    return {prefix + name: shape for name, shape in found.items()}


def gemma3_files(**settings: Any) -> dict[str, Any]:
    tokens = [(id_, text) for id_, text in enumerate(text for text, _, _ in _GEMMA_PIECES)]
    tokenizer = spm_json() | {"added_tokens": [added(id_, text, special=id_ < 4) for id_, text in tokens]}
    files = {"tokenizer.model": spm_model(_GEMMA_PIECES), "tokenizer.json": tokenizer}
    return files | {"tokenizer_config.json": _GEMMA_CONFIG | settings}


def gemma3(folder: Path) -> None:
    """F16, in which a norm's sum with 1 is rounded; most sizes stated, no scaling, as in the model of 1B."""
    more = {"head_dim": 32, "sliding_window": 512, "rope_theta": 1000000, "max_position_embeddings": 32768}
    facts = config("Gemma3ForCausalLM", "gemma3_text", **more, eos_token_id=[1, 106], query_pre_attn_scalar=32)
    write(folder, facts, "F16", gemma3_files(), gemma3_shapes(facts))


def gemma3_vision(folder: Path, shards: int = 2) -> None:
    """Text and images: what the text model's table leaves out is the class's own; the vision model's tensors go."""
    scaling = {"factor": 8.0, "rope_type": "linear"}
    text = config("", "gemma3_text", head_dim=16, sliding_window=1024, rope_scaling=scaling)
    for key in ("architectures", "rms_norm_eps", "num_key_value_heads", "num_attention_heads"):
        text.pop(key)
    text |= {"vocab_size": 304, "hidden_size": 128}
    facts = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text}
    facts |= {"vision_config": {"hidden_size": 32, "num_hidden_layers": 1}, "eos_token_id": [1, 106]}
    shapes = gemma3_shapes({**text, "num_key_value_heads": 4, "num_attention_heads": 8}, "language_model.")
    shapes |= {"vision_tower.vision_model.embeddings.patch_embedding.weight": (32, 3, 4, 4)}
    shapes |= {"multi_modal_projector.mm_soft_emb_norm.weight": (32,)}
    files = gemma3_files() | {"added_tokens.json": {"<image_soft_token>": 300}}
    write(folder, facts, "BF16", files, shapes, shards)


def gemma3_untied(folder: Path) -> None:
    facts = config("Gemma3ForCausalLM", "gemma3_text", tie_word_embeddings=False, head_dim=16)
    facts |= {"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 4}, "bos_token_id": 2}
    shapes = gemma3_shapes(facts) | {"lm_head.weight": (288, 64)}
    write(folder, facts, "F32", {"tokenizer.model": spm_model(_GEMMA_PIECES)}, shapes)


MODELS: dict[str, Callable[[Path], None]] = {
    "Qwen2.5-Tiny-7B-Instruct-v0.2": qwen2,
    "qwen2-sharded": qwen2_sharded,
    "Qwen3-0.6B": qwen3,
    "Qwen3-mixture": qwen3moe,
    "Qwen3-shards": lambda folder: qwen3moe(folder, shards=3),
    "Meta-Llama-3.1-8B-Instruct": llama3,
    "llama-spm-chat": llama_spm,
    "llama-json": llama_json,
    "Mistral-8x7B-v0.1": mistral,
    "SmolLM2-135M": smollm,
    "DeepSeek-R1-Distill-Qwen-1.5B": deepseek,
    "gemma-3-1b-it": gemma3,
    "gemma-3-4b-it-shards": gemma3_vision,
    "gemma-3-untied": gemma3_untied,
}
TYPES = ("BF16", "F16", "F32")
