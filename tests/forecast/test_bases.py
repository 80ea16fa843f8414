"""What a plan says of a base, and a build refuses before hours are spent: what the tag knows, what can be computed."""

import json
from pathlib import Path
from typing import Any

import pytest

from convert_golden import models as golden
from forward_models import MODELS, Small, write
from projects import Project
from quantmill.artifact import Artifact, Context
from quantmill.card.card_facts import facts
from quantmill.card.page import render
from quantmill.disk import sha256_file
from quantmill.errors import QuantmillError
from quantmill.forecast.plan import plan_of
from quantmill.gguf import Writer, kv
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import TYPES
from quantmill.recipe import lock as locks
from quantmill.recipe import page_params
from quantmill.recipe.recipe import load
from quantmill.reference.known_models import knows
from quantmill.released import ReleasedFile
from quantmill.steps import preflight

RECIPE = 'llama_cpp = "b5490"\n[base]\ngguf = "base.gguf"\ntype = "F32"\n[quants]\nmatrix = ["Q8_0"]\n'
TEXTS = '[{table}]\ntext = "text.txt"\nn_ctx = 64\n'


def other(folder: Path, architecture: str, **more: Any) -> Path:
    """A base of an architecture that is not evaluated here."""
    sizes = {"block_count": 1, "embedding_length": 64, "attention.head_count": 4}
    entries = [kv("general.architecture", architecture), *(kv(key, value) for key, value in more.items())]
    entries += [kv(f"{architecture}.{key}", value) for key, value in sizes.items() if more.get("whole", True)]
    tensors = [TensorEntry("token_embd.weight", (64, 32), TYPES["F32"])]
    with Writer(folder / "base.gguf", entries, tensors) as writer:
        writer.append(bytes(64 * 32 * 4))
    return recipe(folder)


def recipe(folder: Path, more: str = "", strict: bool = False) -> Path:
    (folder / "text.txt").write_text("some words of a text. " * 400)
    path = folder / "r.toml"
    path.write_text(RECIPE.replace("[base]", "strict = true\n[base]" if strict else "[base]") + more)
    return path


def planned(path: Path) -> Any:
    return plan_of(load(path), path.parent)


def refused(path: Path) -> str:
    with pytest.raises(QuantmillError) as error:
        planned(path)
    return str(error.value)


def preflighted(folder: Path, **params: Any) -> list[str]:
    base = folder / "base.gguf"
    artifact = Artifact(base, "0" * 64, base.stat().st_size)
    asked = {"type": "F32", "llama_cpp": "b5490", "ftypes": {"Q8_0": {"ftype": "Q8_0"}}, **params}
    preflight.run({"model.gguf": artifact}, asked, folder, Context())  # type: ignore[arg-type]
    return list(json.loads((folder / "preflight.json").read_text())["findings"])


@pytest.mark.parametrize("architecture", ["lfm2moe", "apertus"])
def test_an_architecture_that_the_tag_does_not_know(tmp_path: Path, architecture: str) -> None:
    path = other(tmp_path, architecture)
    (said, *_) = planned(path).findings
    assert said.startswith(f"llama.cpp b5490 knows no architecture '{architecture}': it neither quantizes nor")
    assert preflighted(tmp_path)[0] == said
    with pytest.raises(QuantmillError, match=f"knows no architecture '{architecture}'"):
        preflighted(tmp_path, strict=True)
    wanted = load(path)
    params = page_params.params(wanted, locks.write(wanted, sha256_file))
    assert params["unknown_architecture"]
    page = render(facts(params, [ReleasedFile("a-Q8_0.gguf", "Q8_0", 1000, 1, None)]), "en")
    assert "byte for byte" not in page
    assert "That release does not know this architecture" in page


def test_one_that_it_knows_is_claimed(tmp_path: Path) -> None:
    path = other(tmp_path, "falcon")
    assert planned(path).findings == ()
    wanted = load(path)
    params = page_params.params(wanted, locks.write(wanted, sha256_file))
    assert not {"unknown_architecture", "text_alone"} & params.keys()
    assert "byte for byte" in render(facts(params, [ReleasedFile("a-Q8_0.gguf", "Q8_0", 1000, 1, None)]), "en")
    assert all(knows("b5490", name) for name in ("llama", "qwen3moe", "gemma3"))


