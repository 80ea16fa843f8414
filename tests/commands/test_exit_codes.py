"""What ends with 2 and what with 1: a model that is not supported is an error of use, one that is damaged of work."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import forward_models
from forward_models import MODELS
from projects import RECIPE, Project, new_project
from quantmill import gguf
from quantmill.cli import main
from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf.types import TYPES

USE, WORK = 2, 1
# What config.json of a Qwen2 says that no GGUF file of one can hold, or no model is.
UNSUPPORTED: dict[str, Any] = {
    "rope kind": {"rope_scaling": {"rope_type": "longrope", "factor": 4.0}},
    "rope factor": {"rope_scaling": {"rope_type": "linear", "factor": -1}},
    "rope table": {"rope_scaling": 4},
    "rope twice": {"rope_parameters": {"rope_theta": 5000.0}},
    "part of a head": {"rope_parameters": {"partial_rotary_factor": 0.5}},
    "activation": {"hidden_act": "gelu"},
    "cap": {"final_logit_softcapping": 30.0},
    "window": {"use_sliding_window": True, "sliding_window": 128, "max_window_layers": 0},
    "layer types": {"layer_types": ["chunked_attention"] * 4},
    "multiplier": {"attention_multiplier": 0.1},
    "head": {"head_dim": 0},
    "heads": {"num_key_value_heads": 3},
    "no layers": {"num_hidden_layers": None},
    "a text for a number": {"rms_norm_eps": "small"},
    "class": {"architectures": ["OtherForCausalLM"]},
    "no class": {"architectures": None},
}
CALLS = ("convert M out", "imatrix M -f text -o out", "perplexity M -f text", "plan small", "lock small", "build small")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def pickled(path: Path) -> None:
    path.rename(path.with_name("pytorch_model.bin"))


# What is wrong with a file of the model's folder, and what that is.
FILES: dict[str, tuple[str, Callable[[Path], object], int]] = {
    "config cut": ("config.json", cut, WORK),
    "weights cut": ("model.safetensors", cut, WORK),
    "tokenizer cut": ("tokenizer.json", cut, WORK),
    "config gone": ("config.json", Path.unlink, USE),
    "weights gone": ("model.safetensors", Path.unlink, USE),
    "tokenizer gone": ("tokenizer.json", Path.unlink, USE),
    "weights pickled": ("model.safetensors", pickled, USE),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    found = new_project(tmp_path / "project")
    (found.folder / "text").write_text("one two three four five six seven eight nine ten " * 100)
    monkeypatch.chdir(found.folder)
    return found


def ended(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return caught.value.code, said.splitlines()[-1] if said else ""


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_model_that_is_not_supported(name: str, place: Project, capsys: pytest.CaptureFixture[str]) -> None:
    config = place.folder / "recipes" / "tiny" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | UNSUPPORTED[name]))
    codes = {call: ended(call.replace("M", str(config.parent)), capsys)[0] for call in CALLS}
    assert codes == dict.fromkeys(CALLS, USE)
    assert not (place.folder / "out").exists()


@pytest.mark.parametrize("name", FILES)
def test_files_of_a_model(name: str, place: Project, capsys: pytest.CaptureFixture[str]) -> None:
    file, damage, code = FILES[name]
    model = place.folder / "recipes" / "tiny"
    damage(model / file)
    calls = [call for call in CALLS if name != "weights cut" or not call.startswith(("plan", "lock"))]  # read headers
    assert {call: ended(call.replace("M", str(model)), capsys)[0] for call in calls} == dict.fromkeys(calls, code)


def models() -> Iterator[tuple[str, forward_models.Small, dict[str, Any], int]]:
    qwen2 = MODELS["qwen2"]
    yield "scaling", replace(qwen2, keys={"rope.scaling.type": "longrope"}), {}, USE
    yield "heads", replace(qwen2, keys={"attention.head_count_kv": 3}), {}, USE
    yield "more", qwen2, {"blk.0.extra.weight": (64,)}, USE
    yield "less", replace(qwen2, without=("ffn_up.weight",)), {}, WORK


@pytest.mark.parametrize(("name", "small", "more", "code"), list(models()))
def test_a_file_that_is_evaluated(
    name: str,
    small: forward_models.Small,
    more: dict[str, Any],
    code: int,
    place: Project,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tensors = [
        (name, shape, values)
        for name, shape, values in forward_models.weights(MODELS["qwen2"])
        if not any(part in name for part in small.without)
    ]
    described = [(name, shape, TYPES["F32"]) for name, shape, _ in tensors]
    described += [(name, shape, TYPES["F32"]) for name, shape in more.items()]
    with gguf.Writer(place.folder / "m.gguf", forward_models.metadata(small), described) as writer:
        for _, _, values in tensors:
            writer.append(values.view("u1").reshape(-1))
        for _, shape, _ in described[len(tensors) :]:
            writer.append(bytes(4 * shape[0]))
    for call in (
        "imatrix m.gguf -f text -o out --n-ctx 64 --chunks 2",
        "perplexity m.gguf -f text --n-ctx 64 --chunks 2",
        "generate m.gguf -p a --raw -n 1",
        "bench m.gguf -p 1 -n 0 -r 1",
    ):
        assert (call, ended(call, capsys)[0]) == (call, code)


def test_files_of_two_models(place: Project, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("qwen2", "llama"):
        forward_models.write(MODELS[name], place.folder / f"{name}.gguf")
    forward_models.write(replace(MODELS["qwen2"], ff=128), place.folder / "wide.gguf")
    for name in ("qwen2", "wide"):
        measure = f"imatrix {name}.gguf -f text --n-ctx 64 --chunks 2 -o {name}.dat"
        assert ended(measure, capsys)[0] == 0
    code, said = ended("imatrix --in-file qwen2.dat --in-file wide.dat -o out", capsys)
    assert code == USE
    assert "merge files of one model" in said


def test_a_build_whose_tasks_fail(place: Project) -> None:
    """Of use where all that failed did so by what the recipe asks for; a gate that a file does not pass is of work."""
    passage = (place.folder / "text").read_text()
    (place.folder / "recipes" / "text.txt").write_text(passage)
    tables = '[evaluation]\ntext = "text.txt"\nn_ctx = 64\nchunks = 2\n'
    seen = '[calibration]\ntext = "text.txt"\nn_ctx = 64\nchunks = 2\n'
    place.recipe.write_text(RECIPE.replace('"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"Q2_K"') + tables + seen)
    for command in (["quantmill", "build", "small"], ["doit"], ["doit", "-n", "2"]):
        done = place.run(*command, check=USE)
        assert done.stderr.count("\n") == 1
        assert "measure with a text that the importance matrix has not seen" in done.stderr
    place.recipe.write_text(
        place.recipe.read_text().replace(seen, "").replace(tables, tables + "[verify]\nmax_kld = 0.0\n")
    )
    for command in (["quantmill", "build", "small"], ["doit"]):
        assert "max_kld" in place.run(*command, check=WORK).stderr


def test_a_code_is_its_class() -> None:
    def below(error: type[QuantmillError]) -> Iterator[type[QuantmillError]]:
        for one in error.__subclasses__():
            yield one
            yield from below(one)

    found = set(below(QuantmillError))
    assert {error.exit_code for error in found} == {USE, WORK}
    assert {error.__name__ for error in found if issubclass(error, UsageError) and error.exit_code != USE} == set()
