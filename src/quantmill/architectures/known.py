"""The architectures that are known, by GGUF's name and by the class of transformers."""

from collections.abc import Collection, Mapping
from typing import Any

from quantmill.architectures.architecture import Architecture, ModelClass
from quantmill.architectures.errors import UnsuitableModel
from quantmill.architectures.models.dense.cohere2 import COHERE2
from quantmill.architectures.models.dense.ernie4_5 import ERNIE4_5
from quantmill.architectures.models.dense.exaone4 import EXAONE4
from quantmill.architectures.models.dense.gemma2 import GEMMA2
from quantmill.architectures.models.dense.gemma3 import GEMMA3
from quantmill.architectures.models.dense.glm4 import GLM4
from quantmill.architectures.models.dense.granite import GRANITE
from quantmill.architectures.models.dense.hunyuan_dense import HUNYUAN_DENSE
from quantmill.architectures.models.dense.llama import LLAMA
from quantmill.architectures.models.dense.mistral3 import MISTRAL3
from quantmill.architectures.models.dense.olmo2 import OLMO2
from quantmill.architectures.models.dense.phi3 import PHI3
from quantmill.architectures.models.dense.qwen2 import QWEN2
from quantmill.architectures.models.dense.qwen3 import QWEN3
from quantmill.architectures.models.dense.seed_oss import SEED_OSS
from quantmill.architectures.models.dense.smollm3 import SMOLLM3
from quantmill.architectures.models.hybrids.falcon_h1 import FALCON_H1
from quantmill.architectures.models.hybrids.gemma3n import GEMMA3N
from quantmill.architectures.models.hybrids.gemma4 import GEMMA4
from quantmill.architectures.models.hybrids.granitehybrid import GRANITEHYBRID
from quantmill.architectures.models.hybrids.lfm2 import LFM2
from quantmill.architectures.models.hybrids.nemotron_h import NEMOTRON_H, NEMOTRON_H_MOE
from quantmill.architectures.models.hybrids.qwen3next import QWEN3NEXT
from quantmill.architectures.models.hybrids.qwen35 import QWEN35
from quantmill.architectures.models.hybrids.qwen35moe import QWEN35MOE
from quantmill.architectures.models.mixtures.deepseek2 import DEEPSEEK2
from quantmill.architectures.models.mixtures.qwen3moe import QWEN3MOE

_SHOWN = 12  # of the classes in a message
_ALL = (
    QWEN2,
    QWEN3,
    QWEN3MOE,
    LLAMA,
    GEMMA3,
    COHERE2,
    ERNIE4_5,
    EXAONE4,
    GEMMA2,
    GLM4,
    GRANITE,
    HUNYUAN_DENSE,
    MISTRAL3,
    OLMO2,
    PHI3,
    SEED_OSS,
    SMOLLM3,
    DEEPSEEK2,
    LFM2,
    QWEN3NEXT,
    QWEN35,
    QWEN35MOE,
    FALCON_H1,
    GRANITEHYBRID,
    NEMOTRON_H,
    NEMOTRON_H_MOE,
    GEMMA4,
    GEMMA3N,
)
ARCHITECTURES: dict[str, Architecture] = {known.name: known for known in _ALL}
CLASSES: dict[str, tuple[Architecture, ModelClass]] = {}
_OTHERS: dict[str, list[tuple[Architecture, ModelClass]]] = {}  # further records of a class
for _known in _ALL:
    for _class in _known.classes:
        if CLASSES.setdefault(_class.name, (_known, _class)) != (_known, _class):
            _OTHERS.setdefault(_class.name, []).append((_known, _class))


def class_of(config: Mapping[str, Any]) -> tuple[Architecture, ModelClass]:
    """What is known of `config["architectures"][0]`; raises UnsuitableModel."""
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise UnsuitableModel("config.json has no list `architectures` that begins with the model's class")
    records: list[tuple[Architecture, ModelClass]] = []
    if names[0] in CLASSES:
        records = [CLASSES[names[0]], *_OTHERS.get(names[0], ())]
    found = next((record for record in records if record[1].when is None or record[1].when(config)), None)
    if found is None:
        raise UnsuitableModel(
            f"config.json: the architecture {names[0]!r} cannot be converted; {listed(CLASSES)} can, and any "
            "other is used as the GGUF file that llama.cpp's converter makes"
        )
    return found


def architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a model of that config.json becomes; raises UnsuitableModel."""
    return class_of(config)[0]


def computed() -> list[str]:
    """The names of the architectures that the engine evaluates."""
    return [known.name for known in ARCHITECTURES.values() if known.is_computed]


def listed(names: Collection[str]) -> str:
    """Names for a message: the first of them, and how many more there are."""
    shown = list(names)[:_SHOWN]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
