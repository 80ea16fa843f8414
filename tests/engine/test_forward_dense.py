"""Dense architectures that the engine computes: against recorded results of llama-imatrix, and however it is run."""

import json
from pathlib import Path

import numpy as np
import pytest

from architecture_helpers.dense_models import DENSE_MODELS
from forward_models import chunks, write
from projects import GOLDEN
from quantmill.engine.evaluation import MatrixInputs, Run, collect, open_model

RECORDED = json.loads((GOLDEN / "peer_forward" / "dense.json").read_text())
# Relative: the worst column of a matrix, the median of them. The tool's GELU is a table of float16 values.
BOUNDS = {"gemma2": (5e-3, 5e-4)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("small")
    return {name: write(small, folder / f"{name}.gguf") for name, small in DENSE_MODELS.items()}


def collected(path: Path, name: str, how: Run) -> MatrixInputs:
    with open_model(path) as model:
        return collect(model, chunks(DENSE_MODELS[name]), how, process_output=True)


@pytest.mark.parametrize("name", DENSE_MODELS)
def test_what_llama_imatrix_stores(name: str, files: dict[str, Path]) -> None:
    found, recorded = collected(files[name], name, Run(threads=2)), RECORDED[name]
    worst, median = BOUNDS.get(name, (1e-4, 1e-5))
    assert found.perplexity == pytest.approx(recorded["perplexity"], rel=median)
    assert set(found.sums) == set(recorded["entries"])
    all_errors = []
    for tensor, (rows, columns, values) in recorded["entries"].items():
        sums = found.sums[tensor].reshape(-1)
        assert (int(found.counts[tensor][0]), sums.size) == (rows, columns)
        expected = np.array(list(values.values()))
        errors = np.abs(sums[[int(column) for column in values]] - expected) / np.abs(expected)
        assert errors.max() < worst, tensor
        all_errors += errors.tolist()
    assert np.median(all_errors) < median


@pytest.mark.parametrize("name", DENSE_MODELS)
def test_same_bytes_however_it_is_run(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    first, *others = (
        collected(files[name], name, Run(threads=threads, memory=memory, work=tmp_path))
        for threads, memory in ((1, 1 << 33), (3, 1 << 33), (2, 70 << 20))
    )
    for other in others:
        assert {name: sums.tobytes() for name, sums in first.sums.items()} == {
            name: sums.tobytes() for name, sums in other.sums.items()
        }
        assert first.nll is not None
        assert other.nll is not None
        assert first.nll.tobytes() == other.nll.tobytes()
