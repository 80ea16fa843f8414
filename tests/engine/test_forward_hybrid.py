"""DeepSeek's and the hybrid architectures: against recorded results of llama-imatrix, and however it is run."""

import json
from pathlib import Path

import numpy as np
import pytest

from architecture_helpers.hybrid_models import HYBRID_MODELS
from forward_models import chunks, write
from projects import GOLDEN
from quantmill.engine.evaluation import MatrixInputs, Run, collect, open_model

RECORDED = json.loads((GOLDEN / "peer_forward" / "hybrid.json").read_text())
# Relative: the worst column of a matrix, the median of them. A delta net's l2 norms make small numbers of large ones.
# The layers of gemma3n are 22, whose attention is sharp.
WORST, MEDIAN = 1e-3, 1e-5
BOUNDS = {"gemma3n": (5e-3, 2e-4)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("small")
    return {name: write(small, folder / f"{name}.gguf") for name, small in HYBRID_MODELS.items()}


def collected(path: Path, name: str, how: Run) -> MatrixInputs:
    with open_model(path) as model:
        return collect(model, chunks(HYBRID_MODELS[name]), how, process_output=True)


@pytest.mark.parametrize("name", HYBRID_MODELS)
def test_what_llama_imatrix_stores(name: str, files: dict[str, Path]) -> None:
    found, recorded = collected(files[name], name, Run(threads=2)), RECORDED[name]
    worst, median = BOUNDS.get(name, (WORST, MEDIAN))
    assert found.perplexity == pytest.approx(recorded["perplexity"], rel=max(1e-4, median))
    assert set(found.sums) == set(recorded["entries"])
    all_errors = []
    for tensor, (rows, columns, values) in recorded["entries"].items():
        sums = found.sums[tensor].reshape(-1)
        assert (int(found.counts[tensor][0]), sums.size) == (rows, columns), tensor
        expected = np.array(list(values.values()))
        errors = np.abs(sums[[int(column) for column in values]] - expected) / np.abs(expected).clip(1e-30)
        assert errors.max() < worst, tensor
        all_errors += errors.tolist()
    assert np.median(all_errors) < median


@pytest.mark.parametrize("name", HYBRID_MODELS)
def test_same_bytes_however_it_is_run(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    first, *others = (
        collected(files[name], name, Run(threads=threads, memory=memory, work=tmp_path))
        for threads, memory in ((1, 1 << 33), (3, 1 << 33), (2, 80 << 20))
    )
    for other in others:
        assert {name: sums.tobytes() for name, sums in first.sums.items()} == {
            name: sums.tobytes() for name, sums in other.sums.items()
        }
        assert first.nll is not None
        assert other.nll is not None
        assert first.nll.tobytes() == other.nll.tobytes()
