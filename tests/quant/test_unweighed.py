"""Importance of zero: what it does to each type, who says so and when, and the remedy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forward_models as models
from quantmill import _kernels, gguf
from quantmill.artifact import Artifact, Context
from quantmill.cli import main
from quantmill.errors import QuantmillError
from quantmill.gguf.scales import first_broken
from quantmill.gguf.types import TYPES
from quantmill.imatrix import Entry, encode
from quantmill.quality.errors import QualityError
from quantmill.quality.tensor_errors import spoiled
from quantmill.quant.quantizer import quantize_file
from quantmill.quant.refused import NotFinite
from quantmill.quant.unweighed import as_one, unweighed
from quantmill.reference.arithmetic import QuantArithmetic
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.reference.spans import of_tag
from quantmill.steps import part, preflight, verify

COLUMNS, ROWS = 512, 64
WEIGHTS = (np.random.default_rng(0).standard_normal((ROWS, COLUMNS)) * 0.05).astype(np.float32)
IMPORTANCE = (np.random.default_rng(1).random(COLUMNS) + 0.1).astype(np.float32)
GROUPS = {  # columns that are searched together
    **dict.fromkeys(["Q4_0", "Q5_0", "IQ4_XS", "IQ4_NL", "IQ1_S", "IQ2_XXS", "IQ3_XXS"], 32),
    **dict.fromkeys(["Q3_K", "Q6_K", "IQ1_M", "IQ2_XS", "IQ2_S"], 16),
    **dict.fromkeys(["Q2_K", "Q4_K", "Q5_K"], 256),
}
TINY = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")
SEARCHED = [t for t in _kernels.quantize_types() if t not in ("F32", "F16", "BF16", "MXFP4")]


def error(
    type_: str, importance: "np.ndarray[Any, Any]", columns: int, arithmetic: QuantArithmetic = QuantArithmetic.B4234
) -> float:
    """Of the first columns, as a share of them; infinite where no number was written."""
    out = np.empty(ROWS * TYPES[type_].row_bytes(COLUMNS), np.uint8)
    _kernels.quantize(type_, WEIGHTS, out, importance, arithmetic)
    if first_broken(TYPES[type_], out) is not None:
        return float("inf")
    back = np.empty_like(WEIGHTS)
    _kernels.dequantize(type_, out, back)
    lost = np.square(back - WEIGHTS)[:, :columns].sum() / np.square(WEIGHTS)[:, :columns].sum()
    return float(np.sqrt(lost))


@pytest.mark.parametrize("arithmetic", QuantArithmetic)
@pytest.mark.parametrize("type_", SEARCHED)
def test_the_table_says_what_the_kernels_do(type_: str, arithmetic: QuantArithmetic) -> None:
    columns, shape = GROUPS.get(type_, 32), WEIGHTS.shape[::-1]
    usual = error(type_, IMPORTANCE, columns, arithmetic)
    zero = IMPORTANCE.copy()
    zero[:columns] = 0
    found = unweighed("x", shape, TYPES[type_], zero.reshape(1, -1), arithmetic)
    assert found is not None
    assert found.weights == columns * ROWS
    lost = error(type_, zero, columns, arithmetic)
    match found.outcome:
        case "zeros":
            assert lost == 1
        case "nothing":
            assert lost == float("inf")
        case "chance" | "lost":
            assert lost > 1.5 * usual
            assert (found.outcome == "lost") == (arithmetic >= QuantArithmetic.B8229)
        case "":
            assert lost < 1.3 * usual + 0.01
    mended = as_one(TYPES[type_], zero.reshape(1, -1)).reshape(-1)
    assert error(type_, mended, columns, arithmetic) < 1.3 * usual + 0.01
    partly = IMPORTANCE.copy()
    partly[: columns // 2] = 0
    assert unweighed("x", shape, TYPES[type_], partly.reshape(1, -1), arithmetic) is None
    small = zero + np.float32(1e-19)
    told = unweighed("x", shape, TYPES[type_], small.reshape(1, -1), arithmetic)
    assert (told is not None) == (type_ in TINY)


def test_nothing_changes_where_all_is_weighed() -> None:
    importance = IMPORTANCE.reshape(1, -1)
    assert as_one(TYPES["Q6_K"], importance) is importance


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A mixture, an imatrix with zeros for expert 3 of one stack, and one with zeros for a block of columns."""
    folder = tmp_path_factory.mktemp("mixture")
    base = models.write_mixture(folder / "base.gguf")
    full: dict[str, np.ndarray[Any, Any]] = {}
    with gguf.read(base) as file:
        for name, info in file.tensors.items():
            if len(info.shape) > 1 and name.startswith("blk.") and "gate_inp" not in name:
                count = info.shape[0] * (info.shape[2] if len(info.shape) > 2 else 1)
                full[name] = (np.random.default_rng(3).random(count) + 0.1).astype(np.float32)
    found = {"base": base}
    dead = full[models.STACKS[0]].copy()
    dead.reshape(8, -1)[3] = 0
    part_ = full["blk.0.attn_q.weight"].copy()
    part_[:32] = 0
    for name, change in {
        "full": {},
        "expert": {models.STACKS[0]: dead},
        "part": {"blk.0.attn_q.weight": part_},
        "foreign": {f"other.{n}": np.ones(8, np.float32) for n in range(len(full))},
    }.items():
        found[name] = folder / f"{name}.dat"
        found[name].write_bytes(encode([Entry(n, 1, v) for n, v in (full | change).items()], b"text", 1))
    found["other"] = folder / "other.dat"
    found["other"].write_bytes(encode([Entry("transformer.h.0.w", 1, np.ones(8, np.float32))], b"text", 1))
    return found


