"""Bases of an audit that are no GGUF file: a model's folder, and files that were made of the base first."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from projects import TINY
from quantmill import gguf
from quantmill.audit.file_audit import AuditOptions, audit_file
from quantmill.audit.row_sample import RowSample
from quantmill.audit.verdict import FileVerdict
from quantmill.cli import main
from quantmill.quant.quantizer import quantize_file

IMATRIX = TINY / "imatrix.dat"
VICTIM = "blk.1.ffn_up.weight"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with conversions of the tiny model, and what is made of them."""
    folder = tmp_path_factory.mktemp("made")
    for type_ in ("BF16", "F16"):
        call("convert", TINY, folder / f"{type_}.gguf", "--type", type_)
        quantize_file(folder / f"{type_}.gguf", folder / f"of-{type_}-Q4_K_M.gguf", "Q4_K_M", imatrix=IMATRIX)
    quantize_file(folder / "BF16.gguf", folder / "Q8_0.gguf", "Q8_0")
    quantize_file(
        folder / "Q8_0.gguf", folder / "of-Q8_0-Q4_K_M.gguf", "Q4_K_M", imatrix=IMATRIX, allow_requantize=True
    )
    return folder


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def held(path: Path, base: Path, **asked: Any) -> FileVerdict:
    return audit_file(path, base, AuditOptions(IMATRIX, threads=2, **asked))


def words(verdict: FileVerdict) -> set[str]:
    return {tensor.word for tensor in verdict.tensors}


def test_a_folder_is_a_base(made: Path) -> None:
    """Tensors and metadata of every kind of file, also by rows."""
    for name in ("BF16", "F16", "Q8_0", "of-BF16-Q4_K_M"):
        for sample in (None, RowSample(0.05, 3)):
            found = held(made / f"{name}.gguf", TINY, sample=sample)
            assert (words(found), found.keys, found.word) == ({"same"}, (), "same")
            assert found.through is None
    whole = held(made / "of-BF16-Q4_K_M.gguf", TINY)
    assert whole.to_json() == held(made / "of-BF16-Q4_K_M.gguf", made / "BF16.gguf").to_json()


def test_changes_are_found_against_a_folder(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    shutil.copy(made / "of-BF16-Q4_K_M.gguf", path)
    with gguf.read(path) as file, open(path, "r+b") as out:
        info = file.tensors[VICTIM]
        out.seek(file.data_offset + info.offset + 20 * info.type.size + info.type.size // 2)
        out.write(b"\xff\x00\xff")
    found = held(path, TINY)
    assert {tensor.name for tensor in found.tensors if tensor.word == "changed"} == {VICTIM}
    base = tmp_path / "base"
    shutil.copytree(TINY, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"rope_theta": 12345.0}))
    found = held(made / "of-BF16-Q4_K_M.gguf", base)
    assert words(found) == {"same"}
    assert [key.key.partition(".")[2] for key in found.keys] == ["rope.freq_base"]


def test_a_tokenizer_that_is_not_known_is_told(made: Path, tmp_path: Path) -> None:
    """The weights are audited all the same."""
    base = tmp_path / "base"
    shutil.copytree(TINY, base)
    (base / "tokenizer.json").unlink()
    found = held(made / "of-BF16-Q4_K_M.gguf", base)
    assert words(found) == {"same"}
    assert any(note.startswith("tokenizer and chat template are not compared: ") for note in found.notes)


def test_a_file_between_base_and_release_is_found(made: Path, toy: Any, tmp_path: Path) -> None:
    for base in (TINY, made / "BF16.gguf"):
        for sample in (None, RowSample(0.3, 1)):
            found = held(made / "of-Q8_0-Q4_K_M.gguf", base, sample=sample)
            assert (words(found), found.through) == ({"same"}, "Q8_0")
            assert found.notes[0].startswith("made of the base's Q8_0, a file between the two")
            assert found.to_json()["through"] == "Q8_0"
    small = {name: weights * np.float32(1e-5) for name, weights in toy.weights.items()}  # of which F16 loses bits
    base = toy.write(tmp_path / "small.gguf", small)
    quantize_file(base, tmp_path / "F16.gguf", "F16")
    quantize_file(tmp_path / "F16.gguf", tmp_path / "x.gguf", "Q4_K_M", imatrix=toy.imatrix)
    found = audit_file(tmp_path / "x.gguf", base, AuditOptions(toy.imatrix, threads=2))
    assert (words(found), found.through) == ({"same"}, "F16")


def test_another_imatrix_or_model_is_no_file_between(made: Path, toy: Any, tmp_path: Path) -> None:
    found = audit_file(toy.quantized("Q4_K_M"), toy.base, AuditOptions(threads=2))
    assert (found.word, found.through) == ("within rounding", None)
    other = type(toy)(tmp_path / "other", seed=5)
    found = audit_file(other.quantized("Q4_K_M"), toy.base, AuditOptions(other.imatrix, threads=2))
    assert (found.word, found.through) == ("changed", None)


