"""Mixtures that the engine computes: against recorded results of llama-imatrix, and the runtime against it."""

import json
from pathlib import Path

import numpy as np
import pytest

from architecture_helpers.mixture_models import LENGTH, NAMES, TAG, TEXT, write
from projects import GOLDEN
from quantmill.cli import main
from quantmill.engine.evaluation import Run, evaluate, open_model
from quantmill.gguf import read
from quantmill.imatrix import gguf_form
from quantmill.runtime.loader import load

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
    assert runs_alike(model)


def runs_alike(model: Path) -> bool:
    """Whether the runtime's logits of the file are the engine's."""
    with open_model(model) as opened:
        tokens = np.random.Generator(np.random.PCG64(5)).integers(3, opened.hyper.n_vocab, LENGTH).astype(np.int32)
        with evaluate(opened, tokens[None], Run()) as hidden:
            base = hidden.logits(0, 1).copy()
    logits = load(model).evaluate(tokens, 0, every=True)[LENGTH // 2 : LENGTH - 1]
    p, q = (v.astype(np.float64) - v.max(1, keepdims=True) for v in (base, logits))
    p, q = (v - np.log(np.exp(v).sum(1, keepdims=True)) for v in (p, q))
    return float((np.exp(p) * (p - q)).sum(1).mean()) < 1e-5


def test_a_quantized_file_has_no_ones_at_the_end_of_shapes(tmp_path: Path) -> None:
    """As llama-quantize writes it: the gate of the shared expert, a matrix of one row, is a vector there."""
    model, out = write("Qwen2MoeForCausalLM", tmp_path), tmp_path / "q.gguf"
    for call in (["quantize", str(model), str(out), "Q8_0"], ["verify", str(out)]):
        with pytest.raises(SystemExit) as ended:
            main(call)
        assert ended.value.code in (0, None)
    with read(out) as file:
        assert file.tensors["blk.0.ffn_gate_inp_shexp.weight"].shape == (64,)
    assert runs_alike(out)
