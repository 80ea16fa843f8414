"""`quantmill audit`: honest files of all kinds, and attacks, each found and placed."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gguf_files
from quantmill import _kernels, gguf
from quantmill.admission.conformance import write
from quantmill.audit.file_audit import AuditOptions, audit_file
from quantmill.audit.mixes import tags_of
from quantmill.audit.verdict import FileVerdict, TensorVerdict
from quantmill.errors import QuantmillError
from quantmill.gguf.types import TYPES
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.ftypes import STANDARD_MATRIX
from quantmill.reference.reference import Reference
from quantmill.reference.spans import of_tag, offered

VICTIM = "blk.1.ffn_up.weight"
# Of a type's block, the byte of a scale's lowest bits, and one of its levels.
PLACES = {"Q4_K": (0, 40), "Q8_0": (0, 9), "Q6_K": (208, 7), "IQ4_XS": (0, 70), "IQ3_S": (0, 20), "Q5_0": (0, 8)}


def audit(model: Any, path: Path, guided: bool = True, tag: str | None = None) -> FileVerdict:
    asked = AuditOptions(model.imatrix if guided else None, of_tag(tag) if tag else None, None, 2)
    return audit_file(path, model.base, asked)


def words(verdict: FileVerdict) -> set[str]:
    return {tensor.word for tensor in verdict.tensors}


def of(verdict: FileVerdict, name: str = VICTIM) -> TensorVerdict:
    return next(tensor for tensor in verdict.tensors if tensor.name == name)


def placed(verdict: FileVerdict, base: Path, path: Path, name: str = VICTIM) -> int:
    """The block that a changed tensor's spot names, whose weight must be the base's and the file's there."""
    spot, values = of(verdict, name).spot, []
    assert spot is not None
    for place in (base, path):
        with gguf.read(place) as file:
            info = file.tensors[name]
            rows = np.empty((info.rows, info.columns), np.float32)
            _kernels.dequantize(info.type.name, file.data(info).copy().reshape(-1), rows)
            values.append(float(rows.reshape(-1)[spot.block * TYPES[of(verdict, name).type].block + spot.weight]))
    assert [spot.base, spot.found] == values
    return spot.block


@pytest.mark.parametrize("ftype", STANDARD_MATRIX)
def test_what_a_tag_wrote_is_the_same(toy: Any, ftype: str) -> None:
    """The files of a usual release, each by one of four tags, with the imatrix and, where that can be, without."""
    tag = ("b5490", "b7769", "b8305", "v0.5.0")[STANDARD_MATRIX.index(ftype) % 4]
    for guided in (True, False):
        if not guided and ftype.startswith(("IQ2", "IQ3_X")):
            continue
        found = audit(toy, toy.quantized(ftype, tag, guided), guided)
        assert words(found) == {"same"}
        assert found.word == "same"
        assert found.mix is not None
        assert found.mix.startswith(f"same types as {ftype} by ")
        assert found.tags == "b4867 to b11739, v0.4.0, v0.5.0"  # all columns have an importance
        assert not found.notes


@pytest.mark.parametrize("ftype", ["Q4_K_M", "IQ4_XS", "IQ3_XXS", "IQ2_S", "IQ2_XXS", "IQ1_M"])
def test_the_spans_are_those_that_write_the_same_bytes(tmp_path: Path, ftype: str) -> None:
    """Of a model with weights and importances that tell the arithmetics apart."""
    write(tmp_path, "kernels")
    base, imatrix = tmp_path / "kernels.gguf", tmp_path / "kernels.imatrix"
    written: dict[bytes, list[Reference]] = {}
    for span in offered():
        path = tmp_path / f"{span.first}.gguf"
        try:
            quantize_file(base, path, ftype, imatrix=imatrix, reference=span)
        except QuantmillError:  # an importance of zero, which these refuse
            continue
        with gguf.read(path) as file:
            data = b"".join(file.data(info).tobytes() for info in file.tensors.values())
        written.setdefault(hashlib.sha256(data).digest(), []).append(span)
    for spans in written.values():
        found = audit_file(tmp_path / f"{spans[-1].first}.gguf", base, AuditOptions(imatrix))
        assert words(found) == {"same"}
        assert found.tags == tags_of(spans)
    if len(written) > 1:
        first, *_, last = written.values()
        found = audit_file(tmp_path / f"{first[0].first}.gguf", base, AuditOptions(imatrix, last[-1]))
        assert found.word == "other tag"
        other = next(tensor for tensor in found.tensors if tensor.word == "other tag")
        assert re.match(r"the bytes that b4867 to b\d+ write", other.why)