def release(folder: Path, made: Path, card: str) -> Path:
    folder.mkdir()
    shutil.copy(made / "of-BF16-Q4_K_M.gguf", folder / "tiny-Q4_K_M.gguf")
    shutil.copy(IMATRIX, folder / "imatrix.dat")
    (folder / "README.md").write_text(card)
    return folder


def test_the_imatrix_beside_a_release_is_taken(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = release(tmp_path / "r", made, "# Tiny\n")
    assert call("audit", folder, "--base", TINY, "--json", tmp_path / "a.json") == 0
    out = capsys.readouterr().out
    assert "imatrix imatrix.dat, found beside the release\n" in out
    assert "tiny-Q4_K_M.gguf: same\n" in out
    stated = json.loads((tmp_path / "a.json").read_text())
    assert stated["imatrix"]["name"] == "imatrix.dat"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {part["name"] for part in stated["base"]}
    assert all(len(part["sha256"]) == 64 for part in stated["base"])
    shutil.copy(IMATRIX, folder / "other-imatrix.dat")  # the header of the file says which
    assert call("audit", folder, "--base", TINY) == 0
    assert "imatrix imatrix.dat, found beside the release\n" in capsys.readouterr().out
    (folder / "imatrix.dat").rename(folder / "another.imatrix")
    assert call("audit", folder, "--base", TINY) == 0
    out = capsys.readouterr().out
    assert "another.imatrix, other-imatrix.dat lie beside the release; give the one" in out
    assert "tiny-Q4_K_M.gguf: within rounding\n" in out


def test_what_a_header_says_of_its_imatrix_is_compared(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "another.dat"
    shutil.copy(IMATRIX, other)
    found = audit_file(made / "of-BF16-Q4_K_M.gguf", TINY, AuditOptions(other, threads=2))
    said = "quantize.imatrix.file is called 'imatrix.dat', the imatrix that is given 'another.dat'"
    assert (found.word, found.notes) == ("same", (said,))
    released = tmp_path / "tiny.imatrix"  # as a release calls what its build called imatrix.dat
    shutil.copy(IMATRIX, released)
    assert audit_file(made / "of-BF16-Q4_K_M.gguf", TINY, AuditOptions(released, threads=2)).notes == ()


def test_the_imatrix_of_another_model_is_not_taken(
    made: Path, toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = release(tmp_path / "r", made, "# Tiny\n")
    shutil.copy(toy.imatrix, folder / "imatrix.dat")
    assert call("audit", folder, "--base", TINY) == 0
    out = capsys.readouterr().out
    assert "imatrix.dat beside the release is of another model, and is not taken\n" in out
    assert "tiny-Q4_K_M.gguf: within rounding\n" in out


def test_a_card_that_names_no_base_ends_in_a_sentence(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9 if n else ['x'])}]\n" for n in range(30))
    for number, (card, said) in enumerate(
        {
            "# Tiny\n": "neither its card nor its metadata name one base; name it by --base",
            "---\nbase_model: ../../etc\n---\n": "neither its card nor its metadata",
            "---\nbase_model: [a/b, c/d]\n---\n": "neither its card nor its metadata",
            "---\nbase_model: a/b\nbase_model_relation: finetune\n---\n": "neither its card nor its metadata",
            "---\nbase_model: [\n---\n": "front matter is not valid YAML",
            f"---\n{bomb}---\n": "endless",
            f"---\n{'[' * 5000}\n---\n": "",
            "---\nbase_model: a/b\nx: " + "y" * 5_000_000 + "\n---\n": "at most 4000000 are read",
            "---\nbase_model: acme/tiny\n---\n": "only a part of a base elsewhere is read; give --sample 2%",
        }.items()
    ):
        assert call("audit", release(tmp_path / str(number), made, card)) == 2
        shown = capsys.readouterr()
        assert said in shown.err
        assert shown.err.count("\n") == 1


def test_a_folder_that_is_no_base_ends_in_a_sentence(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, broken, two = made / "of-BF16-Q4_K_M.gguf", tmp_path / "broken", tmp_path / "two"
    shutil.copytree(TINY, broken)
    (broken / "model.safetensors").write_bytes((TINY / "model.safetensors").read_bytes()[:1000])
    two.mkdir()
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(made / "BF16.gguf", two / name)
    for base, code, said in (
        (tmp_path / "none", 2, "there is no such file or folder"),
        (broken, 1, "it was cut short, damaged or never one"),
        (two, 2, "it holds 2 models (a.gguf, b.gguf); name one as base"),
    ):
        assert call("audit", path, "--base", base) == code
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    (two / "b.gguf").unlink()
    assert call("audit", path, "--base", two, "--imatrix", IMATRIX) == 0
