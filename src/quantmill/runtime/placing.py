"""A file's tensors as the kernels have them: under their names for them, and matrices that are several cut by rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from quantmill import _kernels
from quantmill.architectures.conditions import whole
from quantmill.architectures.hyperparameters import Hyper
from quantmill.architectures.operations import DeltaNet
from quantmill.architectures.rope_scaling import check_factors
from quantmill.gguf.source import Source
from quantmill.gguf.types import Type
from quantmill.runtime.layer_plan import NORMS, CannotRun, LayerPlan

Tensors = Mapping[str, tuple[tuple[int, ...], Type]]

_CONVOLUTIONS = (".shortconv.conv.weight", ".ssm_conv1d.weight")
# Of two dimensions or more, and yet no product takes them.
_NO_MATRICES = (".bias", ".ffn_gate_inp_shexp.weight", *_CONVOLUTIONS, ".ssm_a", ".ssm_d", ".ssm_norm.weight")


@dataclass(frozen=True)
class _Place:
    """What the kernels make of a tensor: rows `begin` to `end` of each of its equal parts; a vector's numbers are its
    rows."""

    name: str
    begin: int
    end: int
    parts: int = 1


def is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a product is made with the tensor; the biases of experts and what has a single row are no matrix."""
    return len(shape) > 1 and not name.endswith(_NO_MATRICES)


def rope_factors(place: str, source: Source, found: Tensors, *, long: bool) -> NDArray[np.float32] | None:
    """The factors of the pairs' wavelengths, of those for long texts or for short where there are both."""
    for name in ("rope_freqs.weight", f"rope_factors_{'long' if long else 'short'}.weight"):
        if name in found:
            factors = _floats(source, name)
            check_factors(place, name, float(factors.min()))
            return factors
    return None


def set_tensors(
    place: str, model: _kernels.Model, source: Source, plan: LayerPlan, facts: Hyper, found: Tensors
) -> None:
    """Gives the model all of its tensors; raises CannotRun for one that the kernels have no use for."""
    behind = tuple(f"blk.{layer}." for layer in range(len(plan.parts), facts.n_layer + facts.n_next))
    for name, (shape, _) in found.items():
        if name.startswith(("rope_freqs.", "rope_factors_", *behind)) or name.endswith(".input_scale"):
            continue
        if isinstance(plan.recur, DeltaNet) and _is_joined(name, plan):
            raise CannotRun(
                f"{place}: has queries, keys and values in one matrix, {name}, which these kernels have no use for "
                "beside delta nets; llama.cpp's do"
            )
        for place_of in _places(name, shape, plan, facts):
            try:
                _set(model, source, name, shape, place_of)
            except ValueError:
                raise CannotRun(
                    f"{place}: has the tensor {name}, which these kernels have no use for; llama.cpp's do"
                ) from None
    for layer in plan.unweighted(facts):
        for part in "qk":
            model.set_vector(f"blk.{layer}.attn_{part}_norm", np.ones(facts.head, np.float32))
    if "output.weight" not in found:
        name = "token_embd.weight"
        _set(model, source, name, found[name][0], _Place("output.weight", 0, facts.n_vocab))


def _is_joined(name: str, plan: LayerPlan) -> bool:
    """Whether it is the one matrix, or the biases, of a layer's attention."""
    words = name.split(".")
    return words[0] == "blk" and words[2] == "attn_qkv" and plan.parts[int(words[1])].attends


def _places(name: str, shape: tuple[int, ...], plan: LayerPlan, facts: Hyper) -> Iterator[_Place]:
    """All that the kernels make of a tensor."""
    block, own, kind = _named(name)
    rows, parts = prod(shape[1:] if is_matrix(name, shape) else shape), 1
    cuts = {own: rows}
    if own == facts.row.last_norm:
        cuts = {"output_norm": rows}
    elif own in ("attn_k_b", "attn_v_b"):
        cuts = {f"{own}.{head}": shape[1] for head in range(facts.n_head)}
    elif own == "attn_qkv" and not isinstance(plan.recur, DeltaNet):
        narrow = facts.n_head_kv * facts.head
        cuts = {"attn_q": facts.n_head * facts.head, "attn_k": narrow, "attn_v": narrow}
    elif own == "ffn_gate_up_exps":
        parts, cuts = facts.n_expert, {"ffn_gate_exps": facts.n_eff, "ffn_up_exps": facts.n_eff}
    elif own == "attn_q" and plan.own_attend.gated:
        parts, cuts = facts.n_head, {"attn_q": facts.head, "attn_q_gate": facts.head}
    elif own == "ssm_ba" and isinstance(plan.recur, DeltaNet):
        parts = whole(facts.sizes["groups"])
        cuts = {"ssm_beta": rows // parts // 2, "ssm_alpha": rows // parts // 2}
    elif own == "ffn_up" and plan.feed and plan.feed.fused:
        cuts = {"ffn_gate": rows // 2, "ffn_up": rows // 2}
    elif block and kind == "weight" and (own in plan.norms or own in NORMS):
        cuts = {plan.norms.get(own, ""): rows}  # a norm that no operation names has no place
    begin = 0
    for part, count in cuts.items():
        yield _Place(".".join(word for word in (block, part, kind) if word), begin, begin + count, parts)
        begin += count


def _named(name: str) -> tuple[str, str, str]:
    """A tensor's layer, its name there, and "weight", "bias" or nothing."""
    words = name.split(".")
    kind = words.pop() if words[-1] in ("weight", "bias") else ""
    layer = 2 if words[0] == "blk" else 0
    return ".".join(words[:layer]), ".".join(words[layer:]), kind


def _set(model: _kernels.Model, source: Source, name: str, shape: tuple[int, ...], place: _Place) -> None:
    as_name = place.name.removesuffix(".weight")
    if not is_matrix(name, shape):
        values = _floats(source, name)
        if name.endswith(_CONVOLUTIONS):  # a file has each channel's weights together
            values = values.reshape(shape[1], shape[0]).T.reshape(-1)
        model.set_vector(as_name, np.ascontiguousarray(values)[place.begin : place.end])
        return
    data, rows = source.data(name), prod(shape[1:])
    size = len(data) // rows
    own = data.reshape(place.parts, -1)[:, place.begin * size : place.end * size].reshape(-1)
    model.set_matrix(as_name, source.info(name).type.name, own, place.parts * (place.end - place.begin), shape[0])


def _floats(source: Source, name: str) -> NDArray[np.float32]:
    info = source.info(name)
    out = np.empty((1, info.n_elements), np.float32)
    _kernels.dequantize(info.type.name, source.data(name), out)
    return out.reshape(-1)
