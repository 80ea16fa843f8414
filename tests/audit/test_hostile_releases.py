"""Releases made to harm: each ends in a sentence, in bounded memory and time, and no terminal obeys a name."""

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

import gguf_files
from hub_bases import Hub
from hub_bases import hub as hub  # the fixture
from hub_bases import project as project  # the fixture
from hub_helpers import fails
from projects import TINY, Project
from quantmill import gguf
from quantmill.audit.mixes import MOST_TENSORS, recognize
from quantmill.cli import main
from quantmill.gguf import kv
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import TYPES


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    assert "\x1b" not in shown.out + shown.err
    return ended.value.code, shown.out, shown.err


def header(tensors: int, kvs: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, kvs) + rest


def tensor(name: bytes, shape: tuple[int, ...], type_: int, offset: int = 0) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}q", len(shape), *shape)
    return struct.pack("<Q", len(name)) + name + sizes + struct.pack("<iQ", type_, offset)


@pytest.mark.parametrize(
    ("data", "lies", "said"),
    [
        (header(10**9, 0), 0, "the number of tensors"),
        (header(1, 10**9), 0, "the number of keys"),
        (header(1, 1, struct.pack("<Q", 1) + b"k" + struct.pack("<iiQ", 9, 0, 1 << 40)), 0, "the array of the key 'k'"),
        (header(1, 0, tensor(b"a", (32, 1 << 45), 0)), 1 << 55, "which no model's has"),
        (header(1, 0, tensor(b"a", (1 << 45,), 0)), 1 << 55, "which no model's has"),
        (header(1, 0, tensor(b"\x1b[2Ja", (32, 1 << 45), 0)), 1 << 55, "which no model's has"),
        (header(1, 0, tensor(b"a", (32, 1 << 45), 0)), 0, "bytes"),
        (b"GGUF", 0, "version"),
        (b"<html>", 0, "GGUF"),
    ],
)
def test_headers_that_lie(
    served: Any, toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, lies: int, said: str
) -> None:
    """Of a release, and of a base; with a server that says that the file is as large as its header wants it."""
    (tmp_path / "x.gguf").write_bytes(data + bytes(70_000))
    served.lies = lies
    there = f"{served.address}/x.gguf"
    shutil.copy(toy.quantized("Q4_K_M"), tmp_path / "y.gguf")
    for arguments in ((there, "--base", toy.base), (tmp_path / "y.gguf", "--base", there)):
        code, out, err = call(capsys, "audit", *arguments, "--sample", "2%")
        assert (code in (1, 2), out, err.count("\n")) == (True, "", 1)
        assert said in err
    assert served.sent < 1 << 20


def test_a_header_as_long_as_a_file_is_not_read_on(served: Any, toy: Any, tmp_path: Path, capsys: Any) -> None:
    with open(tmp_path / "x.gguf", "wb") as file:
        file.write(header(10**9, 0))
        file.truncate(70 << 20)
    served.lies = 1 << 50
    code, out, err = call(capsys, "audit", f"{served.address}/x.gguf", "--base", toy.base, "--sample", "2%")
    assert (code, out) == (1, "")
    assert "its header does not end within the first 67108864 bytes" in err
    assert served.sent < 100 << 20


def test_more_tensors_than_any_model_has(toy: Any, tmp_path: Path, capsys: Any) -> None:
    entries = [TensorEntry(f"t{n}", (1,), TYPES["F32"]) for n in range(20_000)]
    with gguf.Writer(tmp_path / "x.gguf", [kv("general.architecture", "llama")], entries) as writer:
        for _ in entries:
            writer.append(bytes(4))
    code, out, err = call(capsys, "audit", tmp_path / "x.gguf", "--base", toy.base)
    assert (code, out) == (1, "")
    assert "it has 20000 tensors, more than the 16384 that any model has" in err
    many = [TensorEntry(f"blk.0.t{n}.weight", (256, 1), TYPES["Q4_K"]) for n in range(MOST_TENSORS + 1)]
    assert recognize({"general.architecture": "llama", "llama.block_count": 1}, many) is None


def test_names_and_templates_that_are_hostile(toy: Any, tmp_path: Path, capsys: Any) -> None:
    """A template is compared and never run; keys without number are counted."""
    path = tmp_path / "\x1b[31mx\n.gguf"
    loop = "{% for i in range(10**12) %}{% for j in range(10**12) %}x{% endfor %}{% endfor %}\x1b[2J\n"
    keys = {f"x.\x1b[2J{n}": "\x1b]0;owned\x07" for n in range(500)}
    gguf_files.changed(toy.quantized("Q4_K_M"), path, tokenizer__chat_template=loop * 1500, **keys)
    code, out, _ = call(capsys, "audit", path, "--base", toy.base, "--imatrix", toy.imatrix)
    assert code == 1
    assert "and 401 more entries or tensors that are not the base's" in out
    assert out.count("\n") < 300
    gguf_files.changed(toy.quantized("Q4_K_M"), path, tokenizer__chat_template="x" * 20_000_000, **{"k" * 9999: "y"})
    code, out, _ = call(capsys, "audit", path, "--base", toy.base, "--imatrix", toy.imatrix)
    assert code == 1
    assert len(out) < 10_000


