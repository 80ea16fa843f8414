"""A file's tensors as the kernels have them: under their names for them, and matrices that are several cut by rows."""

from collections.abc import Iterator, Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.architectures.hyperparameters import Hyper
from quantmill.gguf.source import Source
from quantmill.gguf.types import Type
from quantmill.runtime.layer_plan import NORMS, CannotRun, LayerPlan

Tensors = Mapping[str, tuple[tuple[int, ...], Type]]


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a product is made with the tensor; the biases of experts and what has a single row are no matrix."""
    return len(shape) > 1 and not name.endswith((".bias", ".ffn_gate_inp_shexp.weight"))


def rope_factors(place: str, source: Source, found: Tensors, *, long: bool) -> NDArray[np.float32] | None:
    """The factors of the pairs' wavelengths, of those for long texts or for short where there are both."""
    for name in ("rope_freqs.weight", f"rope_factors_{'long' if long else 'short'}.weight"):
        if name in found:
            factors = _floats(source, name)
            if not (factors > 0).all():
                raise CannotRun(f"{place}: {name} has a factor that is not above 0; fetch or convert the model anew")
            return factors
    return None


def set_tensors(
    place: str, model: _kernels.Model, source: Source, plan: LayerPlan, facts: Hyper, found: Tensors
) -> None:
    """Gives the model all of its tensors; raises CannotRun for one that the kernels have no use for."""
    behind = tuple(f"blk.{layer}." for layer in range(len(plan.mixtures), facts.n_layer))
    for name, (shape, _) in found.items():
        if name.startswith(("rope_freqs.", "rope_factors_", *behind)):
            continue
        for as_name, begin, end in _places(name, shape, plan, facts):
            try:
                _set(model, source, as_name, name, shape, begin, end)
            except ValueError:
                raise CannotRun(
                    f"{place}: has the tensor {name}, which these kernels have no use for; llama.cpp's do"
                ) from None
    for layer in plan.unweighted(facts):
        for part in "qk":
            model.set_vector(f"blk.{layer}.attn_{part}_norm", np.ones(facts.head, np.float32))
    if "output.weight" not in found:
        name = "token_embd.weight"
        _set(model, source, "output.weight", name, found[name][0], 0, facts.n_vocab)


def _places(name: str, shape: tuple[int, ...], plan: LayerPlan, facts: Hyper) -> Iterator[tuple[str, int, int]]:
    """(name, first row, row behind the last) of what the kernels make of a tensor; a vector's numbers are its rows."""
    prefix, _, kind = name.rpartition(".")
    block, _, own = prefix.rpartition(".") if name.startswith("blk.") else ("", "", prefix)
    rows = prod(shape[1:] if is_matrix(name, shape) else shape)
    cuts = {own: rows}
    if own == "attn_qkv":
        narrow = facts.n_head_kv * facts.head
        cuts = {"attn_q": facts.n_head * facts.head, "attn_k": narrow, "attn_v": narrow}
    elif own == "ffn_up" and plan.feed and plan.feed.fused:
        cuts = {"ffn_gate": rows // 2, "ffn_up": rows // 2}
    elif block and kind == "weight" and (own in plan.norms or own in NORMS):
        cuts = {plan.norms.get(own, ""): rows}  # a norm that no operation names has no place
    begin = 0
    for part, count in cuts.items():
        yield f"{block}.{part}.{kind}".removeprefix("."), begin, begin + count
        begin += count


def _set(
    model: _kernels.Model, source: Source, as_name: str, name: str, shape: tuple[int, ...], begin: int, end: int
) -> None:
    as_name = as_name.removesuffix(".weight")
    if not is_matrix(name, shape):
        model.set_vector(as_name, _floats(source, name)[begin:end])
        return
    data = source.data(name)
    size = len(data) // prod(shape[1:])
    model.set_matrix(as_name, source.info(name).type.name, data[begin * size : end * size], end - begin, shape[0])


def _floats(source: Source, name: str) -> NDArray[np.float32]:
    info = source.info(name)
    out = np.empty((1, info.n_elements), np.float32)
    _kernels.dequantize(info.type.name, source.data(name), out)
    return out.reshape(-1)
