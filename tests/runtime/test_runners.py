"""bench and generate: what they run, in which order, what they print, and what they refuse."""

import json
import os
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forward_models
from forward_models import MODELS, write
from quantmill._kernels import infer_isa
from quantmill.cli import main
from quantmill.errors import UsageError
from quantmill.gguf import kv
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.ftypes import FTYPES
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.runtime import runners
from quantmill.runtime.generator import generate
from quantmill.runtime.loader import load
from quantmill.runtime.sampler import Sampler, Sampling
from quantmill.runtime.speeds import Timing, Trial, data, measure, percent, table
from quantmill.vocabulary.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bench")
    base = write(MODELS["qwen2"], folder / "base.gguf")
    for ftype in ("Q4_0", "Q8_0"):
        quantize_file(base, folder / f"{ftype}.gguf", ftype, reference=B4867, threads=1)
    return {path.stem: path for path in folder.glob("*.gguf")}


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


def test_a_file_has_its_ftypes_own_name(tmp_path: Path) -> None:
    """Not an alias's, nor that of a mix with the same number."""
    for name in ("F32", "Q2_K", "Q3_K_M", "Q3_K_L", "Q4_K_M", "Q5_K_M", "Q6_K"):
        metadata = {"general.file_type": kv("general.file_type", FTYPES[name].id)}
        assert runners._named(metadata, tmp_path / "model.gguf") == ("model", name)


def test_repetitions_go_over_all_files_before_the_next() -> None:
    order: list[str] = []

    def run(file: Path, tests: list[Trial]) -> list[Timing]:
        order.append(file.name)
        return [Timing(file, "m", file.name, 1, 1, "b", 1, test, [float(len(order) * test.count)]) for test in tests]

    tests = [Trial("pp", 1), Trial("tg", 10)]
    rows = measure([Path("Q4_0"), Path("Q8_0")], tests, 3, run)
    assert order == ["Q4_0", "Q8_0"] * 3
    assert [(row.ftype, row.test.name, row.rates) for row in rows] == [
        ("Q4_0", "pp1", [1, 3, 5]),
        ("Q4_0", "tg10", [10, 30, 50]),
        ("Q8_0", "pp1", [2, 4, 6]),
        ("Q8_0", "tg10", [20, 40, 60]),
    ]
    assert [percent(rows, row) for row in rows] == [100, 100, pytest.approx(400 / 3), pytest.approx(400 / 3)]
    assert "| m Q8_0 | 0.00 MiB | 0.00 M | b | 1 | pp1 | 4.00 ± 2.00 | 133 |" in table(rows)
    assert percent(rows[2:], rows[2]) is None
    once = measure([Path("Q4_0")], tests[:1], 1, run)
    assert "| m Q4_0 | 0.00 MiB | 0.00 M | b | 1 | pp1 | 7.00 | 100 |" in table(once)
    assert data(once, {})["rows"][0]["sd"] is None


@pytest.mark.parametrize("extra", [[], ["--no-repack"], ["--activation-bits", "8"]])
def test_bench_measures_files(files: dict[str, Path], capsys: pytest.CaptureFixture[str], extra: list[str]) -> None:
    arguments = ["-p", "8,16", "-n", "4", "-r", "2", "-t", "1", "--json", *extra]
    code, out, _ = call(capsys, "bench", files["Q4_0"], files["Q8_0"], *arguments)
    found = json.loads(out)
    assert code == 0
    assert [(row["ftype"], row["test"]) for row in found["rows"]] == [
        (ftype, test) for ftype in ("Q4_0", "Q8_0") for test in ("pp8", "pp16", "tg4")
    ]
    assert all(row["ts"] > 0 and row["size"] > 0 and row["threads"] == 1 for row in found["rows"])
    assert found["rows"][0]["percent_of_q4_0"] == 100
    names = {"": infer_isa(), "--no-repack": f"{infer_isa()}, not repacked"}
    named = names.get("".join(extra), f"{infer_isa()}, 8-bit activations")
    assert {row["backend"] for row in found["rows"]} == {named}
    assert set(found["host"]) == {"cpu", "cores", "threads", "backend", "versions"}


FAKE = """#!{python}
import json, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert options["-o"] == "json" and options["-r"] == "1"
rows = [{{"n_prompt": int(n), "n_gen": 0, "avg_ts": 10.0}} for n in options["-p"].split(",") if int(n)]
rows += [{{"n_prompt": 0, "n_gen": int(n), "avg_ts": 5.0}} for n in options["-n"].split(",") if int(n)]
facts = {{"model_size": 7, "model_n_params": 8, "backends": "CPU", "build_number": 1, "build_commit": "abc"}}
print({answer})
"""