def run_preflight(files: dict[str, Path], imatrix: str, out: Path, ftypes: list[str], **more: Any) -> list[str]:
    inputs = {"model.gguf": Artifact(files["base"], "", 0), "imatrix.dat": Artifact(files[imatrix], "", 0)}
    asked = {name: {"ftype": name, "imatrix_name": "i.dat", **more.pop("quant", {})} for name in ftypes}
    preflight.run(inputs, {"type": "F32", "ftypes": asked, **more}, out, Context())  # type: ignore[typeddict-item]
    found: list[str] = json.loads((out / "preflight.json").read_text())["findings"]
    return found


WORDS = "of blk.0.ffn_down_exps.weight (3.44 % of the weights) have an importance of zero"
MEND = "; write zero_as_one = true in [imatrix], or take an imatrix of more text"


@pytest.mark.parametrize(
    ("ftype", "outcome"),
    [
        ("Q6_K", "and become zeros"),
        ("IQ4_XS", "and become zeros"),
        ("IQ1_M", "or below 1e-18, where llama-quantize stops or writes what depends on its threads"),
    ],
)
def test_preflight_names_tensor_expert_and_share(
    files: dict[str, Path], tmp_path: Path, ftype: str, outcome: str
) -> None:
    (said,) = run_preflight(files, "expert", tmp_path, [ftype])
    assert said == f"{ftype}: expert 3 {WORDS} {outcome}{MEND}"
    with pytest.raises(QuantmillError) as failed:
        run_preflight(files, "expert", tmp_path, [ftype], strict=True)
    assert str(failed.value) == said
    quant = {"zero_as_one": True}
    assert run_preflight(files, "expert", tmp_path, [ftype], strict=True, quant=quant) == []
    assert run_preflight(files, "full", tmp_path, [ftype], strict=True) == []


