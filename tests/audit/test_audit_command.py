"""The command `quantmill audit`: what it tells and records, and calls that are wrong."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from quantmill import gguf
from quantmill.cli import main

VICTIM = "blk.1.ffn_up.weight"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The command's exit code, and what it prints."""
    with pytest.raises(SystemExit) as ended:
        main(["audit", *map(str, arguments)])
    shown = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, shown.out, shown.err


def test_the_command_tells_and_records(
    toy: Any, patched: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, record = tmp_path / "release", tmp_path / "audit.json"
    folder.mkdir()
    gguf.split(toy.quantized("Q4_K_M"), folder, "toy-Q4_K_M", max_tensors=12)
    shutil.copy(toy.quantized("Q8_0"), folder / "renamed.gguf")
    given = (folder, "--base", toy.base, "--imatrix", toy.imatrix)
    code, out, _ = run(capsys, *given, "--json", record)
    assert code == 0
    assert "renamed.gguf: same\n" in out
    assert "toy-Q4_K_M-00001-of-00002.gguf: same\n" in out
    found = json.loads(record.read_bytes())
    assert [len(file["digests"]) for file in found["files"]] == [1, 2]
    assert found["base"][0]["name"] == "base.gguf"
    assert len(found["base"][0]["sha256"]) == 64
    assert run(capsys, *given, "--json")[1] == record.read_text()
    shutil.copy(toy.quantized("Q4_K_M", "b5490"), folder / "renamed.gguf")

    def change(data: Any, info: gguf.TensorInfo) -> None:
        data[144 * 3 + 50] ^= 4

    shutil.copy(patched(toy.quantized("Q4_K_S"), change), folder / "renamed.gguf")
    code, out, _ = run(capsys, *given)
    assert code == 1
    assert f"  {VICTIM} (Q4_K): changed, " in out
    assert "; block 3, weight " in out


def test_wrong_calls_end_in_a_sentence(toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = toy.quantized("Q4_K_M")
    for arguments, said in (
        ((tmp_path / "none.gguf", "--base", toy.base), "there is no such file"),
        ((path, "--base", toy.base, "--tag", "b1"), "is not supported"),
        ((path, "--base", toy.base, "--seed", "1"), "--seed is for a sample"),
        ((path, "--base", toy.base, "--sample", "0%"), "is no part of the rows"),
        ((path, "--base", toy.base, "--json", path), "cannot be what it writes"),
        ((path, "--base", toy.base, "--imatrix", tmp_path), "this is a folder"),
        ((tmp_path, "--base", toy.base), "there are no GGUF files of a model"),
    ):
        code, out, err = run(capsys, *arguments)
        assert code == 2, (arguments, err)
        assert not out
        assert said in err
