"""No terminal obeys a name: whatever a file, its metadata or another folder call things, lines show it escaped."""

import ast
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import forward_models
import quantmill.commands
from forward_models import MODELS
from gguf_files import changed
from projects import Project
from quantmill import gguf
from quantmill.cli import main
from quantmill.errors import printable
from quantmill.imatrix import Entry, encode

EVIL = "a\x1b]0;owned\x07\x1b[31m\n\x9b2J\u202e{task.none}[/red]"
SHOWN = r"a\x1b]0;owned\x07\x1b[31m\n\x9b2J\u202e{task.none}[/red]"


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose file and general.name are of a stranger's choice."""
    plain = forward_models.write(MODELS["qwen2"], tmp_path_factory.mktemp("plain") / "m.gguf")
    path = tmp_path_factory.mktemp("evil") / f"{EVIL.replace('/', '')}-Q8_0.gguf"
    return changed(plain, path, general__name=EVIL)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command prints, of which each line must be harmless."""
    with pytest.raises(SystemExit):
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    for line in (said.out + said.err).removesuffix("\n").split("\n"):
        assert line.isprintable(), line
    return said.out + said.err


def test_what_can_be_printed_stays() -> None:
    assert printable("Qwen 3 · Größe 模型 \\x1b") == "Qwen 3 · Größe 模型 \\x1b"
    assert printable(EVIL) == SHOWN
    assert printable("\udcff") == r"\udcff"  # a file's name that is no UTF-8


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_names_of_files_and_models(
    evil: Path, more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = SHOWN.replace("/", "")
    if more:
        shown = json.dumps(EVIL)[1:-1].replace("/", "")
    bench = ("-p", "8", "-n", "1", "-r", "1", "-t", "1")
    named = json.dumps(EVIL)[1:-1] if more else SHOWN
    assert named in call(capsys, "bench", evil, *bench, *more)
    assert f"{shown}-Q8_0.gguf" in call(
        capsys, "choose", evil.parent, "--vram", "8GB", "--ram", "8GB", "--backend", "cuda", *more
    )
    assert f"{shown}-Q8_0.gguf" in call(capsys, "verify", evil, *more)
    assert "the same" in call(capsys, "diff", evil, evil) or more
    other = tmp_path / "other.gguf"
    other.write_bytes(evil.read_bytes().replace(b"owned", b"0wned"))
    assert "0wned" in call(capsys, "diff", evil, other, *more)


def test_paths_that_are_written_and_missing(evil: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / EVIL.replace("/", "")
    folder.mkdir()
    for arguments in (
        ("split", evil, folder, "--max-tensors", "20"),
        ("quantize", evil, folder / "q.gguf", "COPY"),
        ("verify", folder),
        ("verify", folder / "none.gguf"),
        ("split", evil, folder / "q" / "none"),
        ("generate", folder / "none.gguf", "-p", "x"),
        ("imatrix", folder / "none.gguf", "-f", folder / "none.txt"),
        ("imatrix", evil, "-f", folder),  # the operating system's own error
    ):
        assert SHOWN.partition("{")[0] in call(capsys, *arguments), arguments
    first = next(folder.glob("*-00001-of-*"))
    assert SHOWN.partition("{")[0] in call(capsys, "merge", first, folder / "m.gguf")


def test_tensors_of_an_importance_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "i.dat"
    path.write_bytes(encode([Entry(EVIL, 1, np.ones(4, np.float32))], b"text", 1))
    said = call(capsys, "imatrix", "--in-file", path, "--show-statistics")
    assert SHOWN in said
    said = call(capsys, "imatrix", "--in-file", path, "--show-statistics", "--json")
    assert json.loads(said)["statistics"][0]["tensor"] == EVIL


def test_what_lies_in_a_release_that_is_reproduced(project: Project) -> None:
    project.edit('"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"BF16"')
    project.run("quantmill", "build", "small")
    tree = project.folder / "release" / "small"
    (tree / EVIL.replace("/", "")).write_text("extra")
    done = project.run("quantmill", "reproduce", str(tree), check=1)
    assert f"{SHOWN.replace('/', '')}: it is not made from this recipe\n" in done.stdout
    done = project.run("quantmill", "reproduce", str(tree), "--json", check=1)
    assert all(line.isprintable() for line in done.stdout.split("\n"))
    assert EVIL.replace("/", "") in [file["name"] for file in json.loads(done.stdout)["files"]]


def test_the_title_of_a_bar(evil: Path) -> None:
    """On a terminal, where a name with braces or brackets was taken for a format and for markup."""
    master, slave = pty.openpty()
    program = str(Path(sys.executable).parent / "quantmill")
    with subprocess.Popen([program, "verify", str(evil)], stdout=subprocess.PIPE, stderr=slave) as process:
        os.close(slave)
        seen = b""
        while piece := _read(master):
            seen += piece
        out = process.communicate()[0]
    os.close(master)
    assert (process.returncode, b"whole\n" in out) == (0, True)
    assert b"]0;owned\x07" not in seen
    assert b"\x1b[31m\n" not in seen
    assert b"\x9b" not in seen


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # EIO: the other end is closed
        return b""


def test_what_a_model_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its tokens are escape sequences."""
    plain = forward_models.write(MODELS["qwen2"], tmp_path / "m.gguf")
    with gguf.read(plain) as file:
        words = file.metadata["tokenizer.ggml.tokens"].value
    words = [word if word in "abc" or len(word) > 1 else f"\u011b[{id_}m" for id_, word in enumerate(words)]
    path = changed(plain, tmp_path / "evil.gguf", tokenizer__ggml__tokens=words)
    assert r"\x1b[" in call(capsys, "generate", path, "-p", "abc", "-n", "12", "--raw")


def test_a_task_s_reason_and_a_finding(capsys: pytest.CaptureFixture[str]) -> None:
    from quantmill.build.reporter import Listener

    listener = Listener()
    reporter = listener.reporter()(sys.stdout, {})
    listener.hear("quant:small", "start", {"reason": EVIL, "counts": "bytes"})
    listener.hear("quant:small", "finding", {"text": EVIL})
    listener.hear("s3://store", "told", {"text": EVIL})
    reporter.runtime_error(EVIL.replace("\n", ""))
    reporter.complete_run()
    said = capsys.readouterr()
    assert said.out.splitlines()[:3] == [f"quant:small: {SHOWN}", f"  note: {SHOWN}", f"  s3://store: {SHOWN}"]
    assert said.err == f"quantmill: {SHOWN.replace(chr(92) + 'n', '')}\n"


def test_only_what_escapes_prints() -> None:
    folder = Path(quantmill.commands.__file__).parent
    printing = {
        path.name
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id == "print"
    }
    assert printing == {"common.py", "completion.py", "generate.py"}  # the second prints our own grammar
