"""What a recipe makes of the params of steps that have many."""

from typing import Any

from quantmill.listing import IMATRIX_ENDING
from quantmill.recipe import locked_tools, texts
from quantmill.recipe.calibration_table import TextSource
from quantmill.recipe.convert_table import LLAMA_CPP
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.recipe.target_table import TargetTable
from quantmill.reference.ftypes import COMMON_TYPES
from quantmill.steps.convert import Params as ConvertParams
from quantmill.steps.imatrix import Params as ImatrixParams
from quantmill.steps.mix import Params as MixParams
from quantmill.steps.preflight import Params as PreflightParams
from quantmill.steps.quant import Params as QuantParams
from quantmill.steps.sensitivity import Params as SensitivityParams


def quant_params(recipe: Recipe, label: str) -> QuantParams:
    """What decides how one file is quantized: the quant step's params. What is set by hand for one whose types are
    searched decides its mix."""
    params = QuantParams() if recipe.target(label) else QuantParams(ftype=label)
    if recipe.imatrix and recipe.imatrix.name:
        params["imatrix_name"] = recipe.imatrix.name
        if recipe.imatrix.zero_as_one:
            params["zero_as_one"] = True
    if recipe.base.allow_requantize:
        params["allow_requantize"] = True
    if not recipe.target(label):
        params.update(_by_hand(recipe, label))
    return params


def _by_hand(recipe: Recipe, label: str) -> QuantParams:
    overrides, params = recipe.overrides_of(label), QuantParams()
    if output := next((o.output for o in overrides if o.output is not None), None):
        params["output_tensor_type"] = output
    if embedding := next((o.token_embedding for o in overrides if o.token_embedding is not None), None):
        params["token_embedding_type"] = embedding
    if tensors := [list(pair) for o in overrides for pair in o.tensors]:
        params["tensor_types"] = tensors
    if any(o.pure for o in overrides):
        params["pure"] = True
    return params


def convert_params(recipe: Recipe, lock: Lock) -> ConvertParams:
    """What decides how the base is converted: the convert step's params."""
    params = ConvertParams(type=recipe.base.type)
    if recipe.base.model_name:
        params["name"] = recipe.base.model_name
    if "convert" in lock.tools:
        params["toolchain"] = locked_tools.facts(lock.tools, "convert")
        return params
    if recipe.base.pre_tokenizer:
        params["pre_tokenizer"] = recipe.base.pre_tokenizer
    if recipe.later_converter:
        params["converter"] = recipe.later_converter
    return params


def projector_params(recipe: Recipe, lock: Lock, type_: str) -> ConvertParams:
    """What decides a projector file: the convert step's params."""
    params = ConvertParams(type=type_, toolchain=locked_tools.facts(lock.tools, "mmproj"), projector=True)
    if recipe.base.model_name:
        params["name"] = recipe.base.model_name
    return params


def sensitivity_params(recipe: Recipe) -> SensitivityParams:
    """What decides what is measured for all targets of a recipe: the sensitivity step's params."""
    table, imatrix = recipe.search, recipe.imatrix
    assert table is not None
    assert imatrix is not None
    types = {*COMMON_TYPES, *(type_ for target in recipe.targets for type_ in target.types or ())}
    params = SensitivityParams(
        texts=[[name, text.name, text.weight] for name, text in searched_texts(recipe).items()],
        n_ctx=table.n_ctx,
        chunks=table.chunks,
        types=sorted(types),
        imatrix_name=imatrix.name,
    )
    if imatrix.zero_as_one:
        params["zero_as_one"] = True
    return params


def mix_params(recipe: Recipe, target: TargetTable) -> MixParams:
    """What decides the types of a target's file: the mix step's params."""
    assert recipe.imatrix is not None
    params = MixParams(target=target.limit, types=target.allowed, imatrix_name=recipe.imatrix.name)
    if recipe.imatrix.zero_as_one:
        params["zero_as_one"] = True
    by_hand: Any = {key: value for key, value in _by_hand(recipe, target.name).items() if key != "pure"}
    params.update(by_hand)
    return params


def searched_texts(recipe: Recipe) -> dict[str, TextSource]:
    """The texts that types are searched on by the names that their files have in a build."""
    return texts.search(recipe) or texts.calibration(recipe)


def imatrix_params(recipe: Recipe, lock: Lock) -> ImatrixParams:
    """What decides the importance matrix that a recipe computes: the imatrix step's params."""
    table, imatrix = recipe.calibration, recipe.imatrix
    assert table is not None
    assert imatrix is not None
    params = ImatrixParams(
        arithmetic=imatrix.arithmetic,
        texts=[[name, text.name, text.weight] for name, text in texts.calibration(recipe).items()],
        n_ctx=table.n_ctx,
        from_chunk=table.from_chunk,
    )
    if table.chunks:
        params["chunks"] = table.chunks
    if table.process_output:
        params["process_output"] = True
    if table.process_embedding:
        params["process_embedding"] = True
    if not table.perplexity:
        params["perplexity"] = False
    if table.parse_special:
        params["parse_special"] = True
    if "imatrix" in lock.tools:
        params["arithmetic"] = LLAMA_CPP
        params["toolchain"] = locked_tools.facts(lock.tools, "imatrix")
        if imatrix.args:
            params["args"] = list(imatrix.args)
    elif imatrix.form:
        params["form"] = imatrix.form
    return params


def preflight_params(recipe: Recipe) -> PreflightParams:
    """What the preflight step looks at, whatever is at hand: the files, and whether findings fail."""
    ftypes = {label: quant_params(recipe, label) for label in recipe.ftypes}
    params = PreflightParams(ftypes=ftypes, type=recipe.base.type)
    if recipe.strict:
        params["strict"] = True
    return params


def release_params(recipe: Recipe, lock: Lock) -> dict[str, Any]:
    """What the release step says of the recipe, without what `release_tag.params` gives."""
    params: dict[str, Any] = {"recipe": recipe.name, "prefix": recipe.prefix, "llama_cpp": recipe.llama_cpp}
    if recipe.imatrix and (recipe.imatrix.form or recipe.imatrix.zero_as_one):
        params["imatrix"] = {"form": recipe.imatrix.form} if recipe.imatrix.form else {}
        params["imatrix"] |= {"zero_as_one": True} if recipe.imatrix.zero_as_one else {}
    if recipe.base.quantized:
        params["requantized"] = recipe.base.type
    if lock.tools:
        params["tools"] = {step: locked_tools.facts(lock.tools, step) for step in lock.tools if step != "bench"}
    return params


def imatrix_name(recipe: Recipe) -> str:
    """The released importance matrix's name, of a recipe that has one."""
    in_gguf = recipe.imatrix is not None and recipe.imatrix.output.endswith(".gguf")
    return f"{recipe.prefix}{IMATRIX_ENDING}" if in_gguf else f"{recipe.prefix}.imatrix"
