"""What a recipe makes of the params of steps that have many."""

from quantmill.recipe import texts
from quantmill.recipe.recipe import Recipe
from quantmill.steps.convert import Params as ConvertParams
from quantmill.steps.imatrix import Params as ImatrixParams
from quantmill.steps.preflight import Params as PreflightParams
from quantmill.steps.quant import Params as QuantParams


def convert_params(recipe: Recipe) -> ConvertParams:
    """What decides the base's file, of a checkpoint: the convert step's params."""
    params = ConvertParams(type=recipe.base.type)
    if recipe.base.model_name:
        params["name"] = recipe.base.model_name
    if recipe.base.pre_tokenizer:
        params["pre_tokenizer"] = recipe.base.pre_tokenizer
    if recipe.later_converter:
        params["converter"] = recipe.later_converter
    return params


def quant_params(recipe: Recipe, label: str) -> QuantParams:
    """What decides how one file is quantized: the quant step's params."""
    overrides = recipe.overrides_of(label)
    params = QuantParams(ftype=label)
    if recipe.imatrix and recipe.imatrix.name:
        params["imatrix_name"] = recipe.imatrix.name
        if recipe.imatrix.zero_as_one:
            params["zero_as_one"] = True
    if recipe.base.allow_requantize:
        params["allow_requantize"] = True
    if output := next((o.output for o in overrides if o.output is not None), None):
        params["output_tensor_type"] = output
    if embedding := next((o.token_embedding for o in overrides if o.token_embedding is not None), None):
        params["token_embedding_type"] = embedding
    if tensors := [list(pair) for o in overrides for pair in o.tensors]:
        params["tensor_types"] = tensors
    return params


def imatrix_params(recipe: Recipe) -> ImatrixParams:
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
    if not table.perplexity:
        params["perplexity"] = False
    if table.parse_special:
        params["parse_special"] = True
    if imatrix.form:
        params["form"] = imatrix.form
    return params


def preflight_params(recipe: Recipe) -> PreflightParams:
    """What the preflight step looks at, whatever is at hand: the files, and whether findings fail."""
    ftypes = {label: quant_params(recipe, label) for label in recipe.ftypes}
    params = PreflightParams(ftypes=ftypes, type=recipe.base.type)
    if recipe.strict:
        params["strict"] = True
    return params
