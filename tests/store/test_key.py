"""The step key: each field reaches the hash, and nothing else can."""

import dataclasses
import hashlib

import pytest

from quantmill.store.key import StepKey, canonical, difference, finite

KEY = StepKey("quant", 1, 1, {"ftype": "Q4_K_M"}, {"model.gguf": "a" * 64})


def test_the_digest_is_that_of_the_canonical_text() -> None:
    """Two machines must agree, so the text is written down."""
    inputs = '{"model.gguf":"' + "a" * 64 + '"}'
    text = '{"generation":1,"inputs":' + inputs + ',"params":{"ftype":"Q4_K_M"},"step":"quant","version":1}'
    assert canonical(KEY.fields()) == text
    assert KEY.digest() == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("step", "convert"),
        ("version", 2),
        ("generation", 2),
        ("params", {"ftype": "Q4_K_S"}),
        ("params", {"ftype": "Q4_K_M", "pure": True}),
        ("inputs", {"model.gguf": "b" * 64}),
        ("inputs", {"model.gguf": "a" * 64, "imatrix.dat": "c" * 64}),
    ],
)
def test_every_field_changes_the_digest(field: str, value: object) -> None:
    assert dataclasses.replace(KEY, **{field: value}).digest() != KEY.digest()


def test_order_of_params_and_inputs_does_not() -> None:
    one = dataclasses.replace(KEY, params={"a": 1, "b": 2}, inputs={"x": "1", "y": "2"})
    other = dataclasses.replace(KEY, params={"b": 2, "a": 1}, inputs={"y": "2", "x": "1"})
    assert one.digest() == other.digest()


def test_no_number_that_is_none() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"scale": float("nan")})


def test_a_long_difference_is_cut() -> None:
    old, new = ({"inputs": {f"f{i}": digit * 64 for i in range(9)}} for digit in "ab")
    assert difference(old, new).endswith("f3 aaaaaaaa… → bbbbbbbb…, and 5 more")


def test_the_difference_of_tables_names_what_moved_in_them() -> None:
    one = {"ftypes": {"IQ2_M": {"ftype": "IQ2_M"}, "Q4_K_M": {"ftype": "Q4_K_M", "imatrix_name": "imatrix.dat"}}}
    other = {"ftypes": {**one["ftypes"], "Q4_K_M": {**one["ftypes"]["Q4_K_M"], "tensor_types": [["attn_v", "Q8_0"]]}}}
    said = difference({"params": one}, {"params": other})
    assert said == 'ftypes.Q4_K_M.tensor_types none → [["attn_v","Q8_0"]]'


def test_the_difference_in_words() -> None:
    other = StepKey("quant", 2, 1, {"ftype": "Q4_K_S"}, {"imatrix.dat": "9c02" + "0" * 60})
    assert difference(KEY.fields(), KEY.fields()) == ""
    assert difference(KEY.fields(), other.fields()) == (
        'version 1 → 2, imatrix.dat none → 9c020000…, model.gguf aaaaaaaa… → none, ftype "Q4_K_M" → "Q4_K_S"'
    )


def test_numbers_that_json_has_not_are_texts_in_a_key() -> None:
    """A config.json may hold them, for Python writes and reads them; all else is as it was."""
    plain = {"a": [1, 0.5, None, "x", {"b": True}]}
    assert finite(plain) == plain
    assert finite({"a": [0.0, float("inf")], "b": float("nan")}) == {"a": [0.0, "Infinity"], "b": "NaN"}
