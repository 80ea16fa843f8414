"""The standard matrix of real models, from their configurations alone, as `choose` sees it."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from quantmill.architectures.description import describe
from quantmill.choose.choice import Candidate
from quantmill.choose.shape import Shape, from_metadata, of_tensors
from quantmill.gguf.layout import file_size
from quantmill.quant.file_plan import ImatrixFacts, plan_file
from quantmill.reference.ftypes import STANDARD_MATRIX
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.released import ReleasedFile

COMMON = {"max_position_embeddings": 32768, "rope_theta": 1e6, "rms_norm_eps": 1e-6}


def config(kind: str, width: int, layers: int, heads: int, groups: int, feed: int, vocabulary: int, tied: bool) -> Any:
    return COMMON | {
        "architectures": [f"{kind}ForCausalLM"],
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": feed,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }


CONFIGS = {
    "32B": config("Qwen2", 5120, 64, 40, 8, 27648, 152064, False),
    "8B": config("Qwen3", 4096, 36, 32, 8, 12288, 151936, False),
    "3B": config("Qwen2", 2048, 36, 16, 2, 11008, 151936, True),
}


@dataclass(frozen=True)
class Model:
    shape: Shape
    candidates: tuple[Candidate, ...]

    def of(self, ftype: str) -> Candidate:
        return next(candidate for candidate in self.candidates if candidate.file.ftype == ftype)


@cache
def model(name: str) -> Model:
    entries, tensors = describe(CONFIGS[name], "BF16")
    vocabulary = CONFIGS[name]["vocab_size"]
    shape = from_metadata({entry.key: entry.value for entry in entries} | {"vocabulary": vocabulary})
    assert shape is not None
    size = file_size(entries, tensors)
    found = [Candidate(ReleasedFile("m-bf16.gguf", "BF16", size, 1), of_tensors(tensors, shape.layers))]
    for ftype in STANDARD_MATRIX:
        file = plan_file(B4867, entries, tensors, ftype, imatrix=ImatrixFacts("i", b"", 0, 0))
        weights = of_tensors(file.tensors, shape.layers)
        found.append(Candidate(ReleasedFile(f"m-{ftype}.gguf", ftype, file.n_bytes, 1), weights))
    return Model(shape, tuple(found))
