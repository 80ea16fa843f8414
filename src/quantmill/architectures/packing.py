"""Quantized checkpoints that can be converted: weights in FP8, which become floats, and MXFP4, whose blocks stay."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from quantmill.architectures.errors import UnsuitableModel

Packing = Literal["", "fp8", "mxfp4"]
SCALE = "_scale_inv"  # what the scales of a matrix in FP8 end in, behind its own name
SINCE = 11312  # the first build whose converter was seen to write them so
# What the tensors end in that a packing has beside a model's own.
ENDINGS: Mapping[Packing, tuple[str, ...]] = {"": (), "fp8": (SCALE,), "mxfp4": ("_blocks", "_scales")}
_FORMATS = ("e4m3", "float8_e4m3fn", None)


def packing(config: Mapping[str, Any]) -> Packing:
    """The packing that config.json tells of; empty where it tells of none, or of none that can be converted."""
    table = config.get("quantization_config")
    if not isinstance(table, Mapping):
        return ""
    if table.get("quant_method") == "mxfp4":
        return "mxfp4"
    is_dynamic = table.get("activation_scheme") in ("dynamic", None)
    if table.get("quant_method") == "fp8" and _block(table) and table.get("fmt") in _FORMATS and is_dynamic:
        return "fp8"
    return ""


def block(config: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of a matrix in FP8 that share a scale."""
    rows, columns = config["quantization_config"]["weight_block_size"]
    return rows, columns


def check_since(config: Mapping[str, Any], last: int, reference: object) -> None:
    """Raises UnsuitableModel where the reference's converter is not known to convert the packing."""
    if packing(config) and last < SINCE:
        raise UnsuitableModel(
            f"config.json: a checkpoint in {packing(config).upper()} is converted as llama.cpp b{SINCE} and later do "
            f"it, not as {reference}"
        )


def own_names(config: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """The tensors' names without those of scales, each of which belongs to a matrix in FP8."""
    if packing(config) != "fp8":
        return list(names)
    names = list(names)
    there = set(names)
    return [name for name in names if not (name.endswith(SCALE) and name.removesuffix(SCALE) in there)]


def _block(table: Mapping[str, Any]) -> bool:
    sizes = table.get("weight_block_size")
    if not isinstance(sizes, list) or len(sizes) != 2:
        return False
    return all(isinstance(size, int) and not isinstance(size, bool) and 0 < size < 2**31 for size in sizes)
