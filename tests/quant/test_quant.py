"""Whole quantized files against llama-quantize's digests (peer_quant/record.py), and what the quantizer promises."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ggml_oracle
from peer_quant.record import calls
from peer_quant.synthetic import IMATRIX, MODELS, sha256, write_base, write_imatrix
from projects import GOLDEN
from quantmill import _kernels, gguf
from quantmill.artifact import Artifact, Context
from quantmill.cli import main
from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf.types import TYPES
from quantmill.imatrix import Entry, ImatrixError, encode
from quantmill.quant import quantizer
from quantmill.quant.file_plan import parse_override
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.ftypes import FTYPES
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.reference.spans import of_tag
from quantmill.steps import quant

RECORDED = json.loads((GOLDEN / "peer_quant" / "digests.json").read_text())


def options_of(text: str) -> dict[str, Any]:
    """llama-quantize's options as quantize_file's arguments."""
    found: dict[str, Any] = {}
    words = iter(text.split())
    for word in words:
        name = word.removeprefix("--").replace("-", "_")
        if name in ("pure", "leave_output_tensor", "allow_requantize", "keep_split"):
            found[name] = True
        elif name in ("output_tensor_type", "token_embedding_type"):
            found[name] = next(words)
        elif name == "tensor_type":
            found.setdefault("tensor_types", []).append(tuple(next(words).split("=")))
        elif name == "override_kv":
            found.setdefault(name, []).append(parse_override(next(words)))
        else:
            found.setdefault(name, []).append(next(words))
    return found


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """For each model its bases by type, with `imatrix.dat` beside them."""
    found = {}
    for name, model in MODELS.items():
        folder = tmp_path_factory.mktemp(name)
        for type_ in ("F32", "F16", "BF16"):
            write_base(folder / f"{type_}.gguf", model, type_)
        quantize_file(folder / "F16.gguf", folder / "Q8_0.gguf", "Q8_0", reference=B4867)
        shards = gguf.split(folder / "F16.gguf", folder, "split", max_tensors=7)
        write_imatrix(folder / IMATRIX, model)
        found[name] = {type_: folder / f"{type_}.gguf" for type_ in ("F32", "F16", "BF16", "Q8_0")}
        found[name]["split"] = shards[0]
    return found


def test_the_command_sums_up_what_took_another_type(
    bases: dict[str, dict[str, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = bases["narrow"]["F16"], tmp_path / "out.gguf"
    with pytest.raises(SystemExit) as ended:
        main(["quantize", str(base), str(out), "Q4_K_M"])
    assert ended.value.code == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{out}: {out.stat().st_size} bytes, ")
    fallbacks = quantize_file(base, tmp_path / "other.gguf", "Q4_K_M").fallbacks
    assert len(others) == len({(f.type, f.wanted) for f in fallbacks}) < len(fallbacks)
    count = sum(f.type.name == "Q5_0" and f.wanted.name == "Q4_K" for f in fallbacks)
    (line,) = (line for line in others if line.startswith("Q5_0 for Q4_K, "))
    assert line.endswith(f"{count - 1} more")


@pytest.mark.parametrize("call", [["Q4_K_M", "--threads", "2"], ["q4_k", "2"], ["15", "2"]])
def test_the_command_takes_an_ftype_as_llama_quantize_does(
    bases: dict[str, dict[str, Path]], tmp_path: Path, call: list[str]
) -> None:
    base, out = bases["narrow"]["F16"], tmp_path / "out.gguf"
    with pytest.raises(SystemExit) as ended:
        main(["quantize", str(base), str(out), *call])
    assert ended.value.code == 0
    quantize_file(base, tmp_path / "expected.gguf", "Q4_K_M")
    assert out.read_bytes() == (tmp_path / "expected.gguf").read_bytes()


def test_the_command_says_which_pattern_matches_nothing(
    bases: dict[str, dict[str, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = bases["narrow"]["F16"], tmp_path / "out.gguf"
    with pytest.raises(SystemExit) as ended:
        main(["quantize", str(base), str(out), "Q8_0", "--tensor-type", "attn_vv=F16", "--tensor-type", "FFN_UP=F16"])
    assert ended.value.code == 0
    assert capsys.readouterr().err == f"quantmill: --tensor-type 'attn_vv' matches no tensor of {base}\n"


@pytest.mark.parametrize(
    ("call", "why"),
    [(["Q8_0", "--pure", "--llama-cpp", "b5490"], "with --pure"), (["F32"], "on F32"), (["bf16"], "on BF16")],
)
def test_the_command_says_where_types_by_tensor_have_no_effect(
    bases: dict[str, dict[str, Path]], tmp_path: Path, call: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = bases["narrow"]["F16"], tmp_path / "out.gguf"
    with pytest.raises(SystemExit) as ended:
        main(["quantize", str(base), str(out), *call, "--tensor-type", "ffn_up=Q8_0"])
    assert ended.value.code == 0
    assert capsys.readouterr().err == f"quantmill: --tensor-type has no effect {why}, as in llama-quantize\n"


def test_nothing_is_said_where_they_have_one(
    bases: dict[str, dict[str, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = bases["narrow"]["F16"], tmp_path / "out.gguf"
    with pytest.raises(SystemExit) as ended:
        main(["quantize", str(base), str(out), "Q8_0", "--pure", "--tensor-type", "ffn_up=Q4_0"])
    assert ended.value.code == 0
    with gguf.read(out) as file:
        assert {info.type.name for name, info in file.tensors.items() if "ffn_up" in name} == {"Q4_0"}
    assert not capsys.readouterr().err


def test_what_is_read_is_not_written_over(bases: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    names = {name: shutil.copy(bases["narrow"][name], tmp_path) for name in ("F16", "split")}
    for path in sorted(bases["narrow"]["split"].parent.glob("split-*")):
        shutil.copy(path, tmp_path)
    link, guide = tmp_path / "link.gguf", shutil.copy(bases["narrow"]["F16"].with_name(IMATRIX), tmp_path)
    link.symlink_to(names["F16"])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    said = "the call reads this file, so it cannot be what it writes; name another output"
    for source, target, options, at in [
        (names["F16"], names["F16"], {}, names["F16"]),
        (names["F16"], link, {}, link),
        (names["F16"], guide, {"imatrix": guide}, guide),
        (names["split"], tmp_path / "split.gguf", {"keep_split": True}, names["split"]),
    ]:
        with pytest.raises(UsageError) as error:
            quantize_file(source, target, "Q4_K_M", **options)  # type: ignore[arg-type]
        assert str(error.value) == f"{at}: {said}"
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("model", MODELS)
def test_files_are_those_of_llama_quantize(
    bases: dict[str, dict[str, Path]], model: str, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer, "CHUNK_WEIGHTS", 2500 if threads > 1 else 1 << 19)
    assert len(calls()) == len(RECORDED[model])
    for type_, ftype, text, guided in calls():
        key = " ".join(filter(None, [type_, ftype, text, "+imatrix" if guided else ""]))
        base, options = bases[model][type_], options_of(text)
        imatrix = base.with_name(IMATRIX) if guided else None
        out = tmp_path / "out.gguf"
        try:
            report = quantize_file(
                base,
                out,
                ftype,
                imatrix=imatrix,
                imatrix_name=IMATRIX,
                reference=B4867,
                threads=threads,
                **options,
            )
            found: list[str] | str = [sha256(path) for path in report.paths]
            assert report.n_bytes == sum(path.stat().st_size for path in report.paths), key
        except QuantmillError:
            found = "fails"
            assert not list(tmp_path.iterdir()), key
        assert found == RECORDED[model][key], key
        for path in tmp_path.iterdir():
            path.unlink()


def test_the_report_says_what_became_of_each_tensor(bases: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    base = bases["dense"]["F16"]
    report = quantize_file(base, tmp_path / "out.gguf", "Q4_K_M", imatrix=base.with_name(IMATRIX))
    by_name = {tensor.name: tensor for tensor in report.tensors}
    assert list(by_name)[:4] == ["output.weight", "output_norm.weight", "token_embd.weight", "blk.0.attn_k.weight"]
    key = by_name["blk.0.attn_k.weight"]
    assert (key.source.name, key.type.name, key.bytes, key.importance) == ("F16", "Q4_K", 288, True)
    assert by_name["output_norm.weight"].type.name == "F32"
    assert report.fallbacks == ()


def test_progress_counts_the_bytes_of_the_base(bases: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    base = bases["dense"]["F16"]
    quantize_file(base, tmp_path / "out.gguf", "Q8_0", threads=2, progress=lambda *at: seen.append(at))
    with gguf.read(base) as file:
        total = sum(info.nbytes for info in file.tensors.values())
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_base_aligned_otherwise_stays_readable(tmp_path: Path) -> None:
    write_base(tmp_path / "base.gguf", MODELS["dense"], more={"general.alignment": 64})
    quantize_file(tmp_path / "base.gguf", tmp_path / "out.gguf", "Q8_0")
    with gguf.read(tmp_path / "out.gguf") as file:
        assert file.alignment == 64


def base_with(tmp_path: Path, values: "np.ndarray[Any, Any]", type_: str) -> Path:
    """A base of one matrix of two rows."""
    path = tmp_path / "base.gguf"
    kvs = [gguf.kv("general.architecture", "llama"), gguf.kv("llama.block_count", 1)]
    with gguf.Writer(path, kvs, [("x.weight", (values.size // 2, 2), TYPES[type_])]) as writer:
        writer.append(values.tobytes())
    return path


@pytest.mark.parametrize("ftype", ["IQ1_S", "IQ1_M"])
def test_groups_of_zeros_do_not_depend_on_chunks(ftype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generation 1 gives them what an earlier group of the same call had: ggml's calls, not ours, decide."""
    random = np.random.default_rng(1)
    weights = random.standard_normal((224, 512)).astype(np.float32)
    weights.reshape(-1, 16)[random.random(224 * 32) < 0.5] = 0
    weights[0, :256] = 1  # the first block has no such group, some first blocks of later calls have
    base, imatrix = tmp_path / "base.gguf", tmp_path / "imatrix.dat"
    name = "blk.0.ffn_up.weight"
    facts = {"general.architecture": "llama", "llama.block_count": 1, "llama.attention.head_count": 1}
    with gguf.Writer(base, [gguf.kv(k, v) for k, v in facts.items()], [(name, (512, 224), TYPES["F32"])]) as writer:
        writer.append(weights)
    imatrix.write_bytes(encode([Entry(name, 1, np.ones(512, np.float32))], b"", 1))
    expected = np.empty((224, TYPES[ftype].row_bytes(512)), np.uint8)
    for first in range(0, 224, 32):  # 16384 weights
        rows = weights[first : first + 32]
        _kernels.quantize(ftype, rows, expected[first : first + 32].reshape(-1), np.ones(512, np.float32), 1)
    at_once = np.empty_like(expected)
    _kernels.quantize(ftype, weights, at_once.reshape(-1), np.ones(512, np.float32), 1)
    assert at_once.tobytes() != expected.tobytes()
    for chunk in (1, 1 << 15, 1 << 20):
        monkeypatch.setattr(quantizer, "CHUNK_WEIGHTS", chunk)
        quantize_file(base, tmp_path / "out.gguf", ftype, imatrix=imatrix, reference=B4867, threads=2)
        with gguf.read(tmp_path / "out.gguf") as file:
            assert file.data(file.tensors[name]).tobytes() == expected.tobytes()


