"""Tensors that files of a matrix share are computed once, and never taken from bytes that are not theirs."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from projects import TINY
from quantmill import gguf
from quantmill.artifact import Artifact, ByteRange, Context
from quantmill.checkpoint.conversion import convert
from quantmill.gguf.types import TYPES
from quantmill.imatrix import Entry, encode
from quantmill.quant import quantizer
from quantmill.quant.sharing import Sharing
from quantmill.reference.arithmetic import QuantArithmetic
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.steps import index, quant


def artifact(path: Path) -> Artifact:
    return Artifact(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


class Shelf:
    """What was quantized before, as a store would tell of it."""

    def __init__(self) -> None:
        self.spans: dict[str, ByteRange] = {}

    def add(self, out: Path) -> None:
        for key, entry in json.loads((out / "tensors.json").read_text()).items():
            self.spans.setdefault(key, ByteRange(out / "model.gguf", entry["offset"], entry["size"], entry["sha256"]))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("base")
    files = {path.name: path for path in TINY.iterdir() if path.suffix in (".json", ".safetensors")}
    convert(files, folder / "model.gguf", "BF16", "Tiny", None, Context())
    index.run({"model.gguf": artifact(folder / "model.gguf")}, {}, folder, Context(threads=2))
    return {name: artifact(folder / name) for name in ("model.gguf", "tensors.json")}


@pytest.fixture
def run(
    tmp_path: Path, inputs: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Path, int]]:
    """Runs the quant step; returns its folder and the number of calls of the quantizing kernels."""
    calls = []
    kernel = quantizer._kernels.quantize_stored

    def counted(*arguments: Any) -> bool:
        calls.append(arguments[2])
        return kernel(*arguments)

    monkeypatch.setattr(quantizer._kernels, "quantize_stored", counted)

    def run(ftype: str, shelf: Shelf, imatrix: Path | None = None) -> tuple[Path, int]:
        out = tmp_path / f"{ftype}{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        calls.clear()
        given = inputs | ({"imatrix.dat": artifact(imatrix)} if imatrix else {})
        quant.run(given, {"ftype": ftype, "generation": 1}, out, Context(2, find=shelf.spans.get))
        return out, len(calls)

    return run


def test_the_key_of_a_span_stays_what_it_was() -> None:
    """The digest of what was keyed when an arithmetic was a plain number."""
    facts = '["d","F16","Q4_K",null,1]'
    found = Sharing({"t": "d"}).key(B4867, "t", TYPES["F16"], TYPES["Q4_K"], None)
    assert found == hashlib.sha256(facts.encode()).hexdigest()
    assert [int(arithmetic) for arithmetic in QuantArithmetic] == [1, 2, 3, 4, 5, 6]


def test_the_index_names_every_tensor(inputs: dict[str, Artifact]) -> None:
    digests = json.loads(inputs["tensors.json"].path.read_text())
    with gguf.read(inputs["model.gguf"].path) as file:
        expected = {n: hashlib.sha256(file.data(info).tobytes()).hexdigest() for n, info in file.tensors.items()}
    assert digests == expected


def test_a_second_file_computes_only_what_differs(run: Callable[..., tuple[Path, int]]) -> None:
    shelf = Shelf()
    alone, all_calls = run("Q4_K_L", Shelf())
    first, first_calls = run("Q4_K_M", shelf)
    shelf.add(first)
    shared, calls = run("Q4_K_L", shelf)
    assert (shared / "model.gguf").read_bytes() == (alone / "model.gguf").read_bytes()
    assert (shared / "tensors.json").read_bytes() == (alone / "tensors.json").read_bytes()
    assert first_calls == all_calls > calls == 1  # the token embedding, in Q8_0
    again, none = run("Q4_K_M", shelf)
    assert none == 0
    assert (again / "model.gguf").read_bytes() == (first / "model.gguf").read_bytes()


def test_spans_are_those_of_the_file(run: Callable[..., tuple[Path, int]]) -> None:
    out, _ = run("Q4_K_M", Shelf())
    data = (out / "model.gguf").read_bytes()
    spans = json.loads((out / "tensors.json").read_text())
    assert len(spans) == 29
    for span in spans.values():
        piece = data[span["offset"] : span["offset"] + span["size"]]
        assert hashlib.sha256(piece).hexdigest() == span["sha256"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damaged_bytes_are_not_lent(run: Callable[..., tuple[Path, int]], damage: str) -> None:
    shelf = Shelf()
    first, calls = run("Q4_K_M", shelf)
    shelf.add(first)
    path = first / "model.gguf"
    whole = path.read_bytes()
    if damage == "flip":
        broken = bytearray(whole)
        broken[-1000] ^= 1
        path.write_bytes(broken)
    elif damage == "truncate":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        path.unlink()
    again, recomputed = run("Q4_K_M", shelf)
    assert (again / "model.gguf").read_bytes() == whole
    assert 0 < recomputed <= calls


def test_another_importance_vector_is_another_tensor(
    run: Callable[..., tuple[Path, int]], inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    with gguf.read(inputs["model.gguf"].path) as file:
        matrices = [info for info in file.tensors.values() if info.name.startswith("blk.") and len(info.shape) == 2]
        entries = [Entry(i.name, 1, np.linspace(1, 2, i.columns, dtype=np.float32)) for i in matrices]
    imatrix = tmp_path / "imatrix.dat"
    imatrix.write_bytes(encode(entries, b"text", 1))
    shelf = Shelf()
    first, calls = run("Q4_K_M", shelf)
    shelf.add(first)
    guided, computed = run("Q4_K_M", shelf, imatrix)
    assert computed == calls - 1  # all but the token embedding, which has no vector
    alone, _ = run("Q4_K_M", Shelf(), imatrix)
    assert (guided / "model.gguf").read_bytes() == (alone / "model.gguf").read_bytes()