@pytest.mark.parametrize(
    ("table", "way"),
    [
        ("[calibration]\ntext = 'text.txt'\nn_ctx = 64\n", "give a ready matrix (`[imatrix] file`) in the place of"),
        ("[evaluation]\ntext = 'text.txt'\nn_ctx = 64\n", "leave out [evaluation] and its gates"),
        ("[bench]\n", "leave out [bench], or let llama.cpp measure (`runtime`)"),
    ],
)
def test_what_cannot_be_computed_is_not_promised(tmp_path: Path, table: str, way: str) -> None:
    other(tmp_path, "falcon")
    said = refused(recipe(tmp_path, table))
    assert "base.gguf: the architecture 'falcon' cannot be evaluated; qwen2, qwen3, qwen3moe, llama, gemma3" in said
    assert way in said
    key = {"[calib": {"computed": True}, "[evalu": {"least": {"texts/": 1}}, "[bench": {"bench": True}}[table[:6]]
    with pytest.raises(QuantmillError, match="cannot be evaluated"):
        preflighted(tmp_path, **key)


def test_llama_cpp_may_measure_what_we_cannot(tmp_path: Path) -> None:
    other(tmp_path, "falcon")
    assert planned(recipe(tmp_path, '[bench]\nruntime = "llama.cpp"\n')).files


def test_what_can_be_computed_is_planned(tmp_path: Path) -> None:
    write(MODELS["qwen3"], tmp_path / "base.gguf")
    assert planned(recipe(tmp_path, "[evaluation]\ntext = 'text.txt'\nn_ctx = 64\n[bench]\n")).quality


@pytest.mark.parametrize(
    ("architecture", "more", "said"),
    [
        (
            "clip",
            {"general.type": "mmproj"},
            "not a model but a vision or audio projector (mmproj); llama.cpp",
        ),
        ("clip", {}, "not a model but a vision or audio projector (mmproj)"),
        ("qwen2", {"general.type": "adapter"}, "not a model but a LoRA adapter; llama.cpp takes it as it is, beside"),
        ("controlvector", {}, "not a model but a control vector"),
        ("x", {"general.type": "imatrix"}, "not a model but an importance matrix; give it as one"),
    ],
)
def test_what_is_no_model_is_said_by_its_name(
    tmp_path: Path, architecture: str, more: dict[str, Any], said: str
) -> None:
    path = other(tmp_path, architecture, **more)
    assert f"base.gguf: {said}" in refused(path)
    with pytest.raises(QuantmillError, match="not a model but"):
        preflighted(tmp_path)


def test_a_base_that_llama_cpp_does_not_load_is_refused_by_plan(tmp_path: Path) -> None:
    write(Small("qwen2", without=("attn_q.bias",)), tmp_path / "base.gguf")
    assert planned(recipe(tmp_path)).files  # the bias of a qwen2 is no option, and so it is there
    other(tmp_path, "qwen2")
    assert "lacks the key qwen2.context_length, which llama.cpp's qwen2 needs" in refused(recipe(tmp_path))


def test_notes_of_a_checkpoint_are_findings(tmp_path: Path) -> None:
    golden.gemma3_vision(tmp_path / "base", shards=1)
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "r.toml").write_text(RECIPE.replace('gguf = "base.gguf"\ntype = "F32"', 'path = "base"\nname = "G"'))
    wanted = load(tmp_path / "r.toml")
    found = planned(tmp_path / "r.toml").findings
    assert any("the text model of Gemma3ForConditionalGeneration alone" in text for text in found)
    asked = {"type": "BF16", "ftypes": {"Q8_0": {"ftype": "Q8_0"}}, "config": config}
    preflight.run({}, asked, tmp_path, Context())  # type: ignore[arg-type]
    of_files = [
        text for text in found if text.startswith("tokenizer.json has '<0x00>' as the token 3; tokenizer.model")
    ]
    assert len(of_files) == 1  # which needs the checkpoint's files, and is the conversion's to tell
    assert json.loads((tmp_path / "preflight.json").read_text())["findings"] == [x for x in found if x not in of_files]
    with pytest.raises(QuantmillError, match="the text model of Gemma3ForConditionalGeneration alone"):
        preflight.run({}, asked | {"strict": True}, tmp_path, Context())  # type: ignore[arg-type]
    params = page_params.params(wanted, locks.write(wanted, sha256_file))
    page = render(facts(params, [ReleasedFile("a-Q8_0.gguf", "Q8_0", 1000, 1, None)]), "en")
    assert "The model reads images too; these files hold its text model alone" in page


def test_quantize_names_what_is_no_model(tmp_path: Path) -> None:
    other(tmp_path, "controlvector")
    project = Project(tmp_path)
    done = project.run("quantmill", "quantize", "base.gguf", "q.gguf", "Q8_0", check=2)
    assert done.stderr.startswith("quantmill: base.gguf: not a model but a control vector; llama.cpp takes it as it is")
    other(tmp_path, "clip")  # which llama-quantize takes since some tag between b6673 and b6845
    command = ("quantmill", "quantize", "base.gguf", "q.gguf", "Q8_0", "--llama-cpp")
    done = project.run(*command, "b6673", check=2)
    assert done.stderr.startswith("quantmill: base.gguf: not a model but a vision or audio projector (mmproj)")
    project.run(*command, "b6845")
