"""What the fuzzers found (docs/testing.md), one test each; and a short run of them."""

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fuzz import run
from quantmill import _kernels, gguf, imatrix
from quantmill.gguf import kv
from quantmill.gguf.types import TYPES, Type
from quantmill.imatrix import Entry, ImatrixError, encode
from quantmill.quant.quantizer import quantize_file
from quantmill.quant.refused import NotFinite
from quantmill.reference.hparams import ModelFacts

F32, F16, MXFP4 = TYPES["F32"], TYPES["F16"], TYPES["MXFP4"]


def base(path: Path, tensors: dict[str, tuple[Type, list[int], bytes]], **facts: Any) -> Path:
    """A file of a llama with these tensors; `facts` are entries below `llama.`, a dot as two underscores."""
    entries = [kv("general.architecture", "llama"), kv("llama.block_count", 1)]
    entries = [e for e in entries if e.key.removeprefix("llama.") not in facts]
    entries += [fact if isinstance(fact, gguf.KV) else kv(f"llama.{key}", fact) for key, fact in facts.items()]
    with gguf.Writer(path, entries, [(name, tuple(shape), type_) for name, (type_, shape, _) in tensors.items()]) as w:
        for _, _, data in tensors.values():
            w.append(data)
    return path


ONES = {"token_embd.weight": (F32, [64, 2], np.ones(128, np.float32).tobytes())}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"block_count": 2**62}, "block_count is 4611686018427387904; llama.cpp loads at most 512 layers"),
        ({"attention.head_count": [float("nan")]}, "head_count is \\[nan\\]; a count, or a list of one a layer"),
        ({"attention.head_count": ["8"]}, "head_count is \\['8'\\]; a count, or a list of one a layer"),
        ({"attention.head_count_kv": 1.5}, "head_count_kv is 1.5; a count, or a list of one a layer"),
        ({"attention.head_count_kv": [-1]}, "head_count_kv is \\[-1\\]; a count, or a list of one a layer"),
        ({"attention.head_count_kv": "eight"}, "head_count_kv is 'eight'; a count, or a list of one a layer"),
    ],
)
def test_facts_of_a_model_that_are_none(tmp_path: Path, facts: dict[str, Any], message: str) -> None:
    source = base(tmp_path / "base.gguf", ONES, **facts)
    with pytest.raises(ModelFacts, match=message):
        quantize_file(source, tmp_path / "out.gguf", "Q8_0")


def test_no_shard_stays_where_a_later_one_fails(tmp_path: Path) -> None:
    whole = ONES | {"output.weight": (F32, [64, 2], np.full(128, np.inf, np.float32).tobytes())}
    shards = gguf.split(base(tmp_path / "base.gguf", whole), tmp_path, "base", max_tensors=1)
    before = set(tmp_path.iterdir())
    with pytest.raises(NotFinite):
        quantize_file(shards[0], tmp_path / "out.gguf", "Q8_0", keep_split=True)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("alignment", [1, 2])
def test_weights_that_lie_where_no_float_may(tmp_path: Path, alignment: int) -> None:
    plain = base(tmp_path / "plain.gguf", ONES)
    # a key of any length moves the data off every other boundary
    odd = base(tmp_path / "odd.gguf", ONES, k=kv("general.alignment", alignment), x=kv("a", "1234"))
    with gguf.read(odd) as file:
        assert file.data_offset % 4
    made = []
    for source in (plain, odd):
        quantize_file(source, tmp_path / "out.gguf", "Q4_0")
        with gguf.read(tmp_path / "out.gguf") as file:
            made.append(file.data(file.tensors["token_embd.weight"]).tobytes())
    assert made[0] == made[1]


def gguf_imatrix(path: Path, entries: list[gguf.KV], name: str = "a", sums: float = 1, counts: float = 1) -> Path:
    tensors = [(f"{name}.in_sum2", (1,), F32), (f"{name}.counts", (1,), F32)]
    with gguf.Writer(path, entries, tensors) as writer:
        writer.append(np.float32([sums]).data)
        writer.append(np.float32([counts]).data)
    return path


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([kv("imatrix.datasets", "text")], "imatrix.datasets is not a list of names"),
        ([kv("imatrix.datasets", [1])], "imatrix.datasets is not a list of names"),
        ([kv("imatrix.chunk_count", "x")], "imatrix.chunk_count is not a count"),
        ([kv("imatrix.chunk_count", 2**63)], "imatrix.chunk_count is not a count"),
    ],
)
def test_keys_of_an_imatrix_that_are_of_another_kind(tmp_path: Path, entries: list[gguf.KV], message: str) -> None:
    with pytest.raises(ImatrixError, match=message):
        imatrix.read(gguf_imatrix(tmp_path / "imatrix.gguf", entries))


@pytest.mark.parametrize(("sums", "counts"), [(3e38, 1e-30), (np.nan, 1), (np.inf, np.inf)])
def test_means_that_overflow_are_refused_without_a_warning(tmp_path: Path, sums: float, counts: float) -> None:
    with pytest.raises(ImatrixError, match="the importance vector of a is not finite"):
        imatrix.read(gguf_imatrix(tmp_path / "imatrix.gguf", [], sums=sums, counts=counts))


