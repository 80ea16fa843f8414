"""What a checkpoint holds, before its weights are fetched or read: by its files' names, its index, its headers."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from quantmill.architectures.checkpoint_tensors import TensorSpec
from quantmill.architectures.packing import ENDINGS, packing
from quantmill.checkpoint.file_names import INDEX, MERGE, SINGLE
from quantmill.checkpoint.safetensors import Weight, check_file, read_header, read_index
from quantmill.errors import QuantmillError, UsageError, listed
from quantmill.listing import UnfitJSON

# What the tensors of a quantized checkpoint end in, and what they are of. No model's own tensors end so.
_QUANTIZED = {
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".g_idx": "GPTQ",
    ".SCB": "bitsandbytes, 8 bits",
    ".absmax": "bitsandbytes, 4 bits",
    ".quant_map": "bitsandbytes, 4 bits",
    ".weight_scale_inv": "FP8",
    ".weight_scale": "FP8 or compressed-tensors",
    ".weight_packed": "compressed-tensors",
    "_blocks": "MXFP4",
    ".scales": "MLX",
    ".biases": "MLX",
}
_ADAPTER = (".lora_A.weight", ".lora_B.weight", ".lora_A.default.weight")
INSTEAD = "give the model's own checkpoint, whose weights are BF16, F16 or F32"


def source_order(files: Mapping[str, Path]) -> list[str] | None:
    """The names of a checkpoint's tensors in the converter's order: from its weights' headers, or where those are not
    among the files, from its index; None where neither tells. What else is wrong with weights is said when they are
    opened."""
    index = _index(files)
    found = _headers(files, index)
    if found is not None:
        return sorted(found, key=lambda source: (found[source].file, source))
    missing = not all(name in files for name in index.values())
    return sorted(index, key=lambda source: (index[source], source)) if index and missing else None


def _index(files: Mapping[str, Path]) -> dict[str, str]:
    return {} if SINGLE in files or INDEX not in files else read_index(files[INDEX])


def headers(files: Mapping[str, Path]) -> dict[str, Weight] | None:
    """The checkpoint's tensors by their headers alone; None where those are not all among the files."""
    return _headers(files, _index(files))


def weights(files: Mapping[str, Path], there: Collection[str]) -> list[str]:
    """The names of the weights that a conversion reads, of the files that are there; `files` are those at hand."""
    index = {} if SINGLE in there or INDEX not in files else read_index(files[INDEX])
    return _weights(there, index)


def unread(there: Collection[str]) -> list[str]:
    """A sentence where of a model's files some are weights that are not read, since there is one file of them all."""
    others = sorted(name for name in there if name.startswith("model-") and name.endswith(".safetensors"))
    return [f"{SINGLE} is what is read; {listed(others)} beside it is not"] if SINGLE in there and others else []


def _weights(there: Collection[str], index: Mapping[str, str]) -> list[str]:
    return [SINGLE] if SINGLE in there else sorted(set(index.values()))


def _headers(files: Mapping[str, Path], index: Mapping[str, str]) -> dict[str, Weight] | None:
    names = _weights(files, index)
    found: dict[str, Weight] = {}
    for name in names:
        if name not in files:
            return None
        try:
            found |= read_header(files[name], name)
        except (OSError, ValueError, UnfitJSON):
            return None
    return found or None


def check_headers(files: Mapping[str, Path]) -> None:
    """Raises a WeightsError for weights at hand that have no header; whether their data is whole is not asked."""
    index = {} if SINGLE in files or INDEX not in files else read_index(files[INDEX])
    for name in _weights(files, index):
        try:
            read_header(files[name], name)
        except (OSError, ValueError, UnfitJSON):
            check_file(files[name], name)


def check_shapes(files: Mapping[str, Path], config: Mapping[str, Any], specs: Iterable[TensorSpec]) -> None:
    """Raises a ModelError when by the weights' headers, where those are at hand, a tensor is not what is needed."""
    from quantmill.checkpoint.weights import check

    found = headers(files)
    if found is not None:
        for spec in specs:
            check(spec, config, found)


def check_sources(where: str, names: Iterable[str], config: Mapping[str, Any]) -> None:
    """UsageError when the tensors' names are those of an adapter, or of a quantized checkpoint of another kind than
    config.json says and can be converted."""
    packed = ENDINGS[packing(config)]
    for name in names:
        if name.endswith(_ADAPTER):
            raise UsageError(f"{where}: its tensors are those of a LoRA adapter ({name}); {MERGE}")
        for ending, kind in _QUANTIZED.items():
            if name.endswith(ending) and not name.endswith(packed):
                raise quantized(f"{where}: its weights", kind, name)


def quantized(what: str, kind: str, by: str) -> UsageError:
    """`what` is quantized already, as `by` tells."""
    return UsageError(f"{what} are quantized already ({kind}, by {by}), which cannot be converted; {INSTEAD}")


def check_index(where: str, files: Mapping[str, Path], names: Iterable[str], any_name: bool = False) -> None:
    """QuantmillError when the index names files that are not there, or not under names that are read; `any_name`: these
    may be any."""
    if INDEX not in files or "model.safetensors" in files:
        return
    there = set(names)
    for name in sorted(set(read_index(files[INDEX]).values())):
        if name not in there:
            raise QuantmillError(f"{where}: {INDEX} names {name!r}, which is not there; fetch it, or the right index")
        if not any_name and not name.startswith("model"):
            raise UsageError(
                f"{where}: {INDEX} names {name!r}, but only weights named model*.safetensors are read; rename them "
                "there and in the index"
            )
