"""Small models of dense architectures that the engine alone computes, so that each of their operations shows."""

from forward_models import Small

_WIDE = {"attention.key_length": 32, "attention.value_length": 32}
_LAYER_NORM = {"attention.layer_norm_epsilon": 1e-5}
_LONG = {"rope.dimension_count": 12, "rope.scaling.attn_factor": 1.19, "attention.sliding_window": 0}
_YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 64}
_WINDOWS = {
    "attention.sliding_window": 40,
    "attention.sliding_window_pattern": [layer % 3 != 2 for layer in range(64)],
}

DENSE_MODELS = {
    "smollm3": Small("smollm3", layers=4),
    "seed_oss": Small("seed_oss", keys=_WIDE),
    "olmo2": Small("olmo2"),
    "olmo2-windows": Small(  # as a file of OLMo 3, whose layers with a window turn unscaled
        "olmo2",
        layers=3,
        keys={**_YARN, "attention.sliding_window": 40, "attention.sliding_window_pattern": [True, False, True]},
    ),
    "exaone4": Small("exaone4"),
    "exaone4-windows": Small("exaone4", layers=64, embd=32, ff=32, heads=2, heads_kv=1, keys=_WINDOWS),
    "hunyuan-dense": Small("hunyuan-dense", keys={**_WIDE, "rope.scaling.type": "none", "rope.freq_base": 11158840.0}),
    "granite": Small(
        "granite",
        keys={"attention.scale": 0.4, "embedding_scale": 12.0, "residual_scale": 0.22, "logit_scale": 8.0},
        without=(".bias",),
    ),
    "granite-bias": Small("granite", keys={"logit_scale": 2.0}, without=("output.weight",)),
    "gemma2": Small(
        "gemma2",
        layers=4,
        keys={**_WIDE, "attention.sliding_window": 40, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0},
    ),
    "cohere2": Small("cohere2", layers=4, keys={**_LAYER_NORM, "attention.sliding_window": 40, "logit_scale": 0.25}),
    "phi3": Small("phi3", keys={"attention.sliding_window": 0}, without=("rope_factors",)),
    "phi3-short": Small("phi3", keys={**_LONG, "rope.scaling.original_context_length": 256}),
    "phi3-long": Small("phi3", keys={**_LONG, "rope.scaling.original_context_length": 64}),
    "glm4": Small("glm4", keys={"rope.dimension_count": 8}),
    "mistral3": Small(
        "mistral3",
        keys={**_YARN, "rope.scaling.yarn_log_multiplier": 1.0, "attention.temperature_scale": 0.1},
        without=("rope_freqs.weight",),
    ),
    "mistral3-plain": Small("mistral3"),
}