def test_negative_importance_is_refused(tmp_path: Path) -> None:
    """The I-quants' searches would go other ways at other levels."""
    path = tmp_path / "imatrix.dat"
    path.write_bytes(encode([Entry("a", 1, np.float32([1, -1e-9]))], b"", 1))
    with pytest.raises(ImatrixError, match="the importance vector of a has a negative value"):
        imatrix.read(path)


def test_a_signalling_nan_is_refused_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(encode([Entry("a", 3, np.uint32([0x7F800001]).view(np.float32))], b"", 1))
    with pytest.raises(ImatrixError, match="the importance vector of a is not finite"):
        imatrix.read(path)


def test_a_message_is_one_line_whatever_a_tensor_is_called(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with gguf.Writer(path, [], [("%s\n\x1b[2J", (1,), F32)]) as writer:
        writer.append(bytes(4))
    with pytest.raises(ImatrixError) as caught:
        imatrix.read(path)
    assert "holds %s\\n\\x1b[2J as F32" in str(caught.value)


def test_the_nan_of_mxfp4_is_not_copied(tmp_path: Path) -> None:
    source = base(tmp_path / "base.gguf", {"token_embd.weight": (MXFP4, [64], bytes(17) + b"\xff" + bytes(16))})
    with pytest.raises(NotFinite, match=r"token_embd\.weight is not finite at weight 32"):
        quantize_file(source, tmp_path / "out.gguf", "COPY")


@pytest.mark.parametrize("ftype", ["F32", "Q8_0"])
def test_mxfp4_beyond_float32_is_refused(tmp_path: Path, ftype: str) -> None:
    data = (b"\xfe" + b"\x77" * 16) * 4
    source = base(tmp_path / "base.gguf", {"token_embd.weight": (MXFP4, [64, 2], data)})
    with pytest.raises(NotFinite, match="its weights as MXFP4 are too large for float32"):
        quantize_file(source, tmp_path / "out.gguf", ftype, allow_requantize=True)


@pytest.mark.parametrize("dataset", [b"caf\xe9", "é".encode() * 64])
def test_what_is_made_can_be_read_whatever_the_imatrix_calls_its_text(tmp_path: Path, dataset: bytes) -> None:
    guide = tmp_path / "imatrix.dat"
    guide.write_bytes(encode([Entry("token_embd.weight", 1, np.ones(64, np.float32))], dataset, 1))
    source = base(tmp_path / "base.gguf", ONES)
    out = tmp_path / "out.gguf"
    quantize_file(source, out, "Q8_0", imatrix=guide, imatrix_name="odd \udcff")
    gguf.verify(out)
    with gguf.read(out) as file:
        assert file.metadata["quantize.imatrix.dataset"].value == dataset[:127].decode(errors="ignore")
        assert file.metadata["quantize.imatrix.file"].value == "odd "


def test_a_name_that_claims_many_shards(tmp_path: Path) -> None:
    path = base(tmp_path / "x-00001-of-02000.gguf", ONES, count=kv("split.count", 2000, 2), no=kv("split.no", 0, 2))
    for work in (lambda: gguf.verify(path), lambda: gguf.merge(path, tmp_path / "out.gguf")):
        with pytest.raises(
            gguf.GGUFError, match=r": x-00002-of-02000\.gguf, .* and 1996 more of 2000 shards are missing"
        ):
            work()


def test_no_alignment_pads_a_few_bytes_to_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "hostile.gguf"
    entry = kv("general.alignment", 2**31).encode()
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry)
    with pytest.raises(
        gguf.GGUFError, match=r"general\.alignment is 2147483648, beyond 1048576; it must be a power of two"
    ):
        gguf.read(path)


@pytest.mark.parametrize("level", _kernels.isa_levels())
@pytest.mark.parametrize("value", [1e-45, 3.4e38])
def test_the_smallest_and_the_largest_weights(level: str, value: float) -> None:
    """Sums of whole numbers once ran over here, which C++ leaves undefined."""
    made = []
    try:
        for name in ("TQ1_0", "TQ2_0", "F16", "Q8_0"):
            for one in (level, _kernels.isa_levels()[0]):
                _kernels.set_isa(one)
                out = np.empty(TYPES[name].row_bytes(256), np.uint8)
                _kernels.quantize(name, np.full((1, 256), value, np.float32), out)
                made.append(out.tobytes())
    finally:
        _kernels.set_isa(_kernels.isa_levels()[-1])
    assert made[::2] == made[1::2]


@pytest.mark.parametrize(
    ("kind", "count"), [("gguf", 500), ("kernels", 1000), ("safetensors", 150), ("texts", 600), ("folders", 60)]
)
def test_a_short_run(tmp_path: Path, kind: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # most of the time of a case on a disk
    found = [result for result in run.cases(kind, 10**9, count, tmp_path) if result[2]]
    assert not found
