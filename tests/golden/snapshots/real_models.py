"""The matrices of the twelve models of llama.cpp's snapshots, by the public configurations of these models.

Of a tensor the choice of types sees its name, the width of its rows and whether it is a stack. A row below is a part of
a layer, the width, `x` for a stack, and the layers: `all` without a word, `a-b`, or every `n`-th from `i` on as `i/n`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import TYPES
from quantmill.quant.mix import plan_types
from quantmill.reference.hparams import Hparams
from quantmill.reference.reference import Reference


@dataclass(frozen=True)
class RealModel:
    """`kv_heads` is a number, or for layers of several kinds those that have an attention."""

    arch: str
    layers: int
    heads: int
    kv_heads: int | tuple[int, ...]
    width: int
    parts: str
    experts: int = 0
    tied: bool = False

    def hparams(self) -> Hparams:
        """What the choice of types asks of the metadata."""
        kv_heads: Any = self.kv_heads
        if isinstance(kv_heads, tuple):
            kv_heads = [2 if i in kv_heads else 0 for i in range(self.layers)]
        counts = {"block_count": self.layers, "attention.head_count": self.heads, "attention.head_count_kv": kv_heads}
        counts["expert_count"] = self.experts
        return Hparams.from_metadata(
            {"general.architecture": self.arch} | {f"{self.arch}.{key}": value for key, value in counts.items()}
        )

    def tensors(self) -> Iterator[TensorEntry]:
        """All of its matrices, two rows each."""
        for name in ("token_embd", *["output"] * (not self.tied)):
            yield TensorEntry(f"{name}.weight", (self.width, 2), TYPES["F16"])
        for row in self.parts.strip().splitlines():
            part, width, *rest = row.split()
            stack = (2,) if "x" in rest else ()
            for i in _layers(next((word for word in rest if word != "x"), f"0-{self.layers - 1}")):
                if i < self.layers:
                    yield TensorEntry(f"blk.{i}.{part}.weight", (int(width), 2, *stack), TYPES["F16"])

    def types(self, reference: Reference, ftype: str) -> list[str]:
        """`name type` of each tensor whose type is not the ftype's own, in the order of the file."""
        found = reference.ftype(ftype)
        mix = plan_types(reference, found, self.hparams(), list(self.tensors()), has_imatrix=False)
        return [f"{name} {type_.name}" for name, type_ in mix.types.items() if type_ != found.type]


def _layers(words: str) -> Iterator[int]:
    for word in words.split(","):
        if "/" in word:
            first, step = map(int, word.split("/"))
            yield from range(first, 512, step)
        else:
            first, _, last = word.partition("-")
            yield from range(int(first), int(last or first) + 1)


def _dense(width: int, heads: int, ffn: int) -> str:
    rows = [f"{part} {width}" for part in ("attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up")]
    return "\n".join([*rows, f"attn_output {heads}", f"ffn_down {ffn}"])


def _experts(width: int, each: int, layers: str) -> str:
    """Stacks of feed-forward matrices, and the shared expert's."""
    rows = [f"{part}_exps {columns} x {layers}" for part, columns in _ffn(width, each)]
    return "\n".join([*rows, *(f"{part}_shexp {columns} {layers}" for part, columns in _ffn(width, each))])


def _ffn(width: int, down: int) -> tuple[tuple[str, int], ...]:
    return ("ffn_gate", width), ("ffn_up", width), ("ffn_down", down)


def _first(width: int, down: int, layers: str) -> str:
    """The layers in front that have no experts."""
    return "\n".join(f"{part} {columns} {layers}" for part, columns in _ffn(width, down))


def _attention(width: int, heads: int, layers: str = "") -> str:
    rows = [f"{part} {width} {layers}" for part in ("attn_q", "attn_k", "attn_v")]
    return "\n".join([*rows, f"attn_output {heads} {layers}"])