def test_options_are_recognized(toy: Any, mixture: Any) -> None:
    for options in ({"pure": True}, {"tensor_types": [("ffn_down", "Q8_0")]}, {"output_tensor_type": "F16"}):
        found = audit(toy, toy.quantized("Q4_K_M", **options))
        assert words(found) == {"same"}
        assert "with --" in (found.mix or "")
    assert words(audit(mixture, mixture.quantized("Q4_K_M"))) == {"same"}


def test_files_of_other_quantizers_are_within_rounding(toy: Any, tmp_path: Path) -> None:
    for ftype in ("Q4_K_M", "Q5_1", "Q4_0", "IQ4_XS", "IQ2_XS", "Q3_K_S"):
        found = audit(toy, toy.quantized(ftype), guided=False)  # its imatrix is not known
        assert words(found) == {"same", "within rounding"}
        assert found.word == "within rounding"


def test_an_imatrix_that_is_another_or_is_kept_secret_is_within_rounding(toy: Any, tmp_path: Path) -> None:
    other, bare = type(toy)(tmp_path / "other", seed=2).imatrix, tmp_path / "bare.gguf"
    for ftype in ("Q4_K_M", "Q5_1", "Q4_1", "Q2_K", "IQ4_XS", "IQ3_S", "IQ1_M"):
        path = toy.quantized(ftype)
        assert audit_file(path, toy.base, AuditOptions(other)).word == "within rounding"
        with gguf.read(path) as file:
            kvs = [entry for key, entry in file.metadata.items() if not key.startswith("quantize.")]
            with gguf.Writer(bare, kvs, file.tensor_entries()) as writer:
                for info in file.tensors.values():
                    writer.append(file.data(info))
        assert audit(toy, bare, guided=False).word == "within rounding"


def test_a_tensor_without_the_imatrix_is_told(toy: Any) -> None:
    path = toy.quantized("Q4_K_M", exclude_weights=["blk.1.ffn_up"])
    found = audit(toy, path)
    assert {tensor.name for tensor in found.tensors if tensor.word != "same"} == {VICTIM}
    assert of(found).word == "within rounding"
    assert "without its importance vector" in of(found).why
    assert any("entries_count" in note for note in found.notes)


@pytest.mark.parametrize("type_", list(PLACES))
@pytest.mark.parametrize("guided", [True, False])
def test_a_bit_of_a_scale_and_a_level_are_found(
    toy: Any, patched: Any, tmp_path: Path, type_: str, guided: bool
) -> None:
    scale, level = PLACES[type_]
    ftype = {"Q4_K": "Q4_K_S", "IQ3_S": "IQ3_M"}.get(type_, type_)
    size = TYPES[type_].size
    path = toy.quantized(ftype, guided=guided, tensor_types=[(VICTIM, type_)])
    for byte, bits in ((scale, 1), (level, 0x10)):

        def change(data: Any, info: gguf.TensorInfo, at: int = 37 * size + byte, bits: int = bits) -> None:
            data[at] ^= bits

        found = audit(toy, patched(path, change), guided)
        assert {tensor.name for tensor in found.tensors if tensor.word != "same"} == {VICTIM}
        assert of(found).word == "changed"
        assert placed(found, toy.base, tmp_path / path.name) == 37
        assert found.word == "changed"


def test_exchanged_rows_are_found(toy: Any, patched: Any, tmp_path: Path) -> None:
    def change(data: Any, info: gguf.TensorInfo) -> None:
        rows = data.reshape(info.rows, -1)
        rows[[100, 200]] = rows[[200, 100]]

    for guided in (True, False):
        found = audit(toy, patched(toy.quantized("Q4_K_S"), change), guided)
        assert of(found).word == "changed"
        assert placed(found, toy.base, tmp_path / "Q4_K_S-b8305-True-0.gguf") == 100


@pytest.mark.parametrize("ftype", ["Q8_0", "Q4_K_M", "Q4_0", "IQ4_NL", "IQ3_XXS", "IQ2_XS", "IQ1_S"])
@pytest.mark.parametrize("guided", [True, False])
def test_a_tensor_of_another_model_is_found(toy: Any, tmp_path: Path, ftype: str, guided: bool) -> None:
    stranger = type(toy)(tmp_path / "stranger", seed=9)
    weights = {**toy.weights, VICTIM: stranger.weights[VICTIM]}
    path = toy.quantized(ftype, src=toy.write(tmp_path / "mixed.gguf", weights))
    found = audit(toy, path, guided)
    assert {tensor.name for tensor in found.tensors if tensor.word == "changed"} == {VICTIM}
    assert placed(found, toy.base, path) < 8  # an honest search may have given the first ones


