"""The forward pass: against recorded results of llama-imatrix, and against itself in every way it can be run."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forward_models
from architecture_helpers.hybrid_models import HYBRID_MODELS
from convert_golden import models as golden
from forward_models import CHUNKS, LENGTH, MODELS, Small, chunks, write
from projects import GOLDEN
from quantmill import _kernels, gguf
from quantmill.artifact import Artifact, Context
from quantmill.engine.budget import budget
from quantmill.engine.errors import TooLittleMemory
from quantmill.engine.evaluation import ARITHMETICS, MatrixInputs, Run, collect, evaluate, open_model, score
from quantmill.errors import UsageError
from quantmill.gguf.types import TYPES
from quantmill.steps import convert

RECORDED = json.loads((GOLDEN / "peer_forward" / "values.json").read_text())
# Of what was collected, as it must be on every machine; made by this test on x86-64.
DIGESTS = json.loads((GOLDEN / "peer_forward" / "digests.json").read_text())
# Relative: the worst column of a matrix, the median of them. The tool's GELU is a table of float16 values.
BOUNDS = {"gemma3": (5e-3, 5e-4)}
# States of these hold keys and values for later layers, ids, or several sets of columns.
WIDE = {name: small for name, small in HYBRID_MODELS.items() if name.startswith("gemma")}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("small")
    return {name: write(small, folder / f"{name}.gguf") for name, small in (MODELS | WIDE).items()}


def run(path: Path, tokens: Any, how: Run | None = None, **options: Any) -> MatrixInputs:
    with open_model(path) as model:
        return collect(model, tokens, how or Run(threads=2), **options)


def digest(found: MatrixInputs) -> str:
    """Of everything that was collected."""
    total = hashlib.sha256()
    for name, sums in found.sums.items():
        total.update(
            f"{name} {sums.shape} {found.calls[name]}".encode() + sums.tobytes() + found.counts[name].tobytes()
        )
    assert found.nll is not None
    total.update(found.nll.tobytes())
    return total.hexdigest()


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("name", MODELS)
def test_what_llama_imatrix_stores(name: str, arithmetic: str, files: dict[str, Path]) -> None:
    found = run(files[name], chunks(MODELS[name]), Run(arithmetic, threads=2), process_output=True)
    assert digest(found) == DIGESTS[name][arithmetic]
    recorded = RECORDED[name]
    worst, median = BOUNDS.get(name, (1e-4, 1e-5))
    if arithmetic == "bf16x2":
        worst, median = 1e-2, 1e-3
    assert found.perplexity == pytest.approx(recorded["perplexity"][0], rel=median)
    assert found.perplexity_error == pytest.approx(recorded["perplexity"][1], rel=10 * median)
    assert set(found.sums) == set(recorded["entries"])
    for tensor, (calls, columns, values) in recorded["entries"].items():
        sums, counts = found.sums[tensor], found.counts[tensor]
        assert found.calls[tensor] == calls
        stored = (sums / counts[:, None].astype(np.float32) * np.float32(calls)).reshape(-1)
        assert stored.size == columns
        kept = np.array([int(column) for column in values])
        expected = np.array(list(values.values()))
        errors = np.abs(stored[kept] - expected) / np.abs(expected)
        assert errors.max() < worst, tensor
        assert np.median(errors) < median, tensor


def budgets(path: Path, arithmetic: str, count: int, length: int) -> list[int]:
    """The least memory that will do, one in which a layer just fits, and plenty."""
    with open_model(path) as model:
        with pytest.raises(TooLittleMemory) as least:
            budget(model, Run(arithmetic, threads=2, memory=1), count, length)
        kinds = {}
        for memory in range(least.value.needed, least.value.needed + (8 << 20), 16 << 10):
            plan = budget(model, Run(arithmetic, threads=2, memory=memory), count, length)
            kinds.setdefault((plan.step > 0, plan.spilled), memory)
        assert (True, True) in kinds
        assert (False, False) in kinds
        return [*kinds.values(), 1 << 34]


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("name", ["qwen2", "llama-3", "gemma3", "qwen3moe", *WIDE])
def test_same_bytes_however_it_is_run(
    name: str, arithmetic: str, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = chunks((MODELS | WIDE)[name], length=75, count=7)
    digests = {
        (threads, memory): digest(run(files[name], tokens, Run(arithmetic, threads, memory, tmp_path)))
        for threads, memory in [(1, 1 << 33), (2, 1 << 33), (3, 1 << 33)]
        + [(2, memory) for memory in budgets(files[name], arithmetic, 7, 75)]
    }
    before = _kernels.isa()
    try:
        for level in _kernels.forward_levels():
            _kernels.set_isa(level)
            digests[level] = digest(run(files[name], tokens, Run(arithmetic, 2)))
    finally:
        _kernels.set_isa(before)
    assert len(set(digests.values())) == 1, digests
    assert list(tmp_path.iterdir()) == []


def test_arithmetics_differ_in_little_but_do(files: dict[str, Path]) -> None:
    one, other = (run(files["qwen2"], chunks(MODELS["qwen2"]), Run(arithmetic)) for arithmetic in ARITHMETICS)
    assert digest(one) != digest(other)
    assert one.perplexity == pytest.approx(other.perplexity, rel=1e-3)


@pytest.mark.parametrize("type_", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K", "IQ4_XS", "TQ2_0", "MXFP4"])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_a_quantized_model_is_the_model_of_its_dequantized_weights(type_: str, arithmetic: str, tmp_path: Path) -> None:
    small = Small("qwen2", layers=1, embd=256, ff=256, without=("output.weight",))
    described = [(name, shape, TYPES[type_ if len(shape) > 1 else "F32"]) for name, shape, _ in weights(small)]
    plain = [(name, shape, TYPES["F32"]) for name, shape, _ in described]
    with (
        gguf.Writer(tmp_path / "q.gguf", forward_models.metadata(small), described) as quantized,
        gguf.Writer(tmp_path / "f.gguf", forward_models.metadata(small), plain) as floats,
    ):
        for (_, _, values), (_, _, type_of) in zip(weights(small), described, strict=True):
            rows = values.reshape(-1, values.shape[-1])
            raw = np.zeros(rows.shape[0] * type_of.row_bytes(rows.shape[1]), np.uint8)
            _kernels.quantize(type_of.name, rows, raw)
            quantized.append(raw)
            _kernels.dequantize(type_of.name, raw, rows)
            floats.append(rows.view(np.uint8).reshape(-1))
    tokens = chunks(small, 40, 2)
    one, other = (run(tmp_path / f"{name}.gguf", tokens, Run(arithmetic, 2)) for name in "qf")
    if arithmetic == "f32":
        assert digest(one) == digest(other)
    else:  # which weights are split in two depends on their type
        assert one.perplexity == pytest.approx(other.perplexity, rel=1e-3)


def weights(small: Small) -> list[tuple[str, tuple[int, ...], np.ndarray]]:
    return list(forward_models.weights(small))


def test_shards_are_the_file(files: dict[str, Path], tmp_path: Path) -> None:
    parts = gguf.split(files["qwen3"], tmp_path, "split", max_tensors=5)
    assert len(parts) > 3
    tokens = chunks(MODELS["qwen3"], 32, 2)
    assert digest(run(parts[0], tokens)) == digest(run(files["qwen3"], tokens))


@pytest.mark.parametrize("name", sorted(golden.MODELS))
def test_a_folder_is_its_converted_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hard = golden.weight

    def tame(*arguments: Any) -> tuple[str, np.ndarray]:
        dtype, values = hard(*arguments)
        values.reshape(-1)[:12] = 0  # without infinities
        return dtype, values

    monkeypatch.setattr(golden, "weight", tame)
    folder = tmp_path / name
    golden.MODELS[name](folder)
    inputs = {path.name: Artifact(path, "0" * 64, path.stat().st_size) for path in folder.iterdir()}
    with open_model(folder) as model:
        matrices = {name: type_ for name, (shape, type_) in model.source.tensors().items() if len(shape) > 1}
    types = {type_.name for name, type_ in matrices.items() if ".ffn_gate_inp." not in name}  # a router is always F32
    assert len(types) == 1
    convert.run(inputs, {"name": name, "type": types.pop()}, tmp_path, Context())
    tokens = (np.arange(2 * 24, dtype=np.int32) * 7 % 50).reshape(2, 24)
    assert digest(run(folder, tokens)) == digest(run(tmp_path / "model.gguf", tokens))


def test_batches_are_those_of_llama_imatrix(files: dict[str, Path]) -> None:
    """Chunks of more than 512 tokens are several evaluations, and those of fewer than 16 only reach experts."""
    small = MODELS["qwen3moe"]
    found = run(files["qwen3moe"], chunks(small, 520, 2), perplexity=False)
    assert found.nll is None
    assert found.calls["blk.0.attn_q.weight"] == 2
    assert found.counts["blk.0.attn_q.weight"].tolist() == [2 * 512]
    assert found.calls["blk.0.ffn_up_exps.weight"] == 4
    assert found.counts["blk.0.ffn_up_exps.weight"].sum() == 2 * 520 * 3
    found = run(files["qwen3moe"], chunks(small, 15, 2))
    assert {name.partition(".ffn_")[2] for name in found.sums} == {
        "gate_exps.weight",
        "up_exps.weight",
        "down_exps.weight",
    }


def test_output_is_collected_only_when_asked_for(files: dict[str, Path]) -> None:
    tokens = chunks(MODELS["qwen2"], 32, 2)
    assert "output.weight" not in run(files["qwen2"], tokens).sums
    assert "output.weight" in run(files["qwen2"], tokens, process_output=True, perplexity=False).sums
    tied = run(files["qwen3"].with_name("gemma3.gguf"), chunks(MODELS["gemma3"], 32, 2), process_output=True)
    assert not {"output.weight", "token_embd.weight"} & set(tied.sums)


def test_an_embedding_that_is_the_output_is_collected_as_the_output_would_be(
    files: dict[str, Path], tmp_path: Path
) -> None:
    """As that of the same model with a copy of the embedding as its output."""
    path, tokens = files["qwen3"].with_name("gemma3.gguf"), chunks(MODELS["gemma3"], 32, 2)
    tied = run(path, tokens, process_embedding=True, perplexity=False).sums
    with gguf.read(path) as file:
        embedding = next(entry for entry in file.tensor_entries() if entry[0] == "token_embd.weight")
        entries = [*file.tensor_entries(), ("output.weight", *embedding[1:])]
        with gguf.Writer(tmp_path / "untied.gguf", file.metadata.values(), entries) as writer:
            for name, *_ in [*file.tensor_entries(), embedding]:
                writer.append(file.data(file.tensors[name]))
    untied = run(tmp_path / "untied.gguf", tokens, process_output=True, perplexity=False).sums
    np.testing.assert_array_equal(tied["token_embd.weight"], untied["output.weight"])
    assert "output.weight" not in tied
    assert "token_embd.weight" not in run(files["qwen2"], tokens, process_embedding=True).sums


def test_evaluate_hands_out_the_logits_of_every_chunk(files: dict[str, Path], tmp_path: Path) -> None:
    tokens = chunks(MODELS["llama"])
    whole = run(files["llama"], tokens)
    assert whole.nll is not None
    with open_model(files["llama"]) as model, evaluate(model, tokens, Run(work=tmp_path)) as hidden:
        assert (hidden.chunks, hidden.rows) == (CHUNKS, LENGTH - 1 - LENGTH // 2)
        assert hidden.nll().tobytes() == whole.nll.tobytes()
        two = hidden.logits(1, 3)
        assert two.tobytes() == hidden.logits(1, 2).tobytes() + hidden.logits(2, 3).tobytes()
        assert hidden.targets(1, 3).tolist() == tokens[1:3, LENGTH // 2 + 1 :].reshape(-1).tolist()
        exact = two.astype(np.float64)
        rows = np.arange(len(two))
        nll = np.log(np.exp(exact).sum(axis=1)) - exact[rows, hidden.targets(1, 3)]
        assert np.allclose(nll, whole.nll[1:3].reshape(-1), rtol=1e-5)
    assert list(tmp_path.iterdir()) == []


def test_scores_are_those_of_a_textbook() -> None:
    nll = np.array([[1.0, 2.0], [3.0, 6.0]])
    found = score(nll)
    assert found.value == pytest.approx(np.exp(3.0))
    assert found.error == pytest.approx(np.exp(3.0) * np.sqrt((12.5 - 9.0) / 3))
    assert score(np.array([[2.0]])).error == 0.0


def test_progress_counts_chunks_through_layers_and_output(files: dict[str, Path]) -> None:
    seen: list[tuple[int, int]] = []
    run(files["qwen2"], chunks(MODELS["qwen2"]), Run(progress=lambda done, total: seen.append((done, total))))
    assert seen[-1] == (CHUNKS * 3, CHUNKS * 3)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_unknown_arithmetic_and_no_threads() -> None:
    with pytest.raises(UsageError, match=r"no arithmetic 'f23' .did you mean f32"):
        Run("f23")
    with pytest.raises(UsageError, match="0 threads cannot work"):
        Run(threads=0)


@pytest.mark.parametrize(("begin", "end"), [(0, 64), (32, 64), (5, 9), (31, 70), (90, 96)])
def test_columns_of_rows_are_those_of_whole_rows(begin: int, end: int, tmp_path: Path) -> None:
    """Whether they are whole blocks of the type or not."""
    small, name = Small("qwen2", layers=1, embd=96), "token_embd.weight"
    values = next(values for tensor, _, values in weights(small) if tensor == name)
    data = np.empty(values.size // 32 * 34, np.uint8)
    _kernels.quantize("Q8_0", values, data)
    described = [(tensor, shape, TYPES["Q8_0" if tensor == name else "F32"]) for tensor, shape, _ in weights(small)]
    with gguf.Writer(tmp_path / "m.gguf", forward_models.metadata(small), described) as writer:
        for tensor, _, own in weights(small):
            writer.append(data if tensor == name else own.view(np.uint8).reshape(-1))
    ids = np.array([7, 3, 7, 257], np.int32)
    with open_model(tmp_path / "m.gguf") as model:
        assert np.array_equal(model.gather(name, ids, begin, end), model.gather(name, ids)[:, begin:end])
