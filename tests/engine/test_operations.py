"""A layer is what its architecture's operations say: in their order, each in the layers that it is in."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forward_models import MODELS, chunks, metadata, weights, write
from quantmill.architectures import known
from quantmill.architectures.operations import Add, Attend, Feed, Norm, Operation, Scale
from quantmill.engine.evaluation import Run, evaluate, open_model
from quantmill.gguf import Writer
from quantmill.gguf.types import TYPES
from quantmill.runtime.layer_plan import CannotRun
from quantmill.runtime.loader import load

QWEN2 = known.ARCHITECTURES["qwen2"].operations
Layer = tuple[Operation, ...]


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Layer], None]:
    """Gives qwen2 another layer."""

    def given(operations: Layer) -> None:
        changed = replace(known.ARCHITECTURES["qwen2"], operations=operations)
        monkeypatch.setitem(known.ARCHITECTURES, "qwen2", changed)

    return given


def logits(path: Path) -> np.ndarray:
    with open_model(path) as model, evaluate(model, chunks(MODELS["qwen2"])[:1], Run()) as states:
        return states.logits(0, 1)


def silenced(path: Path, names: tuple[str, ...]) -> Path:
    """qwen2's small model with zeros in some of its matrices."""
    tensors = list(weights(MODELS["qwen2"]))
    with Writer(path, metadata(MODELS["qwen2"]), [(name, shape, TYPES["F32"]) for name, shape, _ in tensors]) as writer:
        for name, _, values in tensors:
            writer.append((np.zeros_like(values) if name in names else values).view(np.uint8).reshape(-1))
    return path


@pytest.mark.parametrize(
    ("kind", "name"), [(Attend, "blk.1.attn_output.weight"), (Feed, "blk.1.ffn_down.weight")], ids=["attention", "feed"]
)
def test_an_operation_is_in_the_layers_that_it_names(
    kind: type, name: str, layer: Callable[[Layer], None], tmp_path: Path
) -> None:
    """A layer without a part is one whose part adds nothing."""
    without = logits(silenced(tmp_path / "zeros.gguf", (name,)))
    at = next(index for index, operation in enumerate(QWEN2) if isinstance(operation, kind))
    first = [replace(each, where=lambda sizes, layer: layer == 0) for each in QWEN2[at : at + 2]]
    layer((*QWEN2[:at], *first, *QWEN2[at + 2 :]))
    path = write(MODELS["qwen2"], tmp_path / "m.gguf")
    assert np.array_equal(logits(path), without)
    with pytest.raises(CannotRun, match=r"m\.gguf: a layer of qwen2 computes what these kernels do not; llama\.cpp's"):
        load(path)


def test_the_order_of_the_operations_decides(layer: Callable[[Layer], None], tmp_path: Path) -> None:
    path = write(MODELS["qwen2"], tmp_path / "m.gguf")
    plain = logits(path)
    layer((Norm("ffn_norm"), Feed(), Add(), Norm("attn_norm"), Attend(), Add()))
    swapped = logits(path)
    layer((Attend(of="states"), Norm("attn_norm", of="change"), Add(), Feed(of="states"), Add()))
    after = logits(path)
    assert np.isfinite(swapped).all()
    assert np.isfinite(after).all()
    assert not np.allclose(plain, swapped)
    assert not np.allclose(plain, after)
    with pytest.raises(CannotRun):
        load(path)


def test_each_computed_architecture_lists_its_layer() -> None:
    for architecture in known.ARCHITECTURES.values():
        if architecture.is_computed:
            names = {line.name.removesuffix(".weight") for line in architecture.layer}
            assert {each.name for each in architecture.operations if isinstance(each, Norm)} <= names
            *_, last = (each for each in architecture.operations if not isinstance(each, Scale))
            assert isinstance(last, Add)
