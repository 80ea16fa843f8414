"""What llama.cpp refuses to load, of architectures that are computed: by metadata and tensors' names alone.

Source of the facts: llama-model.cpp at b5490. Converting, planning and verifying all ask here and of tensor_check.py,
so that they believe the same of an architecture.
"""

from collections.abc import Iterable, Iterator, Mapping

from quantmill.architectures.architecture import Architecture
from quantmill.architectures.errors import ForwardError, ModelError, NotLoadable
from quantmill.architectures.hyperparameters import hyper
from quantmill.architectures.known import ARCHITECTURES, is_computed
from quantmill.architectures.metadata_keys import stated_sizes
from quantmill.architectures.sizes import lines
from quantmill.architectures.tensor_check import expected
from quantmill.gguf import KV
from quantmill.gguf.errors import shown
from quantmill.gguf.known_names import unlisted
from quantmill.gguf.layout import TensorEntry, ggml_shape

_NAME, _TYPE, _MODEL = "general.architecture", "general.type", "model"
_VOCABULARY, _NONE = "tokenizer.ggml.model", ("none", "no_vocab")
_TOKENS = "tokenizer.ggml.tokens"
_CONFIG = "config.json"
_OUTPUT = "output.weight"


def check_loadable(place: str, metadata: Mapping[str, KV], tensors: Iterable[TensorEntry]) -> None:
    """Raises NotLoadable for a model of an architecture that is computed whose file llama.cpp refuses; `tensors` are
    those of all of its shards. Of other architectures, and of files that are no model, nothing is said."""
    shapes = {name: shape for name, shape, _ in tensors}
    name = metadata[_NAME].value if _NAME in metadata else None
    kind = metadata[_TYPE].value if _TYPE in metadata else _MODEL
    if not isinstance(name, str) or not is_computed(name) or kind != _MODEL or not shapes:
        return
    row = ARCHITECTURES[name]
    for key in (*(f"{name}.{key}" for key in row.needed), _VOCABULARY):
        if key not in metadata:
            raise _refused(place, f"lacks the key {key}, which", name, "needs")
    if metadata[_VOCABULARY].value not in _NONE and _TOKENS not in metadata:
        raise _refused(place, f"lacks the key {_TOKENS}, which", name, "needs")
    sizes = stated_sizes(row, metadata)
    count = sizes["layers"] if isinstance(sizes["layers"], int) else 0
    for tensor, line, _ in lines(row, sizes, min(count, len(shapes)), shapes):
        if tensor not in shapes and not (line.optional or line.spared):
            raise _refused(place, f"lacks the tensor {tensor!r}, which", name, "needs")
    if odd := unlisted(name, shapes):
        raise _refused(place, f"holds the tensor {shown(odd[0])}, for which", name, "has no place")
    try:
        wanted = hyper(place, metadata, _rows(shapes))
    except ForwardError:
        return  # it may have what only llama.cpp knows
    for tensor, shape, _ in expected(wanted, shapes):
        if ggml_shape(shapes.get(tensor, shape)) != ggml_shape(shape):
            found = f"{list(shapes[tensor])} and not {list(shape)}"
            raise NotLoadable(
                f"{place}: the tensor {tensor!r} has the shape {found}, as its metadata say, so that llama.cpp does "
                "not load it; convert the model anew"
            )


def check_convertible(entries: Iterable[KV], tensors: Iterable[TensorEntry]) -> None:
    """Raises a ModelError unless a converted model is one that llama.cpp loads and that is computed with here."""
    metadata = {entry.key: entry for entry in entries}
    shapes = {name: shape for name, shape, _ in tensors}
    name = metadata[_NAME].value
    for key in (f"{name}.{key}" for key in ARCHITECTURES[name].needed):
        if key not in metadata:
            raise ModelError(f"{_CONFIG} gives no {key}, without which llama.cpp does not load a model")
    known = dict(_wanted(ARCHITECTURES[name], metadata, shapes))
    for tensor, (_, optional) in known.items():
        if tensor in shapes or optional:
            continue
        way = "so that only a model with it can be converted"
        if tensor == _OUTPUT:
            way = (
                "which a model of tied embeddings (`tie_word_embeddings`) has not; a checkpoint with an lm_head.weight "
                "of its own would be right"
            )
        raise ModelError(f"{_CONFIG}: llama.cpp's {name} does not load without {tensor}, {way}")
    for tensor, shape in shapes.items():
        if tensor not in known:
            what = f"{_CONFIG} asks for the tensor {tensor}"
            if tensor.endswith(".bias"):
                what = f"{_CONFIG}'s `attention_bias` asks for the tensor {tensor}"
            raise ModelError(
                f"{what}, for which llama.cpp's {name} has no place; only a model without it can be converted"
            )
        if known[tensor][0] != shape:
            raise ModelError(
                f"{_CONFIG}: the tensor {tensor} would have the shape {list(shape)}; llama.cpp's {name} loads "
                f"{list(known[tensor][0])} alone"
            )


def _wanted(
    row: Architecture, metadata: Mapping[str, KV], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, tuple[tuple[int, ...], bool]]]:
    """(name, (shape, whether it may be absent)) of every tensor that there is a place for; of an architecture that is
    not computed, shapes are those that there are."""
    if row.is_computed:
        for tensor, shape, optional in expected(hyper(_CONFIG, metadata, _rows(shapes))):
            yield tensor, (shape, optional)
        return
    sizes = stated_sizes(row, metadata)
    assert isinstance(sizes["layers"], int)
    for tensor, line, _ in lines(row, sizes, sizes["layers"]):
        yield tensor, (shapes.get(tensor, ()), line.optional)


def _rows(shapes: Mapping[str, tuple[int, ...]]) -> int:
    embeddings = shapes.get("token_embd.weight", ())
    return embeddings[1] if len(embeddings) == 2 else 0


def _refused(place: str, what: str, name: str, verb: str) -> NotLoadable:
    return NotLoadable(f"{place}: {what} llama.cpp's {name} {verb}, so that it does not load; convert the model anew")