@pytest.mark.parametrize("ftype", ["Q8_0", "F16", "COPY"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_base_that_is_not_finite_is_refused(tmp_path: Path, ftype: str, bad: float) -> None:
    values = np.ones(128, np.float32)
    values[70] = bad
    base = base_with(tmp_path, values, "F32")
    with pytest.raises(QuantmillError) as error:
        quantize_file(base, tmp_path / "out.gguf", ftype)
    assert str(error.value) == f"{base}: x.weight is not finite at weight 70; the base is damaged, get it anew"
    assert [path.name for path in tmp_path.iterdir()] == ["base.gguf"]


def test_weights_beyond_the_type_are_refused(tmp_path: Path) -> None:
    base = base_with(tmp_path, np.full(128, 1e6, np.float32), "F32")
    with pytest.raises(QuantmillError) as error:
        quantize_file(base, tmp_path / "out.gguf", "F16")
    assert (
        str(error.value)
        == f"{base}: x.weight: some of its weights are too large for F16; choose a type of wider range for it"
    )


def test_requantizing_needs_to_be_allowed(bases: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        quantize_file(bases["dense"]["Q8_0"], tmp_path / "out.gguf", "Q4_0")
    assert "is Q8_0 in the base, and quantizing it again loses quality" in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize("stored", ["Q4_K", "IQ3_S", "Q5_1", "IQ4_XS"])
def test_requantizing_is_expanding_and_quantizing(tmp_path: Path, stored: str) -> None:
    """As ggml does both, compared with it; a tensor that is of the type already is copied."""
    values = np.random.default_rng(0).standard_normal((64, 512)).astype(np.float32)
    data = ggml_oracle.quantize(stored, values)
    kvs = [gguf.kv("general.architecture", "llama"), gguf.kv("llama.block_count", 1)]
    with gguf.Writer(tmp_path / "a.gguf", kvs, [("x.weight", (512, 64), TYPES[stored])]) as writer:
        writer.append(data)
    expanded = ggml_oracle.dequantize(stored, data, 64, 512)
    for ftype in ("Q6_K", "Q4_0", stored):
        out = tmp_path / "b.gguf"
        type_ = FTYPES[ftype].type
        quantize_file(tmp_path / "a.gguf", out, ftype, allow_requantize=True, reference=of_tag("b8390"), threads=2)
        expected = data if type_.name == stored else ggml_oracle.quantize(type_.name, expanded)
        with gguf.read(out) as file:
            info = file.tensors["x.weight"]
            assert (info.type, file.data(info).tobytes()) == (type_, expected.tobytes()), ftype


def test_an_imatrix_of_another_model_is_refused(bases: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    imatrix = tmp_path / "other.dat"
    imatrix.write_bytes(encode([Entry("blk.0.attn_k.weight", 1, np.ones(64, np.float32))], b"", 1))
    with pytest.raises(QuantmillError) as error:
        quantize_file(bases["dense"]["F16"], tmp_path / "out.gguf", "Q4_0", imatrix=imatrix)
    assert str(error.value) == (
        f"{imatrix}: the importance vector of blk.0.attn_k.weight has 64 values, the tensor needs 256; "
        "it is of another model, take an imatrix that was computed from this one"
    )
    assert error.value.exit_code == 2


def test_an_imatrix_that_is_none_is_refused(bases: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(b"no imatrix at all")
    with pytest.raises(ImatrixError, match="not an imatrix"):
        quantize_file(bases["dense"]["F16"], tmp_path / "out.gguf", "Q4_0", imatrix=tmp_path / "x.dat")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "'x' is not an override; write KEY=TYPE:VALUE"),
        ("x=int", "'x=int' is not an override"),
        ("x=uint:1", "'x=uint:1' is not an override"),
        ("x=int:one", "'x=int:one': 'one' is not a value of type int"),
        ("x=bool:yes", "a bool is true or false, not 'yes'"),
    ],
)
def test_an_override_that_means_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_override(text)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (("general.alignment", 64), "general.alignment cannot be overridden"),
        (("x", 2**31), "x cannot be overridden with 2147483648"),
        (("x", "é" * 64), "x cannot be overridden with a text of more than 127 bytes"),
        (("x" * 128, 1), "it must have 1 to 127 bytes"),
    ],
)
def test_an_override_that_cannot_be_stored_is_refused(
    bases: dict[str, dict[str, Path]], tmp_path: Path, setting: tuple[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        quantize_file(bases["dense"]["F16"], tmp_path / "out.gguf", "Q8_0", override_kv=[setting])


def test_shards_that_do_not_belong_together_are_refused(bases: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    shards = sorted(bases["dense"]["split"].parent.glob("split-*.gguf"))
    first, second, third, *_ = copied = [tmp_path / shard.name for shard in shards]
    count, release = len(shards), "it was renamed or belongs to another file, fetch all shards of one release"

    def refused(path: Path) -> str:
        with pytest.raises(QuantmillError) as caught:
            quantize_file(path, tmp_path / "out.gguf", "Q8_0")
        return str(caught.value)

    for old, new in zip(shards, copied, strict=True):
        new.write_bytes(old.read_bytes())
    assert refused(third) == f"{third}: this is shard 3 of {count}; give the first one, {first.name}"
    said, other = (gguf.kv("split.count", number, gguf.ValueType.UINT16).encode() for number in (count, count + 1))
    second.write_bytes(second.read_bytes().replace(said, other))
    assert refused(first) == f"{second}: split.count is {count + 1} and not {count}; {release}"
    second.write_bytes(third.read_bytes())
    assert refused(first) == f"{second}: split.no is 2 and not 1; {release}"
    second.unlink()
    assert refused(third) == (
        f"{tmp_path}: {second.name} of {count} shards is missing; fetch what is missing into the same directory"
    )
    first.rename(tmp_path / "first.gguf")
    assert refused(tmp_path / "first.gguf") == (
        f"{tmp_path / 'first.gguf'}: this is shard 1 of {count} under another name, the others are missing; "
        f"fetch them and name each like model-00001-of-{count:05d}.gguf"
    )


def test_the_step_writes_what_quantize_file_writes(bases: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    base = bases["dense"]["F16"]
    inputs = {"model.gguf": Artifact(base, "", 0), "imatrix.dat": Artifact(base.with_name(IMATRIX), "", 0)}
    params = {"ftype": "Q4_K_L", "generation": 1, "imatrix_name": "x.dat", "tensor_types": [["attn_v", "Q8_0"]]}
    assert quant.run(inputs, params, tmp_path, Context(threads=2)) is None
    quantize_file(
        base,
        tmp_path / "other.gguf",
        "Q4_K_L",
        imatrix=base.with_name(IMATRIX),
        imatrix_name="x.dat",
        reference=B4867,
        tensor_types=[("attn_v", "q8_0")],
    )
    assert (tmp_path / "model.gguf").read_bytes() == (tmp_path / "other.gguf").read_bytes()


def test_the_step_refuses_a_param_that_it_does_not_have(bases: dict[str, dict[str, Path]], tmp_path: Path) -> None:
    inputs = {"model.gguf": Artifact(bases["dense"]["F16"], "", 0)}
    with pytest.raises(UsageError) as caught:
        quant.run(inputs, {"ftype": "Q8_0", "tensor_type": []}, tmp_path, Context())
    assert str(caught.value) == (
        "quant has no parameter 'tensor_type' (did you mean tensor_types?); it has ftype, generation, imatrix_name, "
        "output_tensor_type, token_embedding_type, tensor_types, pure, zero_as_one, allow_requantize"
    )
