"""Bases on the Hub whose weights have other names than transformers gives them, through a llama.cpp's converter."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from hub_bases import Hub
from hub_bases import hub as hub  # fixtures, these two
from hub_bases import project as project
from hub_helpers import lock_of
from hub_server import CLOSED
from projects import Project
from standins.llama_cpp import RECIPE, checkpoint, ready, sources, standin_project, tools

INDEX = "model.safetensors.index.json"
HUB = RECIPE.replace('path = "standin"', 'repo = "acme/tiny"').replace(', "IQ3_XXS"', "")
READ = {  # of a repository, beside config.json and weights
    "tokenizer.model": b"pieces",
    "tekken.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "chat_template.json": b"{}",
    "preprocessor_config.json": b"{}",
    "tokenizer.model.v3": b"pieces",
    "vocab.txt": b"a\n",
    "rwkv_vocab_v20230424.txt": b"1 'a' 1\n",
}
LEFT = {  # and what nobody reads, or may
    "modeling_standin.py": b"raise SystemExit",
    "tokenization_standin.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickled",
    "consolidated.00.pth": b"pickled",
    "model-q8_0.gguf": b"GGUF",
    "original/params.json": b"{}",
    "adapter.safetensors": b"12345678",
    "requirements.txt": b"torch",
}
PARTS = ("consolidated-00001-of-00002.safetensors", "consolidated-00002-of-00002.safetensors")


def standin_files(folder: Path) -> dict[str, bytes]:
    """A stand-in's checkpoint, its tensors by two files of other names, which the index gives."""
    made = checkpoint(folder)
    data = (made / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    found, weight_map, names = {"config.json": (made / "config.json").read_bytes()}, {}, sorted(header)
    for part, chosen in zip(PARTS, (names[::2], names[1::2]), strict=True):
        entries, body = {}, b""
        for name in chosen:
            begin, end = (8 + size + at for at in header[name]["data_offsets"])
            entries[name] = {**header[name], "data_offsets": [len(body), len(body) + end - begin]}
            body += data[begin:end]
            weight_map[name] = part
        text = json.dumps(entries).encode()
        found[part] = struct.pack("<Q", len(text)) + text + body
    return found | {INDEX: json.dumps({"weight_map": weight_map}).encode()}


def replace(hub: Hub, files: dict[str, bytes]) -> None:
    """A commit with these files alone."""
    for path in hub.repository.folder.iterdir():
        if path.is_file():
            path.unlink()
    hub.repository.commit(files)


def mistral_files(folder: Path) -> dict[str, bytes]:
    """The same as Mistral lays its models out."""
    made = checkpoint(folder)
    weights = (made / "model.safetensors").read_bytes()
    return {"params.json": (made / "config.json").read_bytes(), "consolidated.safetensors": weights}


@pytest.mark.parametrize(("made", "with_"), [(standin_files, "llama.cpp"), (mistral_files, "auto")])
def test_weights_by_any_name_become_a_release(
    project: Project, hub: Hub, tmp_path: Path, made: Callable[[Path], dict[str, bytes]], with_: str
) -> None:
    named = ready(project, tmp_path / "ready", sources(tmp_path / "sources"), tools(tmp_path / "bin"))
    (project.folder / "recipes" / "small.toml").write_text(HUB.replace('"llama.cpp"', f'"{with_}"'))
    (project.folder / "recipes" / "text.txt").write_text("a quick brown fox and so on, once more. " * 200)
    needed = made(tmp_path / "made") | READ
    replace(hub, needed | LEFT)
    plan = project.run("quantmill", "plan", "small", **named).stdout
    weights = [name for name in needed if name.endswith(".safetensors")]
    assert not any(name in hub.front.sent for name in weights)
    if with_ == "auto":
        assert "the weights are named consolidated.safetensors, and not model*.safetensors" in plan
    project.run("quantmill", "build", "small", **named)
    lock = lock_of(project)
    assert lock["files"].keys() == needed.keys()
    assert not any(name in hub.front.sent for name in LEFT)
    assert all(hub.front.sent[name] == len(needed[name]) for name in weights)
    local = standin_project(tmp_path / "local", HUB.replace('repo = "acme/tiny"', 'path = "standin"'))
    shutil.rmtree(local.folder / "recipes" / "standin")
    (local.folder / "recipes" / "standin").mkdir()
    for name, data in (made(tmp_path / "again") | READ).items():
        (local.folder / "recipes" / "standin" / name).write_bytes(data)
    local.run("quantmill", "build", "small", **named)
    assert local.release()["small-Q8_0.gguf"] == project.release()["small-Q8_0.gguf"]
    again = project.run("quantmill", "build", "small", "--locked", HF_ENDPOINT=CLOSED, XDG_CACHE_HOME=str(tmp_path))
    assert again.stdout == "nothing to do: everything is up to date\n"


def test_what_an_index_names_must_be_there(project: Project, hub: Hub, tmp_path: Path) -> None:
    named = ready(project, tmp_path / "ready", sources(tmp_path / "sources"), tools(tmp_path / "bin"))
    (project.folder / "recipes" / "small.toml").write_text(HUB)
    (project.folder / "recipes" / "text.txt").write_text("a quick brown fox and so on, once more. " * 200)
    files = standin_files(tmp_path / "made")
    del files[PARTS[1]]
    replace(hub, files)
    said = project.run("quantmill", "lock", "small", check=2, **named).stderr
    assert f"acme/tiny: {INDEX} names '{PARTS[1]}', and there is no such safetensors file; fetch it" in said
    project.edit('with = "llama.cpp"', 'with = "own"')
    said = project.run("quantmill", "lock", "small", check=2, **named).stderr
    assert "acme/tiny: its weights are named consolidated-00001-of-00002.safetensors; those of a model in" in said


def test_a_published_release_is_reproduced_by_what_it_carries(hub: Hub, tmp_path: Path) -> None:
    """The base is converted again; what llama.cpp measured is taken from the Hub, and no program measures it anew."""
    text = RECIPE.replace(', "IQ3_XXS"', "") + '\n[evaluation]\ntext = "other.txt"\nn_ctx = 128\nwith = "llama.cpp"\n'
    made = standin_project(tmp_path / "project", text + '\n[publish]\nrepo = "acme/tiny"\n')
    (made.folder / "recipes" / "other.txt").write_text("nothing that the calibration text has in it, ever. " * 200)
    named = ready(made, tmp_path / "ready", sources(tmp_path / "sources"), tools(tmp_path / "bin"))
    made.run("quantmill", "build", "small", **named)
    release = made.release()
    tag = json.loads(release["release.json"])["tag"]
    replace(hub, release)
    hub.repository.tag(tag)
    (tmp_path / "bin" / "llama-imatrix").unlink()
    (tmp_path / "bin" / "llama-perplexity").unlink()
    shutil.rmtree(made.folder / "cache")
    beside = str(made.folder / "recipes")
    said = made.run(
        "quantmill",
        *("reproduce", f"acme/tiny@{tag}", "--beside", beside, "--work", str(tmp_path / "work")),
        **named,
        HF_ENDPOINT=hub.front.url,
        HF_HOME=str(tmp_path / "hf"),
        NO_PROXY="127.0.0.1,localhost",
    ).stdout
    assert "files are the same" in said
