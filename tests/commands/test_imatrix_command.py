"""`quantmill imatrix`: measuring, merging, both forms, statistics, and one sentence for what cannot be done."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import forward_models as models
from quantmill import gguf
from quantmill.cli import main
from quantmill.gguf import ValueType, kv
from quantmill.imatrix import Entry, encode, entries, load, read
from tokenizer_cases import CALIBRATION, TINY, P, tiny, write

PEERS = TINY / "imatrix.dat"
OLD = ("--llama-cpp", "b5490")
PEER_IMATRIX = Path(__file__).resolve().parents[1] / "golden" / "peer_imatrix"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("model"))


def imatrix(*arguments: object) -> int:
    """The command's exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["imatrix", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("command", ["imatrix", "perplexity"])
def test_a_memory_that_is_no_size(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "m.gguf", "-f", "text", "--memory", "much"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"quantmill {command}: error: argument --memory: 'much' is not a size; write it like 50GB or 300MB"
    )


def test_a_text_is_measured(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first chunks of the calibration text: what llama-imatrix stores of all of them, in the same order."""
    target = tmp_path / "i.dat"
    common = (model, "-f", CALIBRATION, "-o", target, "--chunks", 2, *OLD)
    assert imatrix(*common, "--threads", 1, "--memory", "1GB") == 0
    found, dataset, chunks = entries(target)
    assert (dataset.decode(), chunks) == (str(CALIBRATION), 2)
    assert [(entry.name, entry.calls) for entry in found] == [(entry.name, 2) for entry in entries(PEERS)[0]]
    said = capsys.readouterr()
    assert said.out.startswith(
        f"{target}: 28 tensors over 2 chunks of 512 tokens, f32\nperplexity of the text 45.90"
    )  # as llama-imatrix
    assert "smallest share of columns reached: blk." in said.out
    assert said.err == "imatrix tiny-f16.gguf: 2 chunks, 1024 tokens\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.dat"]
    before = target.read_bytes()
    assert imatrix(*common, "--no-ppl") == 0
    assert target.read_bytes() == before
    assert "perplexity" not in capsys.readouterr().out


def test_a_folder_and_its_bf16_file_are_measured_alike(tmp_path: Path) -> None:
    from quantmill.artifact import Context
    from quantmill.checkpoint.conversion import convert

    files = {path.name: path for path in TINY.iterdir() if path.suffix in (".json", ".safetensors")}
    convert(files, tmp_path / "m.gguf", "BF16", "Tiny", None, Context())
    for place in (TINY, tmp_path / "m.gguf"):
        assert imatrix(place, "-f", CALIBRATION, "-o", tmp_path / "i.dat", "--chunks", 2, "--n-ctx", 64) == 0
        digest = hashlib.sha256((tmp_path / "i.dat").read_bytes()).hexdigest()
        if place == TINY:
            first = digest
    assert digest == first


def test_what_an_earlier_run_measured_counts_by_its_chunks(model: Path, tmp_path: Path) -> None:
    whole, first, both = (tmp_path / f"{name}.gguf" for name in ("whole", "first", "both"))
    common = ("-f", CALIBRATION, "--n-ctx", 128)
    assert imatrix(model, *common, "-o", whole, "--chunks", 6) == 0
    assert imatrix(model, *common, "-o", first, "--chunks", 2) == 0
    assert imatrix(model, *common, "-o", both, "--from-chunk", 2, "--chunks", 4, "--in-file", first) == 0
    expected, found = load(whole, 128), load(both, 128)
    assert (found.chunks, found.chunk_size) == (expected.chunks, expected.chunk_size) == (6, 128)
    assert found.datasets == (str(CALIBRATION).encode(),) * 2
    for name, sum_ in expected.tensors.items():
        assert found.tensors[name].counts.tolist() == sum_.counts.tolist()
        assert np.allclose(found.tensors[name].squares, sum_.squares, rtol=1e-5)
    legacy = tmp_path / "first.dat"
    assert imatrix(model, *common, "-o", legacy, "--chunks", 2) == 0
    assert imatrix(model, *common, "-o", both, "--from-chunk", 2, "--chunks", 4, "--in-file", legacy) == 0
    for name, vector in read(whole).vectors.items():
        assert np.allclose(read(both).vectors[name], vector, rtol=1e-5)


def test_with_a_text_an_earlier_file_counts_as_llama_imatrix_counts_it(model: Path, tmp_path: Path) -> None:
    """b5490 takes each earlier chunk for one token. The sums over a tensor's columns are those of llama-imatrix of
    llama-cpp-python 0.3.9's sources: -f calibration.txt --in-file imatrix.dat --chunks 3 -c 128."""
    target = tmp_path / "i.dat"
    common = ("-f", CALIBRATION, "--chunks", 3, "--n-ctx", 128, *OLD)
    assert imatrix(model, *common, "--in-file", PEERS, "-o", target) == 0
    found, dataset, chunks = entries(target)
    assert (dataset.decode(), chunks) == (str(CALIBRATION), 106 + 3)
    assert {entry.calls for entry in found} == {106 + 3}
    expected = {
        "blk.1.attn_output.weight": 17662.08141899109,
        "blk.1.ffn_up.weight": 1152.7258020043373,
        "blk.0.ffn_down.weight": 477386.91152892646,
        "blk.0.attn_q.weight": 290.74064731318504,
        "blk.2.attn_k.weight": 21121.346824645996,
    }
    sums = {entry.name: float(entry.values.astype(float).sum()) for entry in found}
    assert {name: sums[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert next(iter(sums)) == next(iter(expected))


def test_the_number_of_chunks_is_that_of_tensors_measured_now(model: Path, tmp_path: Path) -> None:
    """As llama-imatrix of b5490: what an earlier file has of a tensor that no pass measures does not count."""
    earlier, target = tmp_path / "e.dat", tmp_path / "i.dat"
    earlier.write_bytes(encode([Entry("output.weight", 500, np.ones(64, np.float32))], b"x", 500))
    common = ("-f", CALIBRATION, "--chunks", 2, "--n-ctx", 128, *OLD)
    assert imatrix(model, *common, "--in-file", earlier, "-o", target) == 0
    found, _, chunks = entries(target)
    assert chunks == 2
    assert {entry.name: entry.calls for entry in found}["output.weight"] == 500


def test_files_are_merged_as_llama_imatrix_merges_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "merged.dat"
    assert imatrix("--in-file", PEERS, "--in-file", PEERS, "-o", target, *OLD) == 0
    # By llama-imatrix of llama-cpp-python 0.3.9's sources.
    expected = "79ac3afd77e2f21dfefb31bbd38a5d68d71e9bb9bebe53f19a1a26af5e03e4c3"
    assert hashlib.sha256(target.read_bytes()).hexdigest() == expected
    assert capsys.readouterr().out == f"{target}: 28 tensors of 2 files\n"


def test_a_file_changes_its_form(tmp_path: Path) -> None:
    assert imatrix("--in-file", PEERS, "-o", tmp_path / "i.gguf") == 0
    assert imatrix("--in-file", PEERS, "-o", tmp_path / "j", "--output-format", "gguf") == 0
    assert (tmp_path / "i.gguf").read_bytes() == (tmp_path / "j").read_bytes()
    found, expected = read(tmp_path / "i.gguf"), read(PEERS)
    assert (found.dataset, found.chunks) == (expected.dataset, expected.chunks)
    assert all(np.allclose(found.vectors[name], vector) for name, vector in expected.vectors.items())


def test_the_form_is_the_tag_s(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    newest = ("--llama-cpp", "v0.5.0", "--chunks", 2, "--n-ctx", 128)
    assert imatrix(model, "-f", CALIBRATION, *newest) == 0
    assert capsys.readouterr().out.startswith("imatrix.gguf: 28 tensors over 2 chunks")
    by_tag = Path("imatrix.gguf").read_bytes()
    assert imatrix(model, "-f", CALIBRATION, *newest[2:]) == 0
    assert Path("imatrix.gguf").read_bytes() == by_tag  # without a tag, the newest
    assert imatrix(model, "-f", CALIBRATION, *newest, "--output-format", "dat") == 0
    found, dataset, chunks = entries("imatrix.dat")
    assert [entry.name for entry in found] == sorted(entry.name for entry in found)
    assert ({entry.calls for entry in found}, chunks, dataset.decode()) == ({2}, 2, str(CALIBRATION))
    stored = read("imatrix.gguf")
    assert {e.name: (e.values / np.float32(2)).tolist() for e in found} == {
        name: vector.tolist() for name, vector in stored.vectors.items()
    }
    # Merged: the later tools count an earlier file's calls as chunks, and keep the last text's name.
    assert imatrix("--in-file", "imatrix.dat", "--in-file", "imatrix.dat", *newest, "-o", "twice.dat") == 0
    twice, dataset, chunks = entries("twice.dat")
    assert ({entry.calls for entry in twice}, chunks, dataset.decode()) == ({4}, 4, str(CALIBRATION))


def test_special_tokens_are_parsed_where_the_tag_is_known_to(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, target = tmp_path / "text", tmp_path / "i.gguf"
    text.write_text("<|endoftext|>word " * 64)
    common = (model, "-f", text, "-o", target, "--n-ctx", 32, "--llama-cpp")
    found = []
    for extra in ((), ("--parse-special",)):
        assert imatrix(*common, "b11739", *extra, "--json") == 0
        found.append(json.loads(capsys.readouterr().out)["chunks"])
    assert found[0] > found[1]
    assert imatrix(*common, "b5490", "--parse-special") == 2
    assert "llama-imatrix of b4867 to b5490 is not known to have --parse-special" in capsys.readouterr().err


def test_statistics(capsys: pytest.CaptureFixture[str]) -> None:
    assert imatrix("--in-file", PEERS, "--show-statistics", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["statistics"]) == 28
    assert [row["layer"] for row in found["layers"]] == [0, 1, 2, 3]
    assert imatrix("--in-file", PEERS, "--show-statistics") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["layer", "tensor", "sum", "min"]
    row = found["statistics"][0]
    assert lines[1].split()[:3] == [str(row["layer"]), row["tensor"], f"{row['total']:.4f}"]
    assert len(lines) == 1 + 28 + 1 + 1 + 4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "there is nothing to do; give a model and a text (MODEL -f TEXT), or files to merge (--in-file)"),
        (["--show-statistics"], 2, "--show-statistics looks into one file, found 0; give it by --in-file"),
        (["-f", "TEXT"], 2, "no model is named; give the path of a GGUF file or a model's folder"),
        (["none.gguf", "-f", "TEXT"], 2, "none.gguf: there is no such file; give the path of a GGUF file or a model's"),
        (
            ["MODEL", "-f", "none"],
            2,
            "none: cannot be read (No such file or directory); give the path of a text",
        ),
        (["MODEL", "-f", "EMPTY"], 2, "EMPTY: the text is empty; give one of at least two chunks"),
        (["MODEL", "-f", "BYTES"], 2, "BYTES: not UTF-8: byte 2 begins no character; save the text as UTF-8"),
        (["MODEL", "-f", "SHORT"], 2, "SHORT: its 2 tokens are too few; at least 1024 are needed, two chunks of 512"),
        (["MODEL", "-f", "TEXT", "--n-ctx", "5"], 2, "chunks of 5 tokens end in a batch of fewer than 16"),
        (["MODEL", "-f", "TEXT", "--from-chunk", "999"], 2, "TEXT: 54643 tokens are too few to begin at chunk 999"),
        (["MODEL", "-f", "TEXT", "-o", "no/i.dat"], 2, "no: there is no such folder; make it, or give another path"),
        (
            ["MODEL", "-f", "TEXT", "-o", "TEXT"],
            2,
            "TEXT: the call reads this file, so it cannot be what it writes; name",
        ),
        (["MODEL", "-f", "TEXT", "-o", "MODEL"], 2, "MODEL: the call reads this file, so it cannot be what it writes"),
        (["MODEL", "-f", "TEXT", "--in-file", "SHORT"], 1, "SHORT: ends inside"),
        (["OTHER", "-f", "TEXT"], 1, "OTHER: its tokenizer has 2047 tokens and its embedding 2048 rows"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, data in {"EMPTY": b"\n", "BYTES": b"ab\xc3(", "SHORT": b"abc", "TEXT": CALIBRATION.read_bytes()}.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "MODEL").symlink_to(model)
    if "OTHER" in arguments:
        from quantmill import gguf

        with gguf.read(model) as file:
            tokens, types = (file.metadata[P + key].value[:-1] for key in ("tokens", "token_type"))
        changed = {
            P + "tokens": kv(P + "tokens", tokens),
            P + "token_type": kv(P + "token_type", types, subtype=ValueType.INT32),
        }
        (tmp_path / "tiny-f16.gguf").symlink_to(model)
        write(tmp_path / "OTHER", {**changed, P + "eos_token_id": None}, weights=True)
    assert imatrix(*arguments) == code
    said = capsys.readouterr().err
    assert said.startswith(f"quantmill: {message}")
    assert said.count("\n") == 1
    assert not (tmp_path / "imatrix.dat").exists()
    assert not (tmp_path / "imatrix.dat.work").exists()


@pytest.mark.parametrize("form", ["gguf", "dat"])
def test_a_mixture_s_file_is_the_newest_llama_imatrix_s(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Header, keys, entries and counts are equal; values differ since it rounds attention's keys to float16."""
    monkeypatch.chdir(tmp_path)
    models.write_mixture(tmp_path / "moe.gguf")
    (tmp_path / "text.txt").write_text(models.text(400))
    out, expected = tmp_path / f"i.{form}", PEER_IMATRIX / f"moe.{form}"
    newest = ("--llama-cpp", "b11312", "--chunks", 3, "--n-ctx", 128)
    assert imatrix("moe.gguf", "-f", "text.txt", *newest, "-o", out) == 0
    if form == "dat":
        (found, *rest), (theirs, *other) = entries(out), entries(expected)
        assert rest == other
        assert [(entry.name, entry.calls) for entry in found] == [(entry.name, entry.calls) for entry in theirs]
        assert all(np.allclose(a.values, b.values, rtol=0.01) for a, b in zip(found, theirs, strict=True))
        return
    with gguf.read(out) as mine, gguf.read(expected) as peer:
        assert mine.data_offset == peer.data_offset
    assert out.read_bytes()[: mine.data_offset] == expected.read_bytes()[: mine.data_offset]
    for name, sum_ in load(expected, 1).tensors.items():
        own = load(out, 1).tensors[name]
        assert own.counts.tolist() == sum_.counts.tolist()
        assert np.allclose(own.squares, sum_.squares, rtol=0.01)


@pytest.mark.parametrize(
    ("form", "digest"),
    [
        ("gguf", "b61a6bfb0116a1942d9391a9442d164c065e9e0f427e92270b9c3fe126137ab9"),
        ("dat", "43006e10e5791754816ca3e1dc5fb4d2f174516dc3ae6c64bcd0acdbdbab6cad"),
    ],
)
def test_files_are_merged_as_the_newest_llama_imatrix_merges_them(form: str, digest: str, tmp_path: Path) -> None:
    """sha256 of what b11312's writes: --in-file moe.gguf --in-file moe.dat -c 128 --output-format FORM."""
    both = [part for form_ in ("gguf", "dat") for part in ("--in-file", PEER_IMATRIX / f"moe.{form_}")]
    target = tmp_path / "merged"
    assert imatrix(*both, "--n-ctx", 128, "--llama-cpp", "v0.5.0", "--output-format", form, "-o", target) == 0
    assert hashlib.sha256(target.read_bytes()).hexdigest() == digest
