"""`quantmill fit`: types for a size, found by measuring."""

import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import forward_models
from forward_models import MODELS
from projects import ROOT, TINY
from quantmill import _kernels, gguf
from quantmill.cli import main
from quantmill.engine.chunks import Text, read_text, tokenize
from quantmill.engine.evaluation import Run, evaluate, open_model
from quantmill.engine.weight_source import GGUFSource
from quantmill.gguf.layout import TensorEntry
from quantmill.mix_search import sensitivity
from quantmill.mix_search.sensitivity import sensitivities
from quantmill.mix_search.type_choice import TypeChoice, choose_types
from quantmill.quality.measurement import against
from quantmill.quant.quantizer import quantize_tensors
from quantmill.vocabulary.tokenizer import load

TEXT = "one two three four five six seven eight nine ten, and over again in " * 40
SEARCH = ROOT / "recipes" / "tiny" / "calibration.txt"
SHORT = ("--n-ctx", 64, "--chunks", 4, "--threads", 2)


def call(*arguments: object) -> int:
    """The program's exit code."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models with importance matrices, and the default model."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "text").write_text(TEXT)
    for name in ("qwen2", "qwen2-yarn", "mixtral"):
        model = forward_models.write(MODELS[name], folder / f"{name}.gguf")
        call("imatrix", model, "-f", folder / "text", "-o", folder / f"{name}.dat", "--n-ctx", 64, "--chunks", 4)
    assert call("convert", TINY, folder / "tiny.gguf") == 0
    (folder / "tiny.dat").write_bytes((TINY / "imatrix.dat").read_bytes())
    return folder


def fit(place: Path, name: str, out: Path, *options: object) -> int:
    guide = ("--imatrix", place / f"{name}.dat", "--imatrix-name", "i.dat", "-f", place / "text")
    return call("fit", place / f"{name}.gguf", out, *guide, *SHORT, *options)


def bits(path: Path) -> float:
    with gguf.read(path) as file:
        return 8 * sum(t.nbytes for t in file.tensors.values()) / sum(t.n_elements for t in file.tensors.values())


@pytest.mark.parametrize("name", ["qwen2", "qwen2-yarn", "mixtral"])
def test_a_sensitivity_is_the_divergence_of_a_file_with_that_tensor_changed(
    place: Path, tmp_path: Path, name: str
) -> None:
    """With an output matrix, with an embedding that is one, with stacks of experts; in one part and in several."""
    base = place / f"{name}.gguf"
    chunks = tokenize([Text("text", TEXT)], load(base), 64, count=3)
    with gguf.read(base) as file:
        asked = [t for t, info in file.tensors.items() if len(info.shape) > 1 and "_inp" not in t]
    quantize_tensors(base, tmp_path / "probes.gguf", dict.fromkeys(asked, "Q4_0"))
    probes = GGUFSource(tmp_path / "probes.gguf")
    with open_model(base) as model:
        found = sensitivities(model, probes, asked, chunks, Run(threads=2))
        assert sensitivities(model, probes, asked[::-1], chunks, Run(threads=1)) == found
        with evaluate(model, chunks, Run(threads=2)) as hidden:
            for tensor in ("token_embd.weight", "blk.0.attn_q.weight", *asked[-3:]):
                alone = changed(base, probes, tensor, tmp_path / "changed.gguf")
                measured = against(model, hidden, alone, chunks, Run(threads=2), tensor)["kld"]["mean"]
                assert found[tensor] == pytest.approx(measured, rel=1e-5), tensor


def changed(base: Path, probes: GGUFSource, tensor: str, path: Path) -> Path:
    """The base with one tensor of the probes."""
    with gguf.read(base) as file:
        types = {name: info.type for name, info in file.tensors.items()} | {tensor: probes.tensors()[tensor][1]}
        entries = [TensorEntry(name, info.shape, types[name]) for name, info in file.tensors.items()]
        with gguf.Writer(path, list(file.metadata.values()), entries) as writer:
            for name, info in file.tensors.items():
                data = probes.rows(name, 0, sys.maxsize) if name == tensor else file.data(info)
                writer.append(np.ascontiguousarray(data).data)
    return path


def test_states_that_do_not_fit_go_in_parts(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = place / "qwen2.gguf"
    chunks = tokenize([Text("text", TEXT)], load(base), 64, count=3)
    asked = ["token_embd.weight", "output.weight", "blk.1.ffn_up.weight", "blk.0.attn_k.weight"]
    quantize_tensors(base, tmp_path / "probes.gguf", dict.fromkeys(asked, "Q4_0"))
    probes = GGUFSource(tmp_path / "probes.gguf")
    with open_model(base) as model:
        whole = sensitivities(model, probes, asked, chunks, Run(threads=2))
        for division in ((1, 1), (3, 2), (4, 3)):
            monkeypatch.setattr(sensitivity, "_division", lambda *_, division=division: division)
            assert sensitivities(model, probes, asked, chunks, Run(threads=2)) == whole


def test_the_best_types_for_a_size_are_found() -> None:
    """Beside all ways of small cases."""
    for seed in range(60):
        rng = random.Random(seed)
        choices = {
            name: [TypeChoice(f"T{i}", 32 * rng.randint(1, 30), rng.random() ** 4) for i in range(4)] for name in "abcd"
        }
        least = sum(min(choice.bytes for choice in all_) for all_ in choices.values())
        room = least + rng.randint(0, 1500)
        found = choose_types(choices, room)
        assert found is not None
        assert sum(choice.bytes for choice in found.values()) <= room
        ways = [way for way in itertools.product(*choices.values()) if sum(choice.bytes for choice in way) <= room]
        best = min(sum(choice.cost for choice in way) for way in ways)
        assert sum(choice.cost for choice in found.values()) <= best * 1.5 + 1e-9, seed
        assert choose_types(choices, least - 1) is None


def test_a_large_model_is_filled_by_single_changes() -> None:
    rng = random.Random(1)
    choices = {
        f"blk.{i}": [TypeChoice(f"T{k}", 32 * (k + 1) * rng.randint(8, 9), rng.random() / (k + 1)) for k in range(6)]
        for i in range(900)
    }
    room = 900 * 32 * 30
    found = choose_types(choices, room)
    assert found is not None
    assert room * 0.995 < sum(choice.bytes for choice in found.values()) <= room


def test_no_file_is_larger_than_asked(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, stock = tmp_path / "out.gguf", tmp_path / "stock.gguf"
    for ftype in ("Q4_0", "Q5_1"):
        call(
            "quantize", place / "qwen2.gguf", stock, ftype, "--imatrix", place / "qwen2.dat", "--imatrix-name", "i.dat"
        )
        assert fit(place, "qwen2", out, "--like", ftype) == 0
        assert out.stat().st_size <= stock.stat().st_size
    size = out.stat().st_size
    for less in (0, 1, 500, 5000):
        assert fit(place, "qwen2", out, "--size", size - less) == 0
        assert out.stat().st_size <= size - less
    for asked in (5.2, 6.5):
        assert fit(place, "qwen2", out, "--bits", asked) == 0
        assert asked - 0.2 < bits(out) <= asked
    capsys.readouterr()
    assert fit(place, "qwen2", out, "--bits", 3) == 2
    said = capsys.readouterr().err
    assert "is smaller than the types allow, which is" in said
    assert len(said.splitlines()) == 1


def test_threads_levels_and_memory_change_nothing(place: Path, tmp_path: Path) -> None:
    assert fit(place, "qwen2", tmp_path / "out.gguf", "--bits", 6, "--export", tmp_path / "types") == 0
    written = (tmp_path / "out.gguf").read_bytes(), (tmp_path / "types").read_bytes()
    for level, threads in ((_kernels.isa_levels()[0], 1), (_kernels.isa_levels()[-1], 3)):
        other = tmp_path / "other.gguf"
        guide = ["--imatrix", place / "qwen2.dat", "--imatrix-name", "i.dat", "-f", place / "text", "--memory", "300MB"]
        options = [
            *guide,
            "--n-ctx",
            64,
            "--chunks",
            4,
            "--threads",
            threads,
            "--bits",
            6,
            "--export",
            f"{other}.types",
        ]
        words = [sys.executable, "-m", "quantmill.cli", "fit", place / "qwen2.gguf", other, *options]
        subprocess.run([*map(str, words)], env={**os.environ, "QUANTMILL_ISA": level}, check=True)
        assert (other.read_bytes(), Path(f"{other}.types").read_bytes()) == written


@pytest.mark.parametrize("name", ["qwen2", "qwen2-yarn", "mixtral"])
def test_quantize_makes_the_same_file_of_the_export(place: Path, tmp_path: Path, name: str) -> None:
    out, again, types = tmp_path / "out.gguf", tmp_path / "again.gguf", tmp_path / "types"
    assert fit(place, name, out, "--bits", 6, "--export", types) == 0
    with gguf.read(out) as file:
        note = file.metadata["quantmill.mix"].value
        number = file.metadata["general.file_type"].value
        assert types.read_text().count("\n") == sum(info.type.name not in ("F32",) for info in file.tensors.values())
    assert note == "KL divergence of Q4_0 alone, 4 chunks of 64 tokens"
    options = ("--tensor-type-file", types, "--override-kv", f"quantmill.mix=str:{note}")
    guide = ("--imatrix", place / f"{name}.dat", "--imatrix-name", "i.dat")
    assert call("quantize", place / f"{name}.gguf", again, number, *guide, *options) == 0
    assert again.read_bytes() == out.read_bytes()


def test_a_trained_model_loses_less_than_in_the_stock_file(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a text that the search has not seen."""
    unseen = tmp_path / "unseen.txt"
    unseen.write_text(read_text(ROOT / "recipes" / "tiny" / "evaluation.txt")[:16000])
    guide = ("--imatrix", place / "tiny.dat", "-f", SEARCH, "-e", unseen, "--chunks", 4)
    few = ("--types", "Q8_0,Q6_K,Q5_K,Q4_K,Q3_K,Q2_K", "--json")
    capsys.readouterr()
    assert call("fit", place / "tiny.gguf", tmp_path / "out.gguf", "--like", "Q4_K_M", *guide, *few) == 0
    found = json.loads(capsys.readouterr().out)
    own, stock = found["quality"]["kld"]["mean"], found["stock"]["quality"]["kld"]["mean"]
    assert own <= 0.5 * stock
    assert found["predicted_kld"] == pytest.approx(own, rel=0.25)
    assert found["bytes"] == (tmp_path / "out.gguf").stat().st_size <= found["stock"]["bytes"]
    assert set(found["types"].values()) <= set(few[1].split(","))


def test_a_text_that_the_search_has_seen_measures_nothing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert fit(place, "qwen2", tmp_path / "out.gguf", "--bits", 6, "-e", place / "text") == 2
    assert "which the search has seen; measure with another text (-e)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
