"""`quantmill quantize`: the options of llama-quantize's later tags."""

from pathlib import Path

import pytest

from quantmill import gguf
from quantmill.admission.conformance import write
from quantmill.cli import main
from quantmill.gguf import ValueType
from quantmill.quant.pruning import prune
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.admissions import FILE, Admission
from quantmill.reference.admissions import write as write_admissions
from quantmill.reference.reference import Reference
from quantmill.reference.spans import newest_tag, of_tag

NEWEST = ("--llama-cpp", "v0.5.0")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    for name in ("tiny", "deepseek2", "t5"):
        write(folder, name)
    return folder


def quantize(*arguments: object) -> int:
    """The command's exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["quantize", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_without_a_tag_the_newest_is_followed(
    bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest that is offered, or that the project admitted, as `quantmill lock` writes it."""
    monkeypatch.chdir(tmp_path)
    base, guide = bases / "tiny.gguf", bases / "tiny.imatrix"

    def written(*options: str) -> bytes:
        assert quantize(base, "out.gguf", "Q4_K_M", "--imatrix", guide, *options) == 0
        return Path("out.gguf").read_bytes()

    def by(**options: Reference) -> bytes:
        quantize_file(base, "by.gguf", "Q4_K_M", imatrix=guide, **options)
        return Path("by.gguf").read_bytes()

    newest, old = by(reference=of_tag("b11739")), by(reference=of_tag("b5490"))
    assert newest == by() == written() == written("--llama-cpp", newest_tag()) != old
    write_admissions(tmp_path / FILE, [Admission("b12000", 4867, "", "", "", 1, 0)])
    assert written() == old
    for command in ("quantize", "imatrix"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert f"(the newest: {newest_tag()}, or" in " ".join(capsys.readouterr().out.split())


def test_layers_are_left_out_with_their_importance(bases: Path, tmp_path: Path) -> None:
    """As llama-quantize b11312: 173 files of 34 models were equal, with an imatrix and without."""
    base, whole, out = bases / "tiny.gguf", tmp_path / "whole.gguf", tmp_path / "out.gguf"
    guide = ("--imatrix", bases / "tiny.imatrix", "--tensor-type", "ffn_down=q6_k")
    assert quantize(base, whole, "Q4_K_S", *NEWEST, *guide, "--pure") == 0
    assert quantize(base, out, "Q4_K_S", *NEWEST, *guide, "--pure", "--prune-layers", "2,1") == 0
    with gguf.read(whole) as before, gguf.read(out) as after:
        assert list(after.metadata)[-1] == "qwen2.block_count"
        count = after.metadata["qwen2.block_count"]
        assert (count.value, count.type) == (2, ValueType.UINT32)
        assert after.metadata["quantize.imatrix.entries_count"] == before.metadata["quantize.imatrix.entries_count"]
        origin = {name: name.replace("blk.1.", "blk.3.") for name in after.tensors}
        assert len(after.tensors) == len(before.tensors) - 18
        for name, info in after.tensors.items():
            assert after.data(info).tobytes() == before.data(before.tensors[origin[name]]).tobytes()


def test_a_layer_that_is_not_there_is_told_and_passed_over(
    bases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As llama-quantize b11739 does: it writes how many layers are left, whether or not any went."""
    base, out, same = bases / "tiny.gguf", tmp_path / "out.gguf", tmp_path / "same.gguf"
    assert quantize(base, out, "Q8_0", *NEWEST, "--prune-layers", "4,1") == 0
    assert "tiny.gguf: it has no layer 4 to prune, as llama-quantize allows" in capsys.readouterr().err
    assert quantize(base, same, "Q8_0", *NEWEST, "--prune-layers", "1") == 0
    assert capsys.readouterr().err == ""
    assert out.read_bytes() == same.read_bytes()
    assert quantize(base, out, "Q8_0", *NEWEST, "--prune-layers", "99") == 0
    with gguf.read(out) as file:
        assert (list(file.metadata)[-1], file.metadata["qwen2.block_count"].value) == ("qwen2.block_count", 4)


def test_names_are_mapped_wherever_they_name_a_layer(bases: Path) -> None:
    with gguf.read(bases / "t5.gguf") as file:
        names = list(file.tensors)
    left = prune(of_tag("v0.5.0"), names, (0,))
    assert left.layers == 3
    assert left.names["enc.blk.1.attn_q.weight"] == "enc.blk.0.attn_q.weight"
    assert left.names["dec.blk.3.attn_q.weight"] == "dec.blk.2.attn_q.weight"
    assert left.values == sum("blk.0." in name and "attn_v.weight" in name for name in names)


def test_types_are_read_from_a_file_in_the_order_of_the_options(bases: Path, tmp_path: Path) -> None:
    types = tmp_path / "types"
    types.write_text("attn_q=q8_0\n  attn_k=q6_k blk.0.ffn_up=f16\n")
    base, by_file, by_option = bases / "tiny.gguf", tmp_path / "file.gguf", tmp_path / "option.gguf"
    assert quantize(base, by_file, "Q4_0", *NEWEST, "--tensor-type-file", types, "--tensor-type", "attn_=q5_1") == 0
    same = ("attn_q=q8_0", "attn_k=q6_k", "blk.0.ffn_up=f16", "attn_=q5_1")
    options = [part for pair in same for part in ("--tensor-type", pair)]
    assert quantize(base, by_option, "Q4_0", *NEWEST, *options) == 0
    assert by_file.read_bytes() == by_option.read_bytes()
    with gguf.read(by_file) as file:
        found = {
            part: file.tensors[f"blk.0.{part}.weight"].type.name for part in ("attn_q", "attn_k", "attn_v", "ffn_up")
        }
    assert found == {"attn_q": "Q8_0", "attn_k": "Q6_K", "attn_v": "Q5_1", "ffn_up": "F16"}


def test_a_dry_run_says_what_would_be_and_writes_nothing(
    bases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = bases / "tiny.gguf", tmp_path / "out.gguf"
    assert quantize(base, out, "IQ3_XXS", *NEWEST, "--dry-run", "--prune-layers", "0") == 0
    said = capsys.readouterr()
    assert not out.exists()
    assert "there is no importance vector for blk.0." in said.err
    guide = bases / "tiny.imatrix"
    assert quantize(base, out, "IQ3_XXS", *NEWEST, "--dry-run", "--prune-layers", "0", "--imatrix", guide) == 0
    told = capsys.readouterr()
    assert "importance" not in told.err
    assert quantize(base, out, "IQ3_XXS", *NEWEST, "--prune-layers", "0", "--imatrix", guide) == 0
    size, line = out.stat().st_size, told.out.splitlines()[-1]
    assert line.startswith(f"{out}: would have {size} bytes, ")
    assert capsys.readouterr().out.splitlines()[0] == line.replace("would have ", "")
    with gguf.read(base) as before, gguf.read(out) as after:
        name = "blk.0.attn_q.weight"
        old, new = before.tensors["blk.1.attn_q.weight"], after.tensors[name]
        assert f"{name}: {old.type.name} {old.nbytes} -> {new.type.name} {new.nbytes}\n" in told.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--llama-cpp", "b10603", "--prune-layers", "1"),
            "--prune-layers is not offered for llama.cpp b10236 to b10603; choose a tag from b10715 on",
        ),
        (
            ("--llama-cpp", "b8192", "--dry-run"),
            "--dry-run is not offered for llama.cpp b8121 to b8192; choose a tag from b8305 on",
        ),
        (
            ("--llama-cpp", "b5490", "--tensor-type-file", "no"),
            "--tensor-type-file is not offered for llama.cpp b4867 to b5490; choose a tag from b8305 on",
        ),
        (
            (*NEWEST, "--tensor-type-file", "no"),
            "no: cannot be read (No such file or directory); name a file of REGEX=TYPE",
        ),
        ((*NEWEST, "--prune-layers", "1,x"), "'1,x' are not layers; write their numbers like 3,4,7"),
        ((*NEWEST, "--prune-layers", "0,1,2,3"), "all 4 layers of the base are to be pruned; leave one of them"),
    ],
)
def test_what_cannot_be(
    bases: Path, tmp_path: Path, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quantize(bases / "tiny.gguf", tmp_path / "out.gguf", "Q8_0", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.gguf").exists()


def test_a_split_is_kept_without_the_layers(bases: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["split", "--split-max-tensors", "12", str(bases / "tiny.gguf"), str(tmp_path / "part")])
    assert not ended.value.code
    first = tmp_path / "part" / "tiny-00001-of-00004.gguf"
    report = quantize_file(
        first, tmp_path / "out", "Q8_0", reference=of_tag("v0.5.0"), keep_split=True, prune_layers=(1,)
    )
    whole = quantize_file(bases / "tiny.gguf", tmp_path / "w", "Q8_0", reference=of_tag("v0.5.0"), prune_layers=(1,))
    assert {tensor.name for tensor in report.tensors} == {tensor.name for tensor in whole.tensors}
    assert len(report.paths) > 1


@pytest.mark.parametrize(
    ("changes", "ftype", "code", "said"),
    [
        ({"general.architecture": "flux"}, "Q8_0", 2, "its metadata have no flux.block_count, which every"),
        ({"general.architecture": None}, "Q8_0", 2, "its metadata have no general.architecture, which"),
        ({"qwen2.block_count": 99}, "Q4_K_M --llama-cpp b6845", 1, "the file has 4 attention value tensors, but its"),
        ({"qwen2.block_count": 9999}, "Q8_0", 1, "the GGUF key qwen2.block_count is 9999; llama.cpp"),
        ({}, "Q8_0 --tensor-type attn_q=I32", 2, "blk.0.attn_q.weight is to become I32, which cannot"),
        ({}, "Q8_0 --tensor-type attn_q=IQ2_XS", 2, "blk.0.attn_q.weight is to become IQ2_XS, which needs"),
    ],
)
def test_a_refusal_names_the_file(
    bases: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str | int | None],
    ftype: str,
    code: int,
    said: str,
) -> None:
    model = edited(bases / "tiny.gguf", tmp_path / "model.gguf", changes)
    assert quantize(model, tmp_path / "out.gguf", *ftype.split()) == code
    message = capsys.readouterr().err
    assert message.startswith(f"quantmill: {model}: {said}")
    assert message.count("\n") == 1
    assert not (tmp_path / "out.gguf").exists()


def edited(base: Path, path: Path, changes: dict[str, str | int | None]) -> Path:
    """The model with other values of some keys, or without them."""
    with gguf.read(base) as file:
        kvs = {key: entry for key, entry in file.metadata.items() if key not in changes}
        kvs |= {key: gguf.kv(key, value) for key, value in changes.items() if value is not None}
        with gguf.Writer(path, kvs.values(), file.tensor_entries()) as writer:
            for info in file.tensors.values():
                writer.append(file.data(info))
    return path


def test_an_architecture_that_the_tag_does_not_know_is_told(
    bases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the tag that is named, not by all of its span; the file is written as ever."""
    count = {"lfm2.block_count": 4, "qwen3.block_count": 4}
    for name, tag, known in [
        ("lfm2", "b5490", False),
        ("lfm2", "b6122", True),
        ("qwen3", "b4980", False),
        ("qwen3", "b5490", True),
    ]:
        model = edited(bases / "tiny.gguf", tmp_path / f"{name}.gguf", {"general.architecture": name, **count})
        assert quantize(model, tmp_path / "out.gguf", "Q8_0", "--llama-cpp", tag) == 0
        said = f"quantmill: {model}: llama.cpp {tag} knows no architecture '{name}': it neither quantizes"
        assert capsys.readouterr().err.startswith(said) is not known, (name, tag)
    for name, beginning in (("lfm2", "llama.cpp b5490 knows no architecture"), ("qwen3", "")):
        model = tmp_path / f"{name}.gguf"
        report = quantize_file(model, tmp_path / "out.gguf", "Q8_0", reference=of_tag("b5490"))
        assert report.unknown.startswith(beginning)
        assert bool(report.unknown) == bool(beginning)
