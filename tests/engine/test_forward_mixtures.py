"""Mixtures that the engine computes: against recorded results of llama-imatrix, and refused by the runtime."""

import json
from pathlib import Path

import numpy as np
import pytest

from architecture_helpers.mixture_models import LENGTH, NAMES, TAG, TEXT, write
from projects import GOLDEN
from quantmill.cli import main
from quantmill.imatrix import gguf_form
from quantmill.runtime.loader import CannotRun, load

RECORDED = json.loads((GOLDEN / "peer_forward" / "mixtures.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_what_llama_imatrix_stores(name: str, tmp_path: Path) -> None:
    model, text, out = write(name, tmp_path), tmp_path / "text", tmp_path / "imatrix.gguf"
    text.write_text(TEXT)
    how = ["--n-ctx", str(LENGTH), "--output-format", "gguf", "--llama-cpp", TAG]
    with pytest.raises(SystemExit) as ended:
        main(["imatrix", str(model), "-f", str(text), "-o", str(out), *how])
    assert ended.value.code == 0
    found, all_errors = gguf_form.load(out).tensors, []
    assert set(found) == set(RECORDED[name])
    for tensor, (counts, columns, values) in RECORDED[name].items():
        sums, rows = found[tensor]
        assert ([int(count) for count in rows.reshape(-1)], sums.size) == (counts, columns), tensor
        expected = np.array(list(values.values()))
        made = sums.reshape(-1)[[int(column) for column in values]]
        errors = np.abs(made - expected) / np.where(expected > 0, expected, 1)
        assert errors.max() < 1e-3, tensor
        all_errors += errors.tolist()
    assert np.median(all_errors) < 1e-5
    if name != "MixtralForCausalLM":
        with pytest.raises(CannotRun):
            load(model)
