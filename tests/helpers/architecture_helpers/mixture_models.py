"""Small models of mixtures: the golden checkpoints with finite weights, converted to F32, and a text for them."""

from pathlib import Path

import numpy as np

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.registry import CHECKPOINTS
from convert_golden.models import save_safetensors
from quantmill.architectures.json_file import model_files
from quantmill.artifact import Context
from quantmill.checkpoint.conversion import convert
from quantmill.reference.spans import of_tag

NAMES = (
    *("MixtralForCausalLM", "Qwen2MoeForCausalLM", "GptOssForCausalLM", "Glm4MoeForCausalLM-MTP"),
    *("MiniMaxM2ForCausalLM", "Ernie4_5_MoeForCausalLM", "GraniteMoeForCausalLM"),
    *("Llama4ForCausalLM", "Llama4ForConditionalGeneration"),
)
TAG, LENGTH = "b11312", 64
TEXT = "abc de fgh ij kl abab cd ef hi jk lab " * 20


def _values(name: str, shape: tuple[int, ...], dtype: str) -> tuple[str, np.ndarray]:
    """Norms near 1, all else near 0."""
    random = np.random.Generator(np.random.PCG64(sum(name.encode()) * 7919 + len(name)))
    values = (random.standard_normal(shape) * 0.15 + ("norm" in name and len(shape) == 1)).astype("<f4")
    return (dtype, values) if dtype == "F32" else ("BF16", (values.view("<u4") >> 16).astype("<u2"))


def write(name: str, folder: Path) -> Path:
    """The model's file in the folder."""
    checkpoint: Checkpoint = CHECKPOINTS[name]
    checkpoint.write(folder / "checkpoint")
    found = {tensor: _values(tensor, *spec) for tensor, spec in checkpoint.specs().items()}
    save_safetensors(folder / "checkpoint" / "model.safetensors", found)
    out, pre = folder / f"{name}.gguf", None if checkpoint.pre == "-" else checkpoint.pre
    convert(model_files(folder / "checkpoint"), out, "F32", name, pre, Context(), reference=of_tag(TAG))
    return out
