"""Safetensors: what the library writes is read, and every lie in a header is found before a byte is trusted."""

import json
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy as numpy_format
from hypothesis import given, settings
from hypothesis import strategies as st

from quantmill.checkpoint import safetensors
from quantmill.checkpoint.safetensors import INDEX, SINGLE, open_weights
from quantmill.errors import QuantmillError


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def raw(header: object, data: bytes = bytes(8)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(QuantmillError) as caught:
        call()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return str(caught.value)


DTYPES = [np.float32, np.float64, np.float16, np.int8, np.uint8, np.int16, np.int32, np.int64, np.bool_]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name != "__metadata__"),
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=4)),
        max_size=6,
    )
)
def test_what_the_library_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, tuple[type, list[int]]]
) -> None:
    path = tmp_path_factory.mktemp("x") / SINGLE
    arrays = {
        name: np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(t) for name, (t, shape) in tensors.items()
    }
    numpy_format.save_file(arrays, path, metadata={"format": "pt"})
    with open_weights({SINGLE: path}) as weights:
        assert weights.keys() == arrays.keys()
        for name, array in arrays.items():
            assert (weights[name].shape, weights[name].file) == (array.shape, SINGLE)
            assert bytes(weights[name].data) == array.tobytes()
            assert not weights[name].data.flags.writeable


F = "fetch it again"
HOSTILE: list[tuple[bytes, str]] = [
    (b"", f"0 bytes are too few for a safetensors file; {F}"),
    (
        b"version https://git-lfs.github.com/spec/v1\n",
        "a git-lfs pointer, not the file; fetch it with `git lfs pull` or `hf download`",
    ),
    (
        struct.pack("<Q", 2**63) + b"{}",
        "its header claims 9223372036854775808 bytes in a file of 10; "
        "it was cut short, damaged or never one, fetch it again",
    ),
    (
        raw({"t": entry()})[:40],
        "its header claims 61 bytes in a file of 40; it was cut short, damaged or never one, fetch it again",
    ),
    (raw(b"{"), f"the header is not valid JSON; it is damaged or hostile, {F}"),
    (raw(b"\xff"), f"the header is not valid JSON; it is damaged or hostile, {F}"),
    (raw(b"[" * 200_000), f"the header is not valid JSON; it is damaged or hostile, {F}"),
    (raw(b'{"t": ' + b"9" * 5000 + b"}"), f"the header is not valid JSON; it is damaged or hostile, {F}"),
    (raw([]), f"the header is not a JSON object; {F}"),
    (raw(b'{"t": 1, "t": 1}'), "the name 't' is there twice; every name may be there once"),
    (raw(b'{"t": {"dtype": 1, "dtype": 2}}'), "the name 'dtype' is there twice; every name may be there once"),
    (raw({"t": 1}), "the tensor 't' has no description; fetch the file again"),
    (raw({"\ud800": entry()}), "the name '\\ud800' is not Unicode text; fetch the file again"),
    (
        raw({"t": entry("F31")}),
        f"the tensor 't' has the unknown dtype 'F31'; known are {', '.join(safetensors.BITS)}",
    ),
    (
        raw({"t": entry(None)}),
        f"the tensor 't' has the unknown dtype 'None'; known are {', '.join(safetensors.BITS)}",
    ),
    (
        raw({"t": entry(shape=[-2])}),
        "the tensor 't' has the shape [-2]; it must be a list of at most 64 whole numbers",
    ),
    (
        raw({"t": entry(shape=[True, 2])}),
        "the tensor 't' has the shape [True, 2]; it must be a list of at most 64 whole numbers",
    ),
    (
        raw({"t": entry(shape=[2.0])}),
        "the tensor 't' has the shape [2.0]; it must be a list of at most 64 whole numbers",
    ),
    (
        raw({"t": entry(shape="22")}),
        "the tensor 't' has the shape 22; it must be a list of at most 64 whole numbers",
    ),
    (raw({"t": entry(offsets=[0])}), "the tensor 't' has the data_offsets [0]; it must be two numbers"),
    (
        raw({"t": entry(offsets=[0, 2**64])}),
        f"the tensor 't' has the data_offsets [0, {2**64}]; it must be two numbers",
    ),
    (raw({"t": entry(offsets=[8, 0])}), "the tensor 't' has -8 bytes; F32 of shape [2] takes 8"),
    (raw({"t": entry(offsets=[0, 4])}), "the tensor 't' has 4 bytes; F32 of shape [2] takes 8"),
    (
        raw({"t": entry(shape=[2**62, 2**62])}),
        f"the tensor 't' has 8 bytes; F32 of shape [{2**62}, {2**62}] takes {2**126}",
    ),
    (
        raw({"t": entry(shape=[2**62] * 64)}),
        f"the tensor 't' has 8 bytes; F32 of shape {str([2**62] * 64)[:59]}…{str(2**62)[-14:]}] "
        f"takes {str(2**3970)[:59]}…{str(2**3970)[-15:]}",
    ),
    (raw({"t": entry("F4", [3], [0, 1])}), "the tensor 't' has 1 bytes; F4 of shape [3] takes 1.5"),
    (
        raw({"t": entry(), "u": entry(shape=[1], offsets=[4, 8])}),
        "the tensors 't' and 'u' overlap; each needs bytes of its own",
    ),
    (raw({"t": entry(shape=[1], offsets=[4, 8])}), "4 bytes before the tensor 't' belong to none; none may"),
    (raw({"t": entry(shape=[4], offsets=[0, 16])}), f"8 bytes are missing at the end; it was cut short, {F}"),
    (raw({"t": entry()}, bytes(9)), f"1 bytes at the end belong to no tensor; {F}"),
]


