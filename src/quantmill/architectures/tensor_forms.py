"""The forms that a file may give a layer's tensors, whatever its architecture: matrices joined, biases and scales.

Source: llama-model.cpp of llama.cpp b11312 (create_tensor_qkv, create_tensor_gate_up_exps, and the scales that it loads
for all architectures); its converter writes joined matrices with --fuse-qkv and --fuse-gate-up-exps.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from quantmill.architectures.architecture import TensorLine

_Q, _K, _V, _QKV = "attn_q", "attn_k", "attn_v", "attn_qkv"
_WEIGHT, _BIAS = ".weight", ".bias"
# A matrix that has the rows of others, one behind another → those.
_JOINED = {_QKV: (_Q, _K, _V), "ffn_gate_up_exps": ("ffn_gate_exps", "ffn_up_exps")}
_APART = {"attn_q.weight": "embd q", "attn_k.weight": "embd kv", "attn_v.weight": "embd kv"}
_BIASED = (_Q, _K, _V, _QKV)  # of any architecture
_SCALED = (_Q, _K, _V, "attn_output")  # of any architecture
_UNSCALED = ("ffn_gate_inp", "ffn_gate_up_exps", "ssm_conv1d")


def as_found(
    lines: Sequence[TensorLine], scaled: tuple[str, ...], prefix: str, there: Collection[str]
) -> Iterator[TensorLine]:
    """A layer's lines as a file has them whose tensors are `there`, those of the layer with `prefix` before them;
    `scaled` is the architecture's."""
    own = {line.name: line for line in lines}
    for whole, parts in _JOINED.items():
        joined, names = whole + _WEIGHT, [part + _WEIGHT for part in parts]
        if prefix + joined in there and joined not in own and own.keys() >= set(names):
            own = _join(own, joined, names)
            if whole == _QKV:
                scaled = (*scaled, _QKV)
                own = _biases(own, lines, names, has_one=prefix + _QKV + _BIAS in there)
    if (
        _QKV + _WEIGHT in own
        and prefix + _QKV + _WEIGHT not in there
        and all(prefix + each in there for each in _APART)
    ):
        del own[_QKV + _WEIGHT]
        own |= {name: TensorLine(name, dims) for name, dims in _APART.items()}
    known = set(own)
    for line in own.values():
        yield line
        for name, dims in _beside(line, scaled):
            if name not in known and prefix + name in there:
                yield TensorLine(name, dims, optional=True)


def _join(own: dict[str, TensorLine], joined: str, names: list[str]) -> dict[str, TensorLine]:
    """The lines, with one in the place of those whose rows it has."""
    dims = [own[name].dims.split() for name in names]
    sizes = [dims[0][0], "+".join(each[1] for each in dims), *dims[0][2:]]
    one = replace(own[names[0]], name=joined, dims=" ".join(sizes))
    return {name: line for name, line in own.items() if name not in names} | {joined: one}


def _biases(
    own: dict[str, TensorLine], lines: Sequence[TensorLine], names: list[str], *, has_one: bool
) -> dict[str, TensorLine]:
    """The lines, with the biases that may be beside a joined matrix: one as it, or those of its parts."""
    rows = {line.name.replace(_WEIGHT, _BIAS): line.dims.split()[1] for line in lines if line.name in names}
    others = {name: line for name, line in own.items() if name not in rows}
    return others if has_one else others | {name: TensorLine(name, dims, optional=True) for name, dims in rows.items()}


def _beside(line: TensorLine, scaled: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(name, sizes) of what a matrix may have beside it."""
    name, rest = line.name.removesuffix(_WEIGHT), line.dims.split()[1:]
    if name == line.name or not rest:
        return
    if name in _BIASED:
        yield name + _BIAS, rest[0]
    if name in _SCALED or (name.startswith(scaled) and not name.startswith(_UNSCALED)):
        count = rest[1] if len(rest) > 1 else "one"
        yield f"{name}.scale", count
        yield f"{name}.input_scale", count  # for inputs of few bits, which are not computed with
