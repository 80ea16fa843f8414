"""Lists the keys of config.json that transformers' classes of our architectures read, into config_keys.json.

Run by hand, once in an environment of each version of transformers, which is no dependency of the tests:

    python benchmarks/config_keys.py tests/architectures/config_keys.json

A key is one that the class's configuration has without being told, or an older spelling that it takes. Those are in the
file already stay, and a class that the version does not know is passed over.
"""

import importlib
import inspect
import json
import re
import sys
from pathlib import Path

CLASSES = {
    "Qwen2ForCausalLM": "Qwen2Config",
    "Qwen3ForCausalLM": "Qwen3Config",
    "Qwen3MoeForCausalLM": "Qwen3MoeConfig",
    "LlamaForCausalLM": "LlamaConfig",
    "MistralForCausalLM": "MistralConfig",
    "Gemma3ForCausalLM": "Gemma3TextConfig",
    "Cohere2ForCausalLM": "Cohere2Config",
    "Ernie4_5ForCausalLM": "Ernie4_5Config",
    "Exaone4ForCausalLM": "Exaone4Config",
    "Gemma2ForCausalLM": "Gemma2Config",
    "Glm4ForCausalLM": "Glm4Config",
    "GraniteForCausalLM": "GraniteConfig",
    "HunYuanDenseV1ForCausalLM": "HunYuanDenseV1Config",
    "Ministral3ForCausalLM": "Ministral3Config",
    "Olmo2ForCausalLM": "Olmo2Config",
    "Phi3ForCausalLM": "Phi3Config",
    "SeedOssForCausalLM": "SeedOssConfig",
    "SmolLM3ForCausalLM": "SmolLM3Config",
    "DeepseekV2ForCausalLM": "DeepseekV2Config",
    "DeepseekV3ForCausalLM": "DeepseekV3Config",
    "FalconH1ForCausalLM": "FalconH1Config",
    "Gemma3nForConditionalGeneration": "Gemma3nTextConfig",
    "Gemma4ForCausalLM": "Gemma4TextConfig",
    "GraniteMoeHybridForCausalLM": "GraniteMoeHybridConfig",
    "Lfm2ForCausalLM": "Lfm2Config",
    "NemotronHForCausalLM": "NemotronHConfig",
    "Qwen3NextForCausalLM": "Qwen3NextConfig",
    "Qwen3_5ForCausalLM": "Qwen3_5TextConfig",
    "Qwen3_5MoeForCausalLM": "Qwen3_5MoeTextConfig",
}
KWARGS = re.compile(r"""kwargs\.(?:get|pop)\(\s*["'](\w+)["']""")


def keys(class_: type) -> set[str]:
    made = class_()
    found = set(made.to_dict()) | {name for name in vars(made) if not name.startswith("_")}
    found |= set(inspect.signature(class_.__init__).parameters) - {"self", "args", "kwargs"}
    found |= set(class_.attribute_map) | set(class_.attribute_map.values())
    for base in class_.__mro__[:-1]:
        if ".models." not in base.__module__ and "rope" not in base.__module__:  # how any model is loaded and saved
            continue
        found |= set(KWARGS.findall(inspect.getsource(sys.modules[base.__module__])))
    return found


def main() -> None:
    transformers = importlib.import_module("transformers")  # no dependency of ours
    path = Path(sys.argv[1])
    data = json.loads(path.read_text()) if path.exists() else {"transformers": [], "keys": {}}
    data["transformers"] = sorted({*data["transformers"], transformers.__version__})
    for name, config in CLASSES.items():
        found = keys(getattr(transformers, config)) if hasattr(transformers, config) else set()
        data["keys"][name] = sorted({*data["keys"].get(name, ()), *found})
    path.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