@pytest.mark.parametrize(("data", "message"), HOSTILE)
def test_a_hostile_file_is_refused_with_one_sentence(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "object"
    path.write_bytes(data)
    assert refused(lambda: open_weights({SINGLE: path})) == f"{SINGLE}: {message}"


def test_a_header_beyond_the_limit_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(raw({"t": entry()}))
    monkeypatch.setattr(safetensors, "MAX_HEADER", 20)
    assert refused(lambda: open_weights({SINGLE: path})) == (
        f"{SINGLE}: its header claims 61 bytes in a file of 77; it was cut short, damaged or never one, fetch it again"
    )


def test_pickles_are_refused_unopened(tmp_path: Path) -> None:
    sentence = (
        "weights as a pickle, which can run code when opened, are refused; "
        "use a revision of the model that has safetensors, or convert them where you trust them"
    )
    for name in ("pytorch_model.bin", "model.pt", "a.pth", "X.CKPT"):
        files = {"config.json": tmp_path, name: tmp_path / "does-not-exist"}
        assert refused(lambda files=files: open_weights(files)) == f"{name}: {sentence}"  # type: ignore[misc]
    path = tmp_path / "index"
    path.write_text(json.dumps({"weight_map": {"t": "pytorch_model.bin"}}))
    assert refused(lambda: open_weights({INDEX: path})) == f"pytorch_model.bin: {sentence}"


def test_no_weights_and_a_missing_file_are_named(tmp_path: Path) -> None:
    assert refused(lambda: open_weights({"config.json": tmp_path})) == (
        f"the model has no weights: neither {SINGLE} nor {INDEX} is among its files"
    )
    assert refused(lambda: open_weights({SINGLE: tmp_path / "no"})) == (
        f"{SINGLE}: cannot be read (No such file or directory); name an existing file that you may read"
    )


class TestShards:
    @pytest.fixture
    def files(self, tmp_path: Path) -> dict[str, Path]:
        numpy_format.save_file({"b": np.zeros(2, np.float32)}, tmp_path / "1")
        numpy_format.save_file({"a": np.ones(3, np.int8), "c": np.ones(1, np.int8)}, tmp_path / "2")
        files = {"model-1.safetensors": tmp_path / "1", "model-2.safetensors": tmp_path / "2", INDEX: tmp_path / "i"}
        self.index(files, b=1, a=2, c=2)
        return files

    def index(self, files: dict[str, Path], **places: int) -> None:
        table = {name: f"model-{place}.safetensors" for name, place in places.items()}
        files[INDEX].write_text(json.dumps({"metadata": {}, "weight_map": table}))

    def test_all_are_opened_in_order(self, files: dict[str, Path]) -> None:
        with open_weights(files) as weights:
            assert [(name, weight.file) for name, weight in weights.items()] == [
                ("b", "model-1.safetensors"),
                ("a", "model-2.safetensors"),
                ("c", "model-2.safetensors"),
            ]

    def test_missing_ones_are_named(self, files: dict[str, Path]) -> None:
        self.index(files, b=1, a=2, c=3, d=4)
        assert refused(lambda: open_weights(files)) == (
            f"{INDEX}: model-3.safetensors, model-4.safetensors named here but not among the model's files; "
            "fetch what is missing"
        )

    @pytest.mark.parametrize(
        ("places", "message"),
        [
            (
                {"b": 1, "a": 2},
                f"model-2.safetensors: the tensor 'c' is not what {INDEX} names for this file",
            ),
            (
                {"b": 1, "a": 1, "c": 2},
                f"model-2.safetensors: the tensor 'a' is not what {INDEX} names for this file",
            ),
            (
                {"b": 1, "a": 2, "c": 2, "d": 2},
                f"model-2.safetensors: the tensor 'd' that {INDEX} names is not there",
            ),
        ],
    )
    def test_an_index_that_disagrees_is_refused(
        self, files: dict[str, Path], places: dict[str, int], message: str
    ) -> None:
        self.index(files, **places)
        assert refused(lambda: open_weights(files)) == message

    def test_a_tensor_in_two_files_is_refused(self, files: dict[str, Path]) -> None:
        numpy_format.save_file({"b": np.ones(3, np.int8), "c": np.ones(1, np.int8)}, files["model-2.safetensors"])
        assert refused(lambda: open_weights(files)) == (
            "model-2.safetensors: the tensor 'b' is in model-1.safetensors already"
        )

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("{", f"it is not valid JSON; it is damaged or hostile, {F}"),
            ("[]", f"it has no weight_map from tensors to file names; {F}"),
            ('{"weight_map": {"a": 1}}', f"it has no weight_map from tensors to file names; {F}"),
            ('{"weight_map": {"a": "x", "a": "y"}}', "the name 'a' is there twice; every name may be there once"),
        ],
    )
    def test_a_broken_index_is_refused(self, files: dict[str, Path], text: str, message: str) -> None:
        files[INDEX].write_text(text)
        assert refused(lambda: open_weights(files)) == f"{INDEX}: {message}"

    def test_an_index_that_cannot_be_read_or_is_too_large_is_refused(
        self, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(safetensors, "MAX_HEADER", 20)
        assert refused(lambda: open_weights(files)) == (
            f"{INDEX}: it is larger than 20 bytes; it is damaged or hostile, {F}"
        )
        files[INDEX].unlink()
        assert refused(lambda: open_weights(files)) == (
            f"{INDEX}: cannot be read (No such file or directory); name a file that you may read"
        )


def test_no_damage_escapes_as_another_exception(tmp_path: Path) -> None:
    arrays = {f"t{n}": np.zeros((n + 1, 3), np.float16) for n in range(5)}
    whole = numpy_format.save(arrays, {"format": "pt"})
    rng = random.Random(3)
    outcomes = {True: 0, False: 0}
    path = tmp_path / "x"
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(data) - 60)
            match rng.randrange(4):
                case 0:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    data[at : at + 1] = rng.choice((b"9", b"-", b'"', b"[", b"}", b",", b"\\", b"e9"))
                case 2:
                    del data[at : at + rng.randrange(1, 10)]
                case 3:
                    del data[-rng.randrange(1, 20) :]
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        try:
            open_weights({SINGLE: path}).close()
            outcomes[True] += 1
        except QuantmillError:
            outcomes[False] += 1
    assert outcomes[False] > 1500