def test_bench_with_llama_bench(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is a stand-in with llama-bench's options and JSON: the real one is no dependency of the tests."""
    program = tmp_path / "llama-bench"
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ["bench", files["Q4_0"], "-p", "8", "-n", "4", "-r", "2", "-t", "1", "--runtime", "llama.cpp"]
    assert call(capsys, *arguments)[::2] == (
        2,
        "quantmill: there is no llama-bench on PATH; install llama.cpp, or measure with --runtime kernels\n",
    )
    program.write_text(FAKE.format(python=sys.executable, answer="json.dumps([{**row, **facts} for row in rows])"))
    program.chmod(0o755)
    code, out, _ = call(capsys, *arguments, "--json")
    found = json.loads(out)
    assert code == 0
    assert [(row["test"], row["ts"], row["backend"]) for row in found["rows"]] == [
        ("pp8", 10.0, "llama.cpp CPU"),
        ("tg4", 5.0, "llama.cpp CPU"),
    ]
    assert found["host"]["versions"]["llama.cpp"] == "1 (abc)"
    program.write_text(FAKE.format(python=sys.executable, answer="sys.exit('no such model')"))
    code, _, error = call(capsys, *arguments)
    assert (code, error) == (1, f"quantmill: {files['Q4_0']}: llama-bench failed with code 1: no such model\n")


def test_calls_that_make_no_sense(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "bench", files["Q4_0"], "-p", "0", "-n", "0")[0] == 2
    for option in (["--no-repack"], ["--activation-bits", "8"]):
        assert call(capsys, "bench", files["Q4_0"], "--runtime", "llama.cpp", *option)[::2] == (
            2,
            f"quantmill: {option[0]} is for --runtime kernels; llama.cpp decides that for itself\n",
        )
    code, _, error = call(capsys, "bench", files["Q4_0"], "-p", "4096", "-n", "0", "-r", "1")
    assert (code, error) == (
        2,
        f"quantmill: {files['Q4_0']}: the test pp4096 needs a context of 4096 tokens; its own is 256\n",
    )


def test_generating_is_greedy_and_repeats(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    texts = [
        call(capsys, "generate", files["Q8_0"], "-p", "abc", "-n", "12", "--raw", *more)
        for more in ([], ["--threads", "1"], ["--activation-bits", "8"])
    ]
    assert [code for code, _, _ in texts] == [0, 0, 0]
    assert texts[0] == texts[1]
    code, _, error = call(capsys, "generate", files["Q8_0"], "-p", "abc")
    assert (code, error) == (
        2,
        f"quantmill: {files['Q8_0']}: has no chat template; give --raw to go on with the text itself\n",
    )


@pytest.mark.parametrize("kind", ["bos", "eos"])
@pytest.mark.parametrize("id_", [2**32 - 1, [257]])
def test_a_conversation_of_a_file_whose_special_token_is_none(
    kind: str, id_: object, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As llama.cpp: the number that its kind of vocabulary has."""
    change = {f"tokenizer.ggml.{kind}_token_id": id_, "tokenizer.chat_template": f"<{{{{ {kind}_token }}}}>"}
    kept = [entry for entry in forward_models.metadata(MODELS["qwen2"]) if entry.key not in change]
    changed = kept + [kv(key, value) for key, value in change.items()]
    monkeypatch.setattr(forward_models, "metadata", lambda _: changed)
    asked: list[str] = []
    encode = Tokenizer.encode
    monkeypatch.setattr(
        Tokenizer, "encode", lambda self, text, **how: [asked.append(text), *encode(self, text, **how)][1:]
    )
    code, _, error = call(capsys, "generate", write(MODELS["qwen2"], tmp_path / "m.gguf"), "-p", "abc", "-n", "1")
    assert (code, error) == (0, "")
    (tokens,) = (entry.value for entry in changed if entry.key == "tokenizer.ggml.tokens")
    assert asked == [f"<{tokens[11]}>"]


def test_a_text_ends_with_the_context(files: dict[str, Path]) -> None:
    model = load(files["base"], context=20)
    pieces = list(generate(model, list(b"0123456789"), 100, Sampling(temperature=1, seed=5, top_k=0, top_p=1)))
    assert 1 <= len("".join(pieces).encode(errors="ignore")) <= 60
    with pytest.raises(UsageError, match="the prompt has 20 tokens, the context room for 20"):
        list(generate(model, [65] * 20, 1, Sampling()))
    with pytest.raises(UsageError, match="the prompt has no tokens"):
        list(generate(model, [], 1, Sampling()))


def test_sampling() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    assert Sampler(Sampling()).next(logits) == 0
    drawn = Sampler(Sampling(temperature=1, top_k=0, top_p=1, seed=1))
    share = np.bincount([drawn.next(logits) for _ in range(4000)], minlength=4) / 4000
    assert np.abs(share - [0.5, 0.3, 0.15, 0.05]).max() < 0.03
    for limit in ({"top_k": 2, "top_p": 1}, {"top_k": 0, "top_p": 0.6}):
        some = Sampler(Sampling(temperature=1, seed=2, **limit))
        assert {some.next(logits) for _ in range(200)} == {0, 1}
    for wrong in ({"temperature": -1}, {"top_p": 0}, {"top_k": -1}):
        with pytest.raises(UsageError):
            Sampling(**wrong)
    same = [Sampler(Sampling(temperature=2, seed=9)) for _ in range(2)]
    assert [same[0].next(logits) for _ in range(20)] == [same[1].next(logits) for _ in range(20)]


def test_a_chat_is_in_the_models_own_template(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny = Path(__file__).parents[2] / "recipes" / "tiny"
    made = tmp_path / "tiny.gguf"
    assert call(capsys, "convert", tiny, made, "--type", "F16", "--name", "tiny")[0] == 0
    code, out, _ = call(capsys, "generate", made, "-p", "Hello!", "-n", "16", "--threads", str(os.cpu_count()))
    assert code == 0
    assert out.strip()


def test_one_model_is_loaded_at_a_time(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[weakref.ref[Any]] = []

    def load_alone(*arguments: Any, **more: Any) -> Any:
        assert [model() for model in loaded if model() is not None] == []
        model = load(*arguments, **more)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(runners, "load", load_alone)
    runner = runners.Kernels(16, 1)
    for _ in range(2):
        for file in files.values():
            runner.run(file, [Trial("pp", 8)])
            runner.run(file, [Trial("tg", 2)])
    assert len(loaded) == 2 * len(files)
