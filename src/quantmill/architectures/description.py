"""A base file as its configuration alone describes it."""

from collections.abc import Iterable, Mapping
from typing import Any

from quantmill.architectures.checkpoint_tensors import tensors
from quantmill.architectures.known import architecture
from quantmill.architectures.loading import check_convertible
from quantmill.architectures.metadata_keys import facts
from quantmill.gguf import KV, kv
from quantmill.gguf.layout import TensorEntry
from quantmill.reference.reference import Reference


def describe(
    config: Mapping[str, Any],
    type_: str,
    sources: Iterable[str] | None = None,
    *,
    output: bool = False,
    reference: Reference | None = None,
) -> tuple[list[KV], list[TensorEntry]]:
    """The facts that a quantizer reads (the metadata without names and vocabulary) and the tensors of a model converted
    to F32, F16 or BF16. Raises a ModelError for a configuration that cannot be converted.

    `sources` and `output` are what is known of the checkpoint's tensors, as in `tensors`.
    """
    entries = [kv("general.architecture", architecture(config).name), *facts(config, type_, reference)]
    described = [spec.entry(type_) for spec in tensors(config, sources, output=output)]
    check_convertible(entries, described)
    return entries, described