def _linear(width: int, out: int, parts: str) -> str:
    """Three linear attentions to one full."""
    rows = [f"{part} {width} 0/4,1/4,2/4" for part in ("attn_qkv", "attn_gate", *parts.split())]
    return "\n".join([*rows, f"ssm_out {out} 0/4,1/4,2/4"])


_LATENT = """
attn_q_a 7168
attn_q_b 1536
attn_kv_a_mqa 7168
attn_k_b 128 x
attn_v_b 512 x
attn_output 16384
"""
_ATTENTION, _FEED = (5, 12, 19, 26, 33, 42), "1,3,6,8,10,13,15,17,20,22,24,27,29,31,34,36,38,40,43,45,47,49,51"
_MAMBA = "0,2,4,7,9,11,14,16,18,21,23,25,28,30,32,35,37,39,41,44,46,48,50"
_NEMOTRON = f"""
{_attention(2688, 4096, ",".join(map(str, _ATTENTION)))}
ssm_in 2688 {_MAMBA}
ssm_out 4096 {_MAMBA}
ffn_up_exps 2688 x {_FEED}
ffn_down_exps 1856 x {_FEED}
ffn_up_shexp 2688 {_FEED}
ffn_down_shexp 3712 {_FEED}
"""


def _joined(*parts: str) -> str:
    return "\n".join(part.strip() for part in parts)


REAL_MODELS: dict[str, RealModel] = {
    "qwen3-0.6b": RealModel("qwen3", 28, 16, 8, 1024, _dense(1024, 2048, 3072)),
    "qwen3-14b": RealModel("qwen3", 40, 40, 8, 5120, _dense(5120, 5120, 17408)),
    "meta-llama-3.1-70b-instruct": RealModel("llama", 80, 64, 8, 8192, _dense(8192, 8192, 28672)),
    "gemma-3-4b-it": RealModel("gemma3", 34, 8, 4, 2560, _dense(2560, 2048, 10240), tied=True),
    "deepseek-v3.1": RealModel(
        "deepseek2",
        61,
        128,
        1,
        7168,
        _joined(_LATENT, _first(7168, 18432, "0-2"), _experts(7168, 2048, "3-60")),
        experts=256,
    ),
    "glm-4.6v": RealModel(
        "glm4moe",
        46,
        96,
        8,
        4096,
        _joined(_attention(4096, 12288), _first(4096, 10944, "0"), _experts(4096, 1408, "1-45")),
        experts=128,
    ),
    "gpt-oss-120b": RealModel(
        "gpt-oss",
        36,
        64,
        8,
        2880,
        _joined(_attention(2880, 4096), "\n".join(f"{part}_exps {columns} x" for part, columns in _ffn(2880, 2880))),
        experts=128,
    ),
    "nvidia-nemotron-3-nano-30b-a3b": RealModel("nemotron_h_moe", 52, 32, _ATTENTION, 2688, _NEMOTRON, experts=128),
    "qwen3-coder-next": RealModel(
        "qwen3next",
        48,
        16,
        2,
        2048,
        _joined(_linear(2048, 4096, "ssm_ba"), _attention(2048, 4096, "3/4"), _experts(2048, 512, "0-47")),
        experts=512,
    ),
    "qwen3.5-397b-a17b": RealModel(
        "qwen35moe",
        60,
        32,
        2,
        4096,
        _joined(_linear(4096, 8192, "ssm_alpha ssm_beta"), _attention(4096, 8192, "3/4"), _experts(4096, 1024, "0-59")),
        experts=512,
    ),
    "qwen3.6-27b": RealModel(
        "qwen35",
        64,
        24,
        4,
        5120,
        _joined(_linear(5120, 6144, "ssm_alpha ssm_beta"), _attention(5120, 6144, "3/4"), _first(5120, 17408, "0-63")),
    ),
    "step-3.5-flash": RealModel(
        "step35",
        45,
        64,
        8,
        4096,
        _joined(_attention(4096, 8192), "attn_gate 4096", _first(4096, 11264, "0-2"), _experts(4096, 1280, "3-44")),
        experts=288,
    ),
}