def test_what_cannot_be_written_fails_first_and_by_its_own_name(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(QuantmillError) as failed:
        run_preflight(files, "expert", tmp_path, ["Q4_K_S"])
    assert str(failed.value) == f"Q4_K_S: expert 3 {WORDS}, of which no scale can be made{MEND}"
    with pytest.raises(NotFinite) as broken:
        quantize_file(files["base"], tmp_path / "q.gguf", "Q4_K_S", imatrix=files["expert"], reference=B4867)
    assert str(broken.value) == (
        f"{files['base']}: blk.0.ffn_down_exps.weight: expert 3's importance is zero over whole blocks of Q4_K, whose "
        "scales are then no numbers and which llama-quantize refuses too; weigh such columns alike (zero_as_one = "
        "true in [imatrix]) or choose another type for it"
    )
    quantize_file(files["base"], tmp_path / "q.gguf", "Q4_K_S", imatrix=files["expert"], zero_as_one=True)


@pytest.mark.parametrize(
    ("ftype", "outcome"),
    [
        ("Q4_K_S", "and become zeros"),
        ("IQ4_NL", "and become zeros"),
        ("IQ1_M", "or below 1e-18 and become values far from them"),
    ],
)
def test_what_a_later_tag_writes_is_no_failure(
    files: dict[str, Path], tmp_path: Path, ftype: str, outcome: str
) -> None:
    newest = of_tag("v0.5.0")
    (said,) = run_preflight(files, "expert", tmp_path, [ftype], generation=newest.generation)
    assert said == f"{ftype}: expert 3 {WORDS} {outcome}{MEND}"
    out = tmp_path / "q.gguf"
    report = quantize_file(files["base"], out, ftype, imatrix=files["expert"], reference=newest)
    (found,) = [tensor.unweighed for tensor in report.tensors if tensor.unweighed and tensor.unweighed.outcome]
    assert found.experts == (3,)


def test_a_type_that_takes_no_harm_says_so(files: dict[str, Path], tmp_path: Path) -> None:
    said = "the calibration never reached expert 3 of blk.0.ffn_down_exps.weight; their columns weigh alike"
    assert run_preflight(files, "expert", tmp_path, ["Q8_0"]) == [f"{said}, which does these types no harm"]


def test_the_command_names_them_too(files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(imatrix: str, *options: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["quantize", str(files["base"]), str(tmp_path / "q.gguf"), "--imatrix", str(files[imatrix]), *options])
        assert ended.value.code == code
        return capsys.readouterr().err

    said = f"quantmill: {files['expert']}: expert 3 {WORDS} and become zeros; "
    assert call("expert", "Q6_K") == f"{said}give --zero-as-one, or an imatrix of more text\n"
    assert call("full", "Q6_K") == call("expert", "Q6_K", "--zero-as-one") == call("expert", "Q8_0") == ""
    assert call("part", "Q6_K").startswith(f"quantmill: {files['part']}: a part of blk.0.attn_q.weight (0.")
    assert call("foreign", "Q6_K").startswith(f"quantmill: {files['foreign']}: no tensor of the model for other.0, ")
    assert call("other", "Q6_K", code=2) == (
        f"quantmill: {files['other']}: none of its 1 entries (transformer.h.0.w) is of a tensor of this model; "
        "take an imatrix that was computed from it\n"
    )


def test_an_imatrix_of_another_model_is_told_by_its_names(files: dict[str, Path], tmp_path: Path) -> None:
    (said,) = run_preflight(files, "foreign", tmp_path, ["Q6_K"])
    count = 7
    assert said == (
        f"{count} of the imatrix's {2 * count} entries are of tensors that this model does not have "
        f"(other.0, other.1 and {count - 2} more); take one that was computed from this model"
    )
    with pytest.raises(QuantmillError, match=r"none of the imatrix's 1 entries is of a tensor of this model \(transf"):
        run_preflight(files, "other", tmp_path, ["Q6_K"])


@pytest.mark.parametrize("ftype", ["Q6_K", "IQ1_M"])
def test_verify_tells_what_lost_all(files: dict[str, Path], tmp_path: Path, ftype: str) -> None:
    def check(imatrix: str, **params: Any) -> dict[str, Any]:
        made = tmp_path / "x.gguf"
        as_one = params.get("zero_as_one", False)
        quantize_file(files["base"], made, ftype, imatrix=files[imatrix], zero_as_one=as_one)
        inputs = {
            "files/x.gguf": Artifact(made, gguf.verify(made).files[0].sha256, 0),
            "base.gguf": Artifact(files["base"], "", 0),
        }
        asked = {"ftype": ftype, "imatrix_name": "i", "spoiled": True, **params}
        verify.run(inputs, asked, tmp_path, Context())  # type: ignore[arg-type]
        found: dict[str, Any] = json.loads((tmp_path / "verify.json").read_text())
        return found

    said = "the weights of expert 3 of blk.0.ffn_down_exps.weight lost as much as zeros in their place would have"
    (finding,) = check("expert")["findings"]
    assert finding.startswith(f"{said}; ")
    assert "findings" not in check("full")
    assert "findings" not in check("expert", zero_as_one=True, strict=True)
    with pytest.raises(QualityError, match=f"^x.gguf: {said}; .*`strict`"):
        check("expert", strict=True)


def test_a_tensor_that_is_no_stack_is_told_whole(tmp_path: Path) -> None:
    with gguf.Writer(tmp_path / "a.gguf", [], [("x.weight", (COLUMNS, ROWS), TYPES["F32"])]) as writer:
        writer.append(WEIGHTS)
    zeros = np.zeros(ROWS * TYPES["Q6_K"].row_bytes(COLUMNS), np.uint8)
    with gguf.Writer(tmp_path / "b.gguf", [], [("x.weight", (COLUMNS, ROWS), TYPES["Q6_K"])]) as writer:
        writer.append(zeros)
    assert spoiled(tmp_path / "a.gguf", [tmp_path / "b.gguf"]) == {"x.weight": []}


def test_parts_weigh_alike_as_whole_files_do(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "tensors.json").write_text("{}")
    inputs = {name: Artifact(path, "", 0) for name, path in {
        "model.gguf": files["base"], "imatrix.dat": files["expert"], "tensors.json": tmp_path / "tensors.json"
    }.items()}  # fmt: skip
    name = models.STACKS[0]
    quantize_file(files["base"], tmp_path / "q.gguf", "Q6_K", imatrix=files["expert"], zero_as_one=True)
    (tmp_path / "out").mkdir()
    part.run(inputs, {"types": {name: "Q6_K"}, "zero_as_one": True}, tmp_path / "out", Context())
    with gguf.read(tmp_path / "q.gguf") as whole, gguf.read(tmp_path / "out" / "model.gguf") as lent:
        assert whole.data(whole.tensors[name]).tobytes() == lent.data(lent.tensors[name]).tobytes()
