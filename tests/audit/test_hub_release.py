"""Whole releases of the Hub, against checkpoints of the Hub: their cards say of what, rows of both are drawn."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub_bases import Hub, tiny_files
from hub_bases import hub as hub  # the fixture
from hub_bases import project as project  # the fixture
from hub_helpers import WEIGHTS, fails
from hub_server import Repository
from projects import TINY, Project
from quantmill import gguf
from quantmill.architectures.json_file import model_files
from quantmill.artifact import Context
from quantmill.checkpoint.conversion import convert
from quantmill.gguf import kv
from quantmill.quant.quantizer import quantize_file

CARD = "---\nbase_model: acme/tiny\nbase_model_relation: quantized\n---\n# Tiny GGUF\n"
AUDIT = ("quantmill", "audit", "acme/tiny-GGUF", "--sample", "2%")
Publish = Callable[..., Repository]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """A release's files: one in shards, one in a folder, a projector, the imatrix and a card."""
    base, out = tmp_path / "BF16.gguf", tmp_path / "out"
    convert(model_files(TINY), base, "BF16", "tiny", None, Context())
    (out / "Q8_0").mkdir(parents=True)
    quantize_file(base, tmp_path / "x.gguf", "Q4_K_M", imatrix=TINY / "imatrix.dat")
    gguf.split(tmp_path / "x.gguf", out, "tiny-Q4_K_M", max_tensors=30)
    quantize_file(base, out / "Q8_0" / "tiny-Q8_0.gguf", "Q8_0")
    kvs = [kv("general.architecture", "clip"), kv("general.type", "mmproj")]
    gguf.Writer(out / "mmproj-F16.gguf", kvs, []).__enter__().__exit__(None, None, None)
    found = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    return {**found, "imatrix.dat": (TINY / "imatrix.dat").read_bytes(), "README.md": CARD.encode()}


@pytest.fixture
def publish(hub: Hub) -> Publish:
    """Makes a repository acme/tiny-GGUF of files."""

    def made(files: dict[str, bytes]) -> Repository:
        repository = Repository(hub.repository.folder.parent / "tiny-GGUF")
        repository.commit(files, lambda name: name.endswith(".gguf"))
        return repository

    return made


def test_a_release_is_audited_by_what_it_names(
    hub: Hub, project: Project, publish: Publish, files: dict[str, bytes]
) -> None:
    head = publish(files)._git("rev-parse", "HEAD").strip()
    hub.front.reset()
    done = project.run(*AUDIT, "--json", "audit.json")
    assert "base acme/tiny, named by the release's card\nimatrix imatrix.dat, found beside the release\n" in done.stdout
    stated: Any = json.loads((project.folder / "audit.json").read_text())
    assert {file["name"]: file["verdict"] for file in stated["files"]} == {
        "acme/tiny-GGUF/Q8_0/tiny-Q8_0.gguf": "same",
        "acme/tiny-GGUF/tiny-Q4_K_M-00001-of-00002.gguf": "same",
    }
    assert not [key for file in stated["files"] for key in file["metadata"]]
    assert stated["base_named_by"] == "the release's card"
    assert {part["repo"] for part in stated["base"]} == {"acme/tiny"}
    assert {part["commit"] for part in stated["base"]} == {hub.first}
    said = json.loads((project.folder / "audit.vsa.json").read_text())
    assert said["predicate"]["resourceUri"] == f"pkg:huggingface/acme/tiny-GGUF@{head}"
    models = [name for name in files if name.endswith(".gguf") and not name.startswith("mmproj")]
    assert {subject["name"]: subject["digest"]["sha256"] for subject in said["subject"]} == {
        name: hashlib.sha256(files[name]).hexdigest() for name in models
    }
    assert stated["not_audited"] == ["mmproj-F16.gguf"]
    assert WEIGHTS not in hub.front.sent
    weights = sum(count for name, count in hub.front.heads if name == WEIGHTS)
    assert 0 < weights < 0.1 * len((TINY / WEIGHTS).read_bytes())  # for both files, with the header
    [alone] = json.loads(
        project.run(
            *AUDIT[:2], "acme/tiny-GGUF/Q8_0/tiny-Q8_0.gguf", *AUDIT[3:], "--base", "acme/tiny", "--json"
        ).stdout
    )["files"]
    assert alone == stated["files"][0]
    assert "give --sample 2%" in fails(project, *AUDIT[:3], code=2)


def test_a_release_of_other_weights_is_told(
    hub: Hub, project: Project, publish: Publish, files: dict[str, bytes], tmp_path: Path
) -> None:
    """Of one file alone, and of files here against a base there."""
    name = "Q8_0/tiny-Q8_0.gguf"
    data = bytearray(files[name])
    with gguf.read(tmp_path / "out" / name) as file:
        info = file.tensors["blk.1.ffn_up.weight"]
        start = file.data_offset + info.offset
    data[start : start + info.nbytes] = bytes(reversed(data[start : start + info.nbytes]))
    publish({**files, name: bytes(data)})
    done = project.run(*AUDIT, check=1)
    assert "acme/tiny-GGUF/Q8_0/tiny-Q8_0.gguf: changed\n" in done.stdout
    assert "acme/tiny-GGUF/tiny-Q4_K_M-00001-of-00002.gguf: same\n" in done.stdout
    assert "  blk.1.ffn_up.weight (Q8_0): changed, " in done.stdout
    (project.folder / "x.gguf").write_bytes(bytes(data))
    done = project.run("quantmill", "audit", "x.gguf", "--base", "acme/tiny", "--sample", "2%", check=1)
    assert "x.gguf: changed\n" in done.stdout


def test_bases_of_the_hub_that_are_none_end_in_a_sentence(
    hub: Hub, project: Project, publish: Publish, files: dict[str, bytes]
) -> None:
    publish({name: data for name, data in files.items() if name != "README.md"})
    assert "neither its card nor its metadata name one base" in fails(project, *AUDIT, code=2)
    base = (*AUDIT, "--base", "acme/tiny")
    for instead, said in (
        ({WEIGHTS: b"\xff" * 100}, "no header of a safetensors file"),
        ({WEIGHTS: (1 << 40).to_bytes(8, "little") + b"{" * 5000}, "no header of a safetensors file"),
        ({WEIGHTS: (5000).to_bytes(8, "little") + b"[" * 5000}, "no header of a safetensors file"),
    ):
        hub.front.instead = instead
        assert said in fails(project, *base)
    hub.front.instead = {}
    hub.front.ranges = False
    assert "does not send the range asked for" in fails(project, *base)
    hub.front.ranges = True
    hub.repository.commit({"model-00001-of-00002.safetensors": tiny_files()[WEIGHTS]}, lambda name: True)
    (hub.repository.folder / WEIGHTS).unlink()
    hub.repository.commit({})
    assert "model-00002-of-00002.safetensors of 2 shards is missing" in fails(project, *base, code=2)
    (hub.repository.folder / "model-00001-of-00002.safetensors").unlink()
    hub.repository.commit({"pytorch_model.bin": b"x"})
    assert "it holds 0 models (no weights); name a repository of a model" in fails(project, *base, code=2)
