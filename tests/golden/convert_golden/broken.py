"""Small checkpoints of every class that is converted, each with one thing wrong, or odd: some fifty of each."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert_golden import models
from quantmill.artifact import Context
from quantmill.checkpoint.conversion import convert
from quantmill.errors import QuantmillError
from quantmill.forecast.plan import plan_of
from quantmill.recipe.recipe import load

Tensors = dict[str, tuple[str, np.ndarray]]
Change = Callable[[dict[str, Any], Tensors], None]
LAYER = "model.layers.0."

_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True, "head_dim": 16}
_GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 128, "tie_word_embeddings": True}
CLASSES: dict[str, dict[str, Any]] = {
    "Qwen2ForCausalLM": {},
    "Qwen3ForCausalLM": {"head_dim": 16},
    "Qwen3MoeForCausalLM": _MOE,
    "LlamaForCausalLM": {},
    "MistralForCausalLM": {"sliding_window": None},
    "Gemma3ForCausalLM": _GEMMA,
    "Gemma3ForConditionalGeneration": _GEMMA,
}


def configuration(class_: str) -> dict[str, Any]:
    facts = {"max_position_embeddings": 512, "torch_dtype": "bfloat16", "tie_word_embeddings": False}
    return models.config(class_, "x") | facts | CLASSES[class_]


def shapes(class_: str, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    if class_.startswith("Gemma3"):
        return models.gemma3_shapes(facts, "language_model." if "Conditional" in class_ else "")
    found = models.shapes_of(facts, ("q", "k", "v") if class_.startswith("Qwen2") else (), "Qwen3" in class_)
    if "Moe" not in class_:
        return found
    found = {name: shape for name, shape in found.items() if ".mlp." not in name}
    for layer in range(facts["num_hidden_layers"]):
        prefix = f"model.layers.{layer}.mlp."
        found[f"{prefix}gate.weight"] = (4, 64)
        for expert in range(4):
            for name, shape in {"gate": (32, 64), "up": (32, 64), "down": (64, 32)}.items():
                found[f"{prefix}experts.{expert}.{name}_proj.weight"] = shape
    return found


def weights(class_: str, facts: Mapping[str, Any]) -> Tensors:
    random = np.random.Generator(np.random.PCG64(5))
    found = {}
    for name, shape in shapes(class_, facts).items():
        values = random.integers(-(2**15), 2**15, shape).astype("<f4") * np.float32(2**-19)
        if "norm" in name and not class_.startswith("Gemma3"):
            values += 1
        found[name] = ("BF16", (values.view("<u4") >> 16).astype("<u2"))
    return found


def state(**change: Any) -> Change:
    def changed(facts: dict[str, Any], tensors: Tensors) -> None:
        facts.update(change)

    return changed


def leave_out(*keys: str) -> Change:
    def changed(facts: dict[str, Any], tensors: Tensors) -> None:
        for key in keys:
            facts.pop(key, None)

    return changed


def tensor(ending: str, change: Callable[[str, tuple[str, np.ndarray]], dict[str, tuple[str, np.ndarray]]]) -> Change:
    """The first tensor whose name ends so becomes those that `change` makes of it."""

    def changed(facts: dict[str, Any], tensors: Tensors) -> None:
        name = next(name for name in sorted(tensors) if name.endswith(ending))
        tensors.update(change(name, tensors.pop(name)))

    return changed


def more(name: str, *shape: int, dtype: str = "BF16") -> Change:
    def changed(facts: dict[str, Any], tensors: Tensors) -> None:
        code = {"BF16": "<u2", "F32": "<f4", "I8": "i1", "U8": "u1"}[dtype]
        tensors[name] = (dtype, np.zeros(shape, code))

    return changed


def cast(dtype: str, code: str) -> Callable[[str, tuple[str, np.ndarray]], dict[str, tuple[str, np.ndarray]]]:
    return lambda name, found: {name: (dtype, np.zeros(found[1].shape, code))}


_ROPE = {"factor": 4.0, "original_max_position_embeddings": 128}
_LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}

CHANGES: dict[str, Change] = {
    "as it is": state(),
    **{
        f"{key} {value!r}": state(**{key: value})
        for key, values in {
            "vocab_size": (287, 320, 0, "288"),
            "hidden_size": (65, 128, None),
            "intermediate_size": (64, -1),
            "num_hidden_layers": (1, 3, 0, 513),
            "num_attention_heads": (3, 8),
            "num_key_value_heads": (4, 3, None),
            "head_dim": (32, 15, 0, None),
            "max_position_embeddings": (0, None, 1 << 31),
            "rms_norm_eps": (None, 0, "1e-6", 10.0),
            "rope_theta": (None, 5000, "x"),
            "tie_word_embeddings": (True, False, "false", None),
            "hidden_act": ("gelu", "silu"),
            "hidden_activation": ("silu",),
            "attention_bias": (True,),
            "mlp_bias": (True,),
            "sliding_window": (64, 0),
            "partial_rotary_factor": (0.5,),
            "final_logit_softcapping": (30.0,),
            "query_pre_attn_scalar": (64,),
            "layer_types": (["sliding_attention", "full_attention"], "full"),
            "num_experts": (8, 300),
            "num_local_experts": (8,),
            "num_experts_per_tok": (0, 5),
            "norm_topk_prob": (False,),
            "quantization_config": ({"quant_method": "gptq"},),
            "architectures": ([], ["MambaForCausalLM"]),
        }.items()
        for value in values
    },
    **{
        f"rope {kind}": state(rope_scaling={"rope_type": kind, **_ROPE})
        for kind in ("linear", "yarn", "dynamic", "longrope", "default")
    },
    "rope llama3": state(rope_scaling=_LLAMA3),
    "rope yarn, as transformers 5 says it": state(rope_parameters={"rope_type": "yarn", "rope_theta": 1e6, **_ROPE}),
    "rope no table": state(rope_scaling="yarn"),
    "a window asked for": state(use_sliding_window=True, sliding_window=64, max_window_layers=0),
    "no norm eps": leave_out("rms_norm_eps"),
    "no key-value heads": leave_out("num_key_value_heads"),
    "no vocabulary's size": leave_out("vocab_size"),
    "numbers that JSON has not": state(time_step_limit=[0.0, float("inf")], dropout=float("nan")),
    "a norm is missing": tensor("input_layernorm.weight", lambda name, found: {}),
    "a matrix is missing": tensor("o_proj.weight", lambda name, found: {}),
    "the embeddings are missing": tensor("embed_tokens.weight", lambda name, found: {}),
    "a matrix lies": tensor("q_proj.weight", lambda name, found: {name: (found[0], found[1].T[:, :32].copy())}),
    "a norm is longer": tensor("model.norm.weight", lambda name, found: {name: (found[0], np.zeros(65, "<u2"))}),
    "a matrix has another name": tensor("v_proj.weight", lambda name, found: {name.replace("v_proj", "value"): found}),
    "a matrix of F32": tensor("k_proj.weight", cast("F32", "<f4")),
    "a matrix of I8": tensor("k_proj.weight", cast("I8", "i1")),
    "a matrix of F8": tensor("k_proj.weight", cast("F8_E4M3", "u1")),
    "a bias too many": more(LAYER + "self_attn.o_proj.bias", 64),
    "an output too many": more("lm_head.weight", 288, 64),
    "a buffer": more(LAYER + "self_attn.rotary_emb.inv_freq", 8, dtype="F32"),
    "a LoRA": more(LAYER + "mlp.down_proj.lora_A.weight", 8, 64),
    "GPTQ": more(LAYER + "mlp.down_proj.qweight", 8, 8),
    "another layer": more("model.layers.9.input_layernorm.weight", 64),
}


def write(folder: Path, class_: str, change: Change) -> None:
    facts = configuration(class_)
    tensors = weights(class_, facts)
    change(facts, tensors)
    if class_.startswith("Gemma3"):
        files = models.gemma3_files()
    else:
        tokenizer = models.byte_level(models.split(models.QWEN2), models._QWEN_TOKENS, {"type": "NFC"})
        files = {"tokenizer.json": tokenizer, "tokenizer_config.json": models._QWEN_CONFIG}
    folder.mkdir(parents=True)
    for name, data in {"config.json": facts, **files}.items():
        (folder / name).write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    models.save_safetensors(folder / "model.safetensors", tensors)


def cases() -> Iterator[tuple[str, str]]:
    """(class, name of the change) of every checkpoint."""
    return ((class_, name) for class_ in CLASSES for name in CHANGES)


RECIPE = 'llama_cpp = "b5490"\n[base]\npath = "base"\nname = "B"\n[quants]\nmatrix = ["BF16"]\n'


def refused(folder: Path) -> str | None:
    """What a plan says of the base in the folder, where it refuses it; the same, then, does a lock or a preflight."""
    (folder / "r.toml").write_text(RECIPE)
    try:
        plan_of(load(folder / "r.toml"), folder)
    except QuantmillError as error:
        return str(error)
    return None


def built(folder: Path) -> Path:
    files = {path.name: path for path in (folder / "base").iterdir()}
    convert(files, folder / "m.gguf", "BF16", "B", None, Context())
    return folder / "m.gguf"