@pytest.mark.parametrize("ftype", ["Q6_K", "Q4_K_M", "Q5_0", "IQ4_XS", "Q3_K_M"])
def test_a_change_of_the_size_of_the_rounding_is_found(toy: Any, tmp_path: Path, ftype: str) -> None:
    """Of low rank and before quantizing, as a LoRA is merged, with the imatrix and without."""
    rng = np.random.default_rng(3)
    change = rng.standard_normal((512, 2)) @ rng.standard_normal((2, 256))
    step = {"Q6_K": 3e-4, "Q4_K_M": 1e-3, "Q5_0": 6e-4, "IQ4_XS": 1e-3, "Q3_K_M": 2e-3}[ftype]
    weights = {**toy.weights, VICTIM: (toy.weights[VICTIM] + step / 2**0.5 * change).astype(np.float32)}
    path = toy.quantized(ftype, src=toy.write(tmp_path / "merged.gguf", weights))
    for guided in (True, False):
        found = audit(toy, path, guided)
        assert of(found).word == "changed"
        placed(found, toy.base, path)


@pytest.mark.parametrize("ftype", ["Q8_0", "Q6_K", "Q4_K_M", "IQ4_XS"])
def test_a_merged_lora_is_found(toy: Any, tmp_path: Path, ftype: str) -> None:
    """Of rank 8 in the attention's queries and values, merged as (alpha / rank) B A before quantizing."""
    rng = np.random.default_rng(5)
    weights = dict(toy.weights)
    names = [f"blk.{n}.attn_{part}.weight" for n in range(2) for part in ("q", "v")]
    for name in names:
        rows, columns = weights[name].shape
        b, a = rng.standard_normal((rows, 8)) * 0.02, rng.uniform(-1, 1, (8, columns)) / columns**0.5
        weights[name] = (weights[name] + 16 / 8 * b @ a).astype(np.float32)
    path = toy.quantized(ftype, src=toy.write(tmp_path / "merged.gguf", weights))
    for guided in (True, False):
        found = audit(toy, path, guided)
        assert {tensor.name for tensor in found.tensors if tensor.word == "changed"} == set(names)
        for name in names:
            placed(found, toy.base, path, name)


def test_what_another_file_has_too_is_believed_by_its_bytes_alone(toy: Any, patched: Any) -> None:
    """The tensors of a release that its files share are held against the base once; a changed one is found all the
    same, whichever file comes first."""

    def change(data: Any, info: gguf.TensorInfo) -> None:
        data[144 * 5 + 40] ^= 1

    honest, bad = toy.quantized("Q4_K_M"), patched(toy.quantized("Q4_K_S"), change)
    for files in ((honest, bad), (bad, honest)):
        asked = AuditOptions(toy.imatrix)
        found = {path: audit_file(path, toy.base, asked) for path in files}
        assert found[honest].word == "same"
        assert {tensor.name for tensor in found[bad].tensors if tensor.word != "same"} == {VICTIM}
        assert placed(found[bad], toy.base, bad) == 5
        for path in files:
            assert found[path] == audit_file(path, toy.base, AuditOptions(toy.imatrix))


def test_a_zeroed_expert_is_found(mixture: Any, patched: Any) -> None:
    name = "blk.1.ffn_up_exps.weight"

    def change(data: Any, info: gguf.TensorInfo) -> None:
        data.reshape(4, -1)[2] = 0

    for ftype in ("Q4_K_S", "Q6_K", "IQ2_XS"):
        found = audit(mixture, patched(mixture.quantized(ftype), change, name))
        assert of(found, name).word == "changed"
        spot = of(found, name).spot
        assert spot is not None
        assert (spot.block, spot.found) == (2 * 512, 0)
        unknown = audit(mixture, patched(mixture.quantized(ftype), change, name), guided=False)
        assert of(unknown, name).word == "cannot tell"
        assert unknown.word == "cannot tell"
    found = audit(mixture, patched(mixture.quantized("Q4_K_S", guided=False), change, name), guided=False)
    assert of(found, name).word == "changed"