def test_what_lies_beside_a_release_is_hostile(toy: Any, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    shutil.copy(toy.quantized("Q4_K_M"), folder / "x.gguf")
    os.mkfifo(folder / "pipe.gguf")
    os.mkfifo(folder / "imatrix.dat")
    os.mkfifo(folder / "README.md")
    (folder / "folder.gguf").mkdir()
    assert call(capsys, "audit", folder, "--base", toy.base)[0] == 0
    (folder / "imatrix.dat").unlink()
    with open(folder / "imatrix.dat", "wb") as file:
        file.truncate(3_000_000_000)
    code, out, _ = call(capsys, "audit", folder, "--base", toy.base)
    assert code == 0
    assert "imatrix.dat beside the release is too large to be taken unasked; give it by --imatrix\n" in out
    (folder / "imatrix.dat").write_bytes(b"\xff" * 5000)
    code, _, err = call(capsys, "audit", folder, "--base", toy.base)
    assert code == 2
    assert err.count("\n") == 1
    assert "imatrix.dat" in err


def test_a_model_that_calls_itself_something_else_is_named(toy: Any, tmp_path: Path, capsys: Any) -> None:
    """llama.cpp loads it all the same."""
    folder = tmp_path / "r"
    folder.mkdir()
    shutil.copy(toy.quantized("Q8_0"), folder / "x.gguf")
    shutil.copy(toy.quantized("Q8_0"), folder / "y-imatrix.gguf")
    gguf_files.changed(toy.quantized("Q8_0"), folder / "z.gguf", general__type="adapter")
    call_for = ("audit", folder, "--base", toy.base, "--imatrix", toy.imatrix)
    said = "not audited, for they call themselves something else than a model: y-imatrix.gguf, z.gguf\n"
    assert said in call(capsys, *call_for)[1]
    assert json.loads(call(capsys, *call_for, "--json")[1])["not_audited"] == ["y-imatrix.gguf", "z.gguf"]


def test_a_listing_of_the_hub_that_is_hostile(hub: Hub, project: Project, toy: Any) -> None:
    def listing(*files: dict[str, Any]) -> None:
        found = [{"type": "file", "oid": "0" * 40, "size": 100, **file} for file in files]
        body = json.dumps(found).encode()
        hub.front.answers = [
            ("GET .*/tree/", 200, {"Content-Type": "application/json"}, body),
            ("GET .*/resolve/", 404, {"X-Error-Code": "EntryNotFound"}, b""),
        ]

    call = ("quantmill", "audit", "acme/tiny", "--sample", "2%", "--base", str(toy.base))
    listing({"path": "../../x.gguf"})
    assert "which is no path; name the file to read" in fails(project, *call, code=2)
    listing({"path": "\x1b[2J.gguf"})
    assert "acme/tiny" in fails(project, *call)
    listing({"path": "x-00001-of-99999.gguf"})
    assert "99999 shards are more than the 1000" in fails(project, *call, code=2)
    listing(*({"path": f"{n}.txt"} for n in range(20_001)))
    assert "more than the 20000 that any release has" in fails(project, *call, code=2)
    listing({"path": "x.gguf"}, {"path": "README.md", "size": 10**9})
    assert "and at most 4000000 are read; name the base" in fails(project, *call[:-2], code=2)
    weights = {"path": "model.safetensors", "size": 10**9}
    listing(weights, {"path": "config.json"}, *({"path": f"{n}.json", "size": 90_000_000} for n in range(9)))
    base = ("quantmill", "audit", str(toy.quantized("Q8_0")), "--sample", "2%", "--base", "acme/tiny")
    assert "bytes beside the weights, which no model has" in fails(project, *base)


def test_a_base_in_a_folder_that_is_hostile(toy: Any, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "x.gguf"
    shutil.copy(toy.quantized("Q8_0"), path)
    for name, data in (
        ("config.json", b"[" * 100_000),
        ("config.json", b'{"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 1000000000}'),
        ("config.json", b'{"architectures": ["\\u001b[2J"]}'),
        ("tokenizer.json", b'{"model":' * 100_000),
        ("model.safetensors", struct.pack("<Q", 1 << 62) + b"{}"),
        ("model.safetensors", struct.pack("<Q", 5000) + b"[" * 5000),
    ):
        base = tmp_path / "base"
        shutil.rmtree(base, ignore_errors=True)
        shutil.copytree(TINY, base)
        (base / name).write_bytes(data)
        code, out, err = call(capsys, "audit", path, "--base", base)
        if name != "tokenizer.json":  # without which the tensors are audited all the same
            assert (code in (1, 2), out, err.count("\n")) == (True, "", 1)
