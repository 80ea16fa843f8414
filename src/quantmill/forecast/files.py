"""The files of a release before any work: names, exact bytes, bits a weight, tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from quantmill import gguf
from quantmill.build import graph
from quantmill.build.graph import Node
from quantmill.build.step_params import quant_params
from quantmill.errors import UsageError
from quantmill.forecast.base_file import Description, describe
from quantmill.forecast.target_files import Mixes, is_bound, target_file
from quantmill.quant.file_plan import FilePlan, ImatrixFacts, plan_file
from quantmill.quant.makeup import makeup
from quantmill.quant.overrides import overrides_of
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.reference.spans import of_generation

if TYPE_CHECKING:
    from quantmill.imatrix import Imatrix


@dataclass(frozen=True)
class FileRow:
    """One released file. `bytes` are those of the whole file or of all its shards, headers included;
    `bits_per_weight` counts the tensors' data alone; `fallbacks` are the tensors whose rows do not fit the wanted
    type; `others` and `types` are those of quant.makeup. `bound`: it has at most so many bytes, of types yet to be
    found."""

    name: str
    ftype: str
    bytes: int
    bits_per_weight: float
    shards: int
    fallbacks: tuple[str, ...]
    others: float
    types: str
    bound: bool = False


def described_files(
    recipe: Recipe,
    lock: Lock,
    digest: Callable[[Path], str],
    made: Path | None = None,
    mixes: Mixes = MappingProxyType({}),
) -> dict[str, tuple[FileRow, FilePlan | Description]]:
    """Each released file as it will be written, by label in the order of the matrix; no task is looked at. `made` is
    the base that llama.cpp's converter made, where it is here; `mixes` are those that are known."""
    base = describe(recipe, lock, made)
    imatrix = imatrix_facts(recipe, read_imatrix(recipe, digest))
    found = {}
    for label in graph.labels(recipe):
        file = quantized_file(recipe, label, base, imatrix, mixes) if label != recipe.base.type else None
        found[label] = file_row(recipe, label, file, base), file or base
    return found


def file_row(recipe: Recipe, label: str, file: FilePlan | None, base: Description) -> FileRow:
    """The row of one file; of the base's own when `file` is None."""
    kvs, tensors = (file.kvs, file.tensors) if file else (base.kvs, base.tensors)
    sizes = gguf.shard_sizes(kvs, tensors, recipe.max_size) if recipe.max_size else [gguf.file_size(kvs, tensors)]
    name = graph.file_name(recipe, label)
    ftype = recipe.reference.ftype(label) if file and not recipe.target(label) else None
    made = makeup(tensors, ftype, {tensor.name: tensor.type for tensor in tensors}, file.fallbacks if file else ())
    bound = file.n_bytes if file is not None and is_bound(file) else 0
    weights = sum(prod(shape) for _, shape, _ in tensors)
    return FileRow(
        name=f"{name}/" if len(sizes) > 1 else f"{name}.gguf",
        ftype=label,
        bytes=bound or sum(sizes),
        bits_per_weight=made.bits_per_weight + (8 * (bound - sum(sizes)) / weights if bound else 0),
        shards=len(sizes),
        fallbacks=tuple(fallback.tensor for fallback in file.fallbacks) if file else (),
        others=made.others,
        types="" if bound else made.types,
        bound=bound > 0,
    )


def quantized_file(
    recipe: Recipe,
    label: str,
    base: Description,
    imatrix: ImatrixFacts | None,
    mixes: Mixes = MappingProxyType({}),
) -> FilePlan:
    """One quantized file of the recipe as the quant step will write it; of a target whose mix is not among `mixes`,
    what it is at most."""
    if target := recipe.target(label):
        return target_file(recipe, target, base, imatrix, mixes.get(label))
    params = quant_params(recipe, label)
    return plan_file(recipe.reference, base.kvs, base.tensors, label, imatrix=imatrix, overrides=overrides_of(params))


def file_of(node: Node, base: Description, recipe: Recipe | None = None) -> FilePlan:
    """The tensors and types of a quant node's file; its metadata say nothing of the imatrix. Of a target of `recipe`,
    what it is at most."""
    imatrix = ImatrixFacts("", b"", 0, 0) if "imatrix_name" in node.params else None
    if recipe is not None and (target := recipe.target(node.label)):
        return target_file(recipe, target, base, imatrix, None)
    reference, overrides = of_generation(node.generation), overrides_of(node.params)
    return plan_file(reference, base.kvs, base.tensors, node.params["ftype"], imatrix=imatrix, overrides=overrides)


def read_imatrix(recipe: Recipe, digest: Callable[[Path], str]) -> "Imatrix | None":
    """The recipe's ready imatrix, where it is at hand; UsageError when it is another."""
    if recipe.imatrix is None or recipe.imatrix.file is None or not recipe.imatrix.file.is_file():
        return None
    from quantmill.imatrix import read

    file, expected = recipe.imatrix.file, recipe.imatrix.sha256
    if (found := digest(file)) != expected:
        raise UsageError(
            f"{recipe.path}: imatrix.sha256: {file} has sha256 {found}, not {expected}; restore it or write its own"
        )
    return read(file)


def imatrix_facts(recipe: Recipe, imatrix: "Imatrix | None") -> ImatrixFacts | None:
    """What the quantized files will say of the imatrix, as far as sizes go."""
    if recipe.imatrix is None:
        return None
    if recipe.calibration is not None:  # the numbers are of one size whatever they are
        form = recipe.imatrix.form or recipe.reference.imatrix.form
        # The GGUF form lists its texts, of which llama-quantize takes the first.
        dataset = recipe.calibration.texts[0].name if form == "gguf" else recipe.calibration.dataset
        return ImatrixFacts(recipe.imatrix.name, dataset.encode(), 1, 1)
    if imatrix is None:
        return ImatrixFacts(recipe.imatrix.name, b"", 0, 0)
    return ImatrixFacts(recipe.imatrix.name, imatrix.dataset, len(imatrix.vectors), imatrix.chunks)
