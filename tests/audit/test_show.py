"""`quantmill show`: what a file is, from its header alone, here and elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest

import gguf_files
from quantmill import gguf
from quantmill.admission.conformance import write
from quantmill.audit.mixes import recognize
from quantmill.cli import main
from quantmill.gguf import kv, model_facts, split
from quantmill.gguf.types import TYPES
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.spans import of_tag, offered

FTYPES = "Q8_0 Q6_K_L Q4_K_M Q4_K_L Q3_K_XL IQ4_XS IQ3_M IQ2_XXS IQ1_M"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("tiny", "deepseek2"):
        write(folder, name)
    return folder


def show(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What the command prints; it must succeed."""
    with pytest.raises(SystemExit) as ended:
        main(["show", *map(str, arguments)])
    shown = capsys.readouterr()
    assert ended.value.code == 0, shown.err
    return shown.out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one sentence that the command ends in."""
    with pytest.raises(SystemExit) as ended:
        main(["show", *map(str, arguments)])
    shown = capsys.readouterr()
    assert ended.value.code in (1, 2)
    assert not shown.out
    assert shown.err.count("\n") == 1
    return shown.err


def mix_of(path: Path) -> str:
    with gguf.read(path) as file:
        return str(recognize(model_facts(file.metadata.values()), file.tensor_entries()))


@pytest.mark.parametrize("tag", ["b5490", "b8305", "v0.5.0"])
@pytest.mark.parametrize(
    "ftype", ["Q8_0", "Q6_K_L", "Q4_K_M", "Q4_K_L", "Q3_K_XL", "IQ4_XS", "IQ3_M", "IQ2_XXS", "IQ1_M"]
)
def test_the_mix_is_found_from_the_tensors(models: Path, tmp_path: Path, tag: str, ftype: str) -> None:
    out, reference = tmp_path / "out.gguf", of_tag(tag)
    quantize_file(models / "tiny.gguf", out, ftype, imatrix=models / "tiny.imatrix", reference=reference)
    with gguf.read(out) as file:
        found = recognize(model_facts(file.metadata.values()), file.tensor_entries())
    assert found is not None
    assert (found.ftype, found.states, found.options) == (ftype, True, ())
    assert reference in found.spans


def test_spans_of_other_types_are_told_apart(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    for tag, said in (("b8192", "b4867 to b8192"), ("b8305", "b8305 to b11739, v0.4.0, v0.5.0")):
        quantize_file(models / "deepseek2.gguf", out, "Q4_K_M", reference=of_tag(tag))
        assert mix_of(out) == f"same types as Q4_K_M by {said}"


def test_overrides_are_named_and_a_name_that_lies_is_not_believed(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, lies = tmp_path / "out.gguf", tmp_path / "x-IQ1_S.gguf"
    options = {"output_tensor_type": "Q5_K", "tensor_types": [("blk.1.attn_v", "Q8_0")]}
    quantize_file(models / "tiny.gguf", out, "Q4_K_M", reference=offered()[-1], **options)  # type: ignore[arg-type]
    assert "Q4_K_M by" in mix_of(out)
    assert "--tensor-type blk.1.attn_v.weight=Q8_0" in mix_of(out)
    gguf_files.changed(out, lies, general__file_type=24)
    text = show(capsys, lies)
    assert "same types as Q4_K_M by" in text
    assert "general.file_type says IQ1_S" in text
    quantize_file(models / "tiny.gguf", out, "Q4_K_M", reference=offered()[-1], pure=True)
    assert mix_of(out).endswith("with --pure")


def test_what_is_of_no_known_mix_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("Q4_K", "Q6_K", "IQ2_XXS", "TQ2_0", "Q3_K")
    tensors = [gguf.TensorEntry(f"blk.{n}.ffn_up.weight", (256, 2), TYPES[name]) for n, name in enumerate(names)]
    kvs = [kv("general.architecture", "llama"), kv("llama.block_count", 5), kv("general.file_type", 15)]
    path = gguf_files.write(tmp_path / "odd.gguf", tensors, kvs)
    assert "  its types are those of no known mix\n  general.file_type says Q4_K_M\n" in show(capsys, path)
    bare = gguf_files.write(tmp_path / "bare.gguf", tensors, [kv("a", float("inf"))])
    assert json.loads(show(capsys, bare, "--json"))[0]["metadata"] == {"a": "inf"}


def test_shards_are_one_file_and_a_folder_is_its_models(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole.gguf"
    quantize_file(models / "tiny.gguf", whole, "Q4_K_M", imatrix=models / "tiny.imatrix", imatrix_name="some.dat")
    shards = split(whole, tmp_path / "parts", "p", max_tensors=20)
    [one], [cut] = (json.loads(show(capsys, path, "--json")) for path in (whole, shards[1]))
    for key in ("tensors", "types", "mix", "metadata", "bits_per_weight", "made_by"):
        assert one[key] == cut[key]
    assert one["made_by"]["quantize.imatrix.file"] == "some.dat"
    assert one["mix"] == {
        "ftype": "Q4_K_M", "tags": "b4867 to b11739, v0.4.0, v0.5.0", "imatrix": True, "pure": False, "others": {}
    }  # fmt: skip
    assert sum(row["share"] for row in one["types"]) == pytest.approx(1)
    assert [len(each["files"]) for each in json.loads(show(capsys, tmp_path, "--json"))] == [2, 1]
    shards[0].unlink()
    assert "is missing" in refused(capsys, shards[1])


def test_lines_fit_the_terminal(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = show(capsys, models / "tiny.gguf")
    assert max(map(len, text.splitlines())) <= 60
    assert "  blk.*.attn_k.weight  256x2  F16  layers 0-3" in text
    assert "  blk.3.attn_k.weight  256x2  F16" in show(capsys, models / "tiny.gguf", "--tensors")


def test_a_header_elsewhere_is_read_by_ranges(served: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = kv("tokenizer.ggml.tokens", [f"token {n:090}" for n in range(15_000)])  # more than is asked for at first
    tensors = [gguf.TensorEntry("token_embd.weight", (256, 40_000), TYPES["F32"])]
    path = gguf_files.write(tmp_path / "long.gguf", tensors, [kv("general.architecture", "x"), tokens], zeros=True)
    size = path.stat().st_size
    [found] = json.loads(show(capsys, f"{served.address}/long.gguf", "--json"))
    assert served.sent <= 6 << 20
    assert found["files"] == [{"name": f"{served.address}/long.gguf", "size": size}]
    assert found["metadata"]["tokenizer.ggml.tokens"]["count"] == 15_000
    served.ranges = False  # such a server sends all, of which no more than is needed is taken
    assert json.loads(show(capsys, f"{served.address}/long.gguf", "--json")) == [found]
    served.ranges, served.lies = True, -size // 2
    assert "bytes are missing" in refused(capsys, f"{served.address}/long.gguf")
    assert "HTTP 404" in refused(capsys, f"{served.address}/other.gguf")


def test_shards_elsewhere_are_one_file(
    served: Any, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split(models / "tiny.gguf", tmp_path, "p q", max_tensors=20)
    (tmp_path / "p%20q-00001-of-00002.gguf").write_bytes((tmp_path / "p q-00001-of-00002.gguf").read_bytes())
    (tmp_path / "p%20q-00002-of-00002.gguf").write_bytes((tmp_path / "p q-00002-of-00002.gguf").read_bytes())
    [found] = json.loads(show(capsys, f"{served.address}/p%20q-00002-of-00002.gguf", "--json"))
    [here] = json.loads(show(capsys, models / "tiny.gguf", "--json"))
    assert found["tensors"] == here["tensors"]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (gguf_files.raw(n_tensors=10**9), "the number of tensors claims 1000000000"),
        (gguf_files.raw(n_entries=2**63), "the number of keys claims"),
        (gguf_files.raw([gguf_files.entry(b"a", 8, b"\xff" * 8)]), "the length of the string of the key 'a' claims"),
        (gguf_files.raw([gguf_files.entry(b"a", 9, b"\x08\0\0\0" + b"\xff" * 8)]), "the array of the key 'a' claims"),
        (gguf_files.raw(tensors=[gguf_files.tensor(b"t", (2**62, 2**62))]), "more weights than 63 bits can count"),
        (gguf_files.raw(tensors=[gguf_files.tensor(b"\x1b[2J", (8,), 99)]), "has the unknown type 99"),
        (b"<html>" + bytes(100), "not a GGUF file"),
    ],
)
def test_a_hostile_header_ends_in_a_sentence(
    served: Any, raw: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.gguf").write_bytes(raw)
    assert said in refused(capsys, tmp_path / "x.gguf")
    assert said in refused(capsys, f"{served.address}/x.gguf")


def test_a_header_without_end_is_given_up(served: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_files.raw([gguf_files.entry(b"a", 8, (80 << 20).to_bytes(8, "little"))]))
    with open(path, "ab") as file:
        file.truncate(90 << 20)
    assert "does not end within the first 67108864 bytes" in refused(capsys, f"{served.address}/x.gguf")


def test_what_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no such file" in refused(capsys, tmp_path / "none.gguf")
    assert "there are no GGUF files of a model" in refused(capsys, tmp_path)
