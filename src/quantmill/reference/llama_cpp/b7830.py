"""llama.cpp b7830 to b7836, January 2026: patterns are read before the rules, against the ftype's own type.

The converter is that of March and April 2026, the nearest whose sources were read: it takes generation_config.json's
values and writes rope scaling for every architecture.
"""

from dataclasses import replace

from quantmill.gguf.types import ValueType
from quantmill.reference.converter import AUTO
from quantmill.reference.known_vocabularies import known_vocabularies
from quantmill.reference.llama_cpp.of_2025.b7324 import B7324

# What generation_config.json says of choosing tokens.
SAMPLING: dict[str, tuple[ValueType, tuple[str, ...]]] = {
    "sequence": (ValueType.STRING, ("sequence",)),
    "top_k": (ValueType.INT32, ("top_k",)),
    "top_p": (ValueType.FLOAT32, ("top_p",)),
    "min_p": (ValueType.FLOAT32, ("min_p",)),
    "xtc_probability": (ValueType.FLOAT32, ("xtc_probability",)),
    "xtc_threshold": (ValueType.FLOAT32, ("xtc_threshold",)),
    "temp": (ValueType.FLOAT32, ("temperature",)),
    "penalty_last_n": (ValueType.INT32, ("penalty_last_n",)),
    "penalty_repeat": (ValueType.FLOAT32, ("penalty_repeat",)),
    "mirostat": (ValueType.INT32, ("mirostat",)),
    "mirostat_tau": (ValueType.FLOAT32, ("mirostat_tau",)),
    "mirostat_eta": (ValueType.FLOAT32, ("mirostat_eta",)),
}
# The keys of a model's shape, which the base class writes for all architectures, with rope scaling among them.
_SHAPE = (
    *("block_count", "context_length", "embedding_length", "feed_forward_length"),
    *("attention.head_count", "attention.head_count_kv"),
    *("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length"),
    *("rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"),
    *("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"),
    *("rope.freq_base", "rope.freq_base_swa"),
    *("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon", "expert_count", "expert_used_count"),
    *("expert_group_count", "expert_group_used_count", "expert_gating_func"),
    *("attention.key_length", "attention.value_length", "general.file_type"),
)
B7830 = replace(
    B7324,
    first=7830,
    last=7836,
    generation=7830,
    patterns="before if other",
    converter=replace(
        B7324.converter,
        tag="b8643",
        shown=(8560, 9102),
        vocabularies=known_vocabularies("b8643"),
        out_type=AUTO,
        auto="first matrix of 16 bits",
        sampling=SAMPLING,
        shape=_SHAPE,
        last=(),
        model={
            "qwen3moe": (*_SHAPE, "expert_feed_forward_length"),
            "gemma3": (*_SHAPE, "attention.sliding_window"),
        },
        reranks=True,
    ),
    pre_tokenizers=(
        *B7324.pre_tokenizers,
        *("afmoe", "exaone-moe", "kormo", "minimax-m2"),
        *("modern-bert", "solar-open", "youtu"),
    ),
)
