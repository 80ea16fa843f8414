"""The architectures that are known, by GGUF's name and by the class of transformers."""

from collections.abc import Collection, Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

from quantmill.architectures.architecture import Architecture, ModelClass
from quantmill.architectures.errors import UnsuitableModel

_SHOWN = 12  # of the classes in a message
_MODELS = "quantmill.architectures.models."
# Of every architecture its record's file and classes; the record is called as the architecture in capitals.
_FILES = {
    "qwen2": ("dense.qwen2", "Qwen2ForCausalLM"),
    "qwen3": ("dense.qwen3", "Qwen3ForCausalLM"),
    "qwen3moe": ("mixtures.qwen3moe", "Qwen3MoeForCausalLM"),
    "llama": ("dense.llama", "LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM"),
    "gemma3": ("dense.gemma3", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
    "cohere2": ("dense.cohere2", "Cohere2ForCausalLM"),
    "ernie4_5": ("dense.ernie4_5", "Ernie4_5ForCausalLM"),
    "exaone4": ("dense.exaone4", "Exaone4ForCausalLM"),
    "gemma2": ("dense.gemma2", "Gemma2ForCausalLM"),
    "glm4": ("dense.glm4", "Glm4ForCausalLM"),
    "granite": ("dense.granite", "GraniteForCausalLM", "GraniteMoeHybridForCausalLM"),
    "hunyuan-dense": ("dense.hunyuan_dense", "HunYuanDenseV1ForCausalLM"),
    "mistral3": ("dense.mistral3", "Ministral3ForCausalLM", "Mistral3ForConditionalGeneration"),
    "olmo2": ("dense.olmo2", "Olmo2ForCausalLM"),
    "phi3": ("dense.phi3", "Phi3ForCausalLM"),
    "seed_oss": ("dense.seed_oss", "SeedOssForCausalLM"),
    "smollm3": ("dense.smollm3", "SmolLM3ForCausalLM"),
    "ernie4_5-moe": ("mixtures.ernie4_5_moe", "Ernie4_5_MoeForCausalLM"),
    "glm4moe": ("mixtures.glm4moe", "Glm4MoeForCausalLM"),
    "gpt-oss": ("mixtures.gpt_oss", "GptOssForCausalLM"),
    "granitemoe": ("mixtures.granitemoe", "GraniteMoeForCausalLM"),
    "llama4": ("mixtures.llama4", "Llama4ForCausalLM", "Llama4ForConditionalGeneration"),
    "minimax-m2": ("mixtures.minimax_m2", "MiniMaxM2ForCausalLM"),
    "qwen2moe": ("mixtures.qwen2moe", "Qwen2MoeForCausalLM"),
    "deepseek2": ("mixtures.deepseek2", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"),
    "lfm2": ("hybrids.lfm2", "Lfm2ForCausalLM"),
    "qwen3next": ("hybrids.qwen3next", "Qwen3NextForCausalLM"),
    "qwen35": ("hybrids.qwen35", "Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"),
    "qwen35moe": ("hybrids.qwen35moe", "Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"),
    "falcon-h1": ("hybrids.falcon_h1", "FalconH1ForCausalLM"),
    "granitehybrid": ("hybrids.granitehybrid", "GraniteMoeHybridForCausalLM"),
    "nemotron_h": ("hybrids.nemotron_h", "NemotronHForCausalLM"),
    "nemotron_h_moe": ("hybrids.nemotron_h", "NemotronHForCausalLM"),
    "gemma4": ("hybrids.gemma4", "Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"),
    "gemma3n": ("hybrids.gemma3n", "Gemma3nForConditionalGeneration"),
}


class _Records(MutableMapping[str, Architecture]):
    """The records by GGUF's name; each file is read when its record is first asked for, since a build needs one."""

    def __init__(self) -> None:
        self._read: dict[str, Architecture | None] = dict.fromkeys(_FILES)

    def __getitem__(self, name: str) -> Architecture:
        found = self._read[name]
        if found is None:
            constant = name.replace("-", "_").upper()
            found = self._read[name] = getattr(import_module(_MODELS + _FILES[name][0]), constant)
        return found

    def __setitem__(self, name: str, record: Architecture) -> None:
        self._read[name] = record

    def __delitem__(self, name: str) -> None:
        del self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)

    def __contains__(self, name: object) -> bool:
        return name in self._read


ARCHITECTURES = _Records()
CLASSES: dict[str, list[str]] = {}  # the architectures whose records have the class
for _name, (_, *_classes) in _FILES.items():
    for _class in _classes:
        CLASSES.setdefault(_class, []).append(_name)


def class_of(config: Mapping[str, Any]) -> tuple[Architecture, ModelClass]:
    """What is known of `config["architectures"][0]`; raises UnsuitableModel."""
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise UnsuitableModel("config.json has no list `architectures` that begins with the model's class")
    records = [(ARCHITECTURES[name], of) for name in CLASSES.get(names[0], ()) for of in ARCHITECTURES[name].classes]
    fitting = (record for record in records if record[1].name == names[0])
    found = next((record for record in fitting if record[1].when is None or record[1].when(config)), None)
    if found is None:
        raise UnsuitableModel(
            f"config.json: the architecture {names[0]!r} cannot be converted; {listed(CLASSES)} can, and any "
            "other is used as the GGUF file that llama.cpp's converter makes"
        )
    return found


def architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a model of that config.json becomes; raises UnsuitableModel."""
    return class_of(config)[0]


def is_computed(name: str) -> bool:
    """Whether the engine evaluates the architecture of GGUF's `name`."""
    return name in ARCHITECTURES and ARCHITECTURES[name].is_computed


def computed() -> list[str]:
    """The names of the architectures that the engine evaluates, for a message: it reads every record."""
    return [name for name in ARCHITECTURES if is_computed(name)]


def listed(names: Collection[str]) -> str:
    """Names for a message: the first of them, and how many more there are."""
    shown = list(names)[:_SHOWN]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