def test_an_expert_without_importance_is_no_change(mixture: Any, tmp_path: Path) -> None:
    """Zeros are what llama-quantize writes there, and where 1 stands for it, other bytes."""
    from quantmill import imatrix
    from quantmill.imatrix import Entry, encode

    vectors = {name: vector.copy() for name, vector in imatrix.read(mixture.imatrix).vectors.items()}
    for name, vector in vectors.items():
        if "_exps" in name:
            vector.reshape(4, -1)[1] = 0
    model = type(mixture)(tmp_path / "m", experts=4)
    model.imatrix.write_bytes(encode([Entry(name, 1, vector) for name, vector in vectors.items()], b"", 1))
    for ftype in ("Q6_K", "Q3_K_S", "IQ4_XS"):
        for zero_as_one in (False, True):
            path = model.quantized(ftype, zero_as_one=zero_as_one)
            assert words(audit(model, path)) == {"same"}
            assert "changed" not in words(audit(model, path, guided=False))


def test_changed_metadata_is_shown(toy: Any, tmp_path: Path) -> None:
    path, out = toy.quantized("Q4_K_M"), tmp_path / "out.gguf"
    template = ("{% for m in messages %}\n{{ m.role }}: {{ m.content }}\n{% endfor %}\n" * 3).replace(
        "m.content", "m.content + ' Buy now.'", 1
    )
    tokens = [f"token{n}" for n in range(64)]
    tokens[5] = "other"
    new = {"tokenizer__chat_template": template, "tokenizer__ggml__tokens": tokens, "qwen3__rope__freq_base": 5e5}
    gguf_files.changed(path, out, general__name="another", **new)
    found = audit(toy, out)
    assert words(found) == {"same"}
    assert found.word == "changed"
    said = {key.key: key for key in found.keys}
    assert set(said) == {key.replace("__", ".") for key in new}
    assert "-{{ m.role }}: {{ m.content }}" in said["tokenizer.chat_template"].lines
    assert "+{{ m.role }}: {{ m.content + ' Buy now.' }}" in said["tokenizer.chat_template"].lines
    assert said["tokenizer.ggml.tokens"].why == ("1 of 64 elements differ, first 5: 'token5' in the base, 'other' here")
    assert found.notes == ("general.name: 'toy' in the base, 'another' here",)


def test_added_and_missing_tensors_are_changes(toy: Any, tmp_path: Path) -> None:
    path, out = toy.quantized("Q4_K_M"), tmp_path / "out.gguf"
    with gguf.read(path) as file:
        infos = [info for info in file.tensors.values() if info.name != VICTIM]
        added = [("extra.weight", (256,), TYPES["F32"])]
        entries = [*(info.entry for info in infos), *added]
        with gguf.Writer(out, file.metadata.values(), [gguf.TensorEntry(*entry) for entry in entries]) as writer:
            for info in infos:
                writer.append(file.data(info))
            writer.append(bytes(1024))
    found = audit(toy, out)
    assert [(key.key, key.why) for key in found.keys] == [
        ("tensor extra.weight", "only in the file, not in the base"),
        (f"tensor {VICTIM}", "only in the base"),
    ]


def test_changed_norms_are_found(toy: Any, patched: Any) -> None:
    def change(data: Any, info: gguf.TensorInfo) -> None:
        data.view("<f4")[7] *= 1.001

    found = audit(toy, patched(toy.quantized("Q4_K_M"), change, "blk.0.attn_norm.weight"))
    assert of(found, "blk.0.attn_norm.weight").word == "changed"
    assert of(found, "blk.0.attn_norm.weight").spot.block == 7  # type: ignore[union-attr]


def test_a_weight_that_is_no_number_is_told(toy: Any, patched: Any) -> None:
    """In JSON, too, which has none."""

    def change(data: Any, info: gguf.TensorInfo) -> None:
        data.view("<f4")[:2] = np.nan, np.inf

    name = "blk.0.attn_norm.weight"
    found = audit(toy, patched(toy.quantized("Q4_K_M"), change, name))
    assert of(found, name).word == "changed"
    spot = of(found, name).to_json()["spot"]
    assert spot["found"] in ("nan", "inf")
    json.dumps(found.to_json(), allow_nan=False)


def test_a_requantized_file_is_the_same_as_its_base_gives(toy: Any, tmp_path: Path) -> None:
    middle = toy.quantized("Q8_0")
    path = toy.quantized("Q4_K_M", src=middle, allow_requantize=True)
    found = audit(toy, path)
    assert (words(found), found.through) == ({"same"}, "Q8_0")
    asked = AuditOptions(toy.imatrix, None, None, 1)
    assert words(audit_file(path, middle, asked)) == {"same"}
