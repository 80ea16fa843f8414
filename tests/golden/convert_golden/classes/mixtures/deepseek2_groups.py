"""DeepseekV2ForCausalLM, small, whose experts are chosen in groups, and whose YaRN has numbers of its own."""

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.mixtures import deepseek2
from convert_golden.classes.tokenizers import DEEPSEEK

CONFIG = {
    **deepseek2.CONFIG,
    "n_group": 4,
    "n_routed_experts": 8,
    "rope_scaling": {**deepseek2.CONFIG["rope_scaling"], "beta_fast": 1.0},
    "routed_scaling_factor": 16.0,
    "topk_group": 2,
    "topk_method": "group_limited_greedy",
}
TENSORS = deepseek2.TENSORS.replace("experts.[0-3]", "experts.[0-7]").replace("gate.weight 4x64", "gate.weight 8x64")
CHECKPOINT = Checkpoint(CONFIG, TENSORS, DEEPSEEK, "deepseek-llm", variant="Groups")
