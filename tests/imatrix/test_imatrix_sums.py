"""What is collected becomes the files that llama-imatrix writes: merging, order, both forms, statistics."""

import hashlib
import math
import struct
from dataclasses import replace
from pathlib import Path

import gguf as peer
import numpy as np
import pytest

from quantmill import imatrix
from quantmill.imatrix import Entry, ImatrixError, Sums, encode, gguf_form, load, read
from quantmill.imatrix.summary import layers, rows
from quantmill.imatrix.sums import Sum, merge
from quantmill.reference.hash_order import hash_order
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.reference.llama_cpp.of_2025.b6122 import B6122
from tokenizer_cases import TINY

PEERS = TINY / "imatrix.dat"  # llama-imatrix b5490's, over the calibration text


def one(values: list[float], count: int = 4, calls: int = 1) -> Sum:
    return Sum(np.array([values], np.float32), np.array([count]), calls)


def test_the_peers_file_is_written_again_from_its_sums() -> None:
    """Names in the order of the model's graph come out in the order of llama-imatrix's hash table."""
    again = load(PEERS, 1).in_graph_order().legacy(B4867, b"tiny/calibration.txt", 106)
    assert again == PEERS.read_bytes()


def test_the_table_grows_as_gnus() -> None:
    """The order in which a std::unordered_map of GCC 12 lists 40 names that were inserted by number."""
    numbers = (
        "36 34 32 37 29 11 30 10 38 3 8 12 7 9 19 6 26 31 5 1 15 39 33 2 0 13 35 4 16 18 23 17 21 14 24 25 22 20 27 28"
    )
    assert hash_order(f"blk.{number}.w" for number in range(40)) == [f"blk.{number}.w" for number in numbers.split()]


DENSE = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
MIXTURE = (*DENSE[:4], "ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")


@pytest.mark.parametrize(
    ("layers", "parts", "output", "digest"),
    [
        (2, DENSE, True, "1143443f37cb2cda"),  # small qwen2, qwen3 and llama models
        (2, DENSE, False, "3579c5d0a0415002"),
        (2, MIXTURE, True, "411276ea3da9db44"),  # mixtral, qwen3moe
        (7, DENSE, False, "dfc0f32b959111c8"),  # gemma3
        (30, DENSE, False, "158596ba2eae1be2"),  # SmolLM2-135M
    ],
)
def test_the_order_is_llama_imatrix_s(layers: int, parts: tuple[str, ...], output: bool, digest: str) -> None:
    """Digests of the names in files that llama-imatrix (llama-cpp-python 0.3.9's) wrote of such models."""
    names = [f"blk.{layer}.{part}.weight" for layer in range(layers) for part in parts]
    names += ["output.weight"] if output else []
    shuffled = Sums({name: one([1.0]) for name in sorted(names)})
    (count,) = struct.unpack("<i", shuffled.in_graph_order().legacy(B4867, b"", 1)[:4])
    assert count == len(names)
    ordered = hash_order(shuffled.in_graph_order().tensors)
    assert hashlib.sha256("\n".join(ordered).encode()).hexdigest()[:16] == digest


def test_merging_is_llama_imatrix_s() -> None:
    """sha256 of what llama-imatrix (llama-cpp-python 0.3.9's) writes for the file given twice by --in-file."""
    merged = merge([("first", load(PEERS, 1)), ("second", load(PEERS, 1))]).legacy(B4867, b"", 0)
    assert hashlib.sha256(merged).hexdigest() == "79ac3afd77e2f21dfefb31bbd38a5d68d71e9bb9bebe53f19a1a26af5e03e4c3"


def test_sums_are_means_times_calls() -> None:
    found = Sums({"a": one([8, 2], count=4, calls=3)}).legacy(B4867, b"text", 9)
    assert found == encode([Entry("a", 3, np.array([6, 1.5], np.float32))], b"text", 9)


def test_an_expert_that_was_missed_is_left_out_as_b5490_does_but_kept_in_gguf(tmp_path: Path) -> None:
    found = Sums({"a": Sum(np.array([[1, 2], [0, 0]], np.float32), np.array([2, 0]), 1), "b": one([4.0])})
    assert found.whole() == ["b"]
    assert found.legacy(B4867, b"", 1) == encode([Entry("b", 1, np.array([1], np.float32))], b"", 1)
    gguf_form.write(tmp_path / "i.gguf", found.stored(4))
    assert read(tmp_path / "i.gguf").vectors["a"].tolist() == [0.5, 1.0, 1.0, 1.0]


def test_the_later_tools_keep_what_is_partial_sort_by_name_and_count_rows() -> None:
    """As save_imatrix_legacy of llama-imatrix since pull request 9400."""
    partial = Sum(np.array([[2, 4], [0, 0]], np.float32), np.array([2, 0]), 5)
    found = Sums({"b": one([5.0], 10), "a": partial, "c": one([0.0], 0)}, chunk_size=4)
    kept = [Entry("a", 1, np.array([1, 2, 1, 1], np.float32)), Entry("b", 3, np.array([1.5], np.float32))]
    assert found.legacy(B6122, b"text", 7) == encode(kept, b"text", 2)


def test_nothing_to_write() -> None:
    with pytest.raises(ImatrixError, match="no tensor was reached in all its parts"):
        Sums({"a": one([1.0], count=0)}).legacy(B4867, b"", 1)


def test_the_gguf_form_is_upstreams(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    many = Sum(np.arange(6, dtype=np.float32).reshape(3, 2), np.array([512, 1024, 0]), 2)
    found = Sums({"b.weight": one([3, 5], count=1024), "a.weight": many}, (b"one.txt", b"two.txt"))
    gguf_form.write(path, found.stored(512))
    reader = peer.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert fields == {
        "general.type": "imatrix",
        "imatrix.datasets": ["one.txt", "two.txt"],
        "imatrix.chunk_count": 2,
        "imatrix.chunk_size": 512,
    }
    shapes = [(tensor.name, tensor.shape.tolist()) for tensor in reader.tensors]
    assert shapes == [
        ("a.weight.in_sum2", [2, 3]),
        ("a.weight.counts", [1, 3]),
        ("b.weight.in_sum2", [2]),
        ("b.weight.counts", [1]),
    ]
    back = load(path, 1)
    assert (back.chunks, back.chunk_size, back.datasets) == (2, 512, (b"one.txt", b"two.txt"))
    assert back.tensors["a.weight"].squares.tolist() == many.squares.tolist()
    assert back.tensors["a.weight"].counts.tolist() == [512, 1024, 0]
    assert back.tensors["b.weight"].calls == 2


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    found = load(PEERS, 512)
    gguf_form.write(tmp_path / "imatrix.gguf", found.stored(512))
    first, second = read(PEERS), read(tmp_path / "imatrix.gguf")
    assert (first.chunks, first.dataset) == (second.chunks, second.dataset) == (106, b"tiny/calibration.txt")
    for name, vector in first.vectors.items():
        assert np.allclose(vector, second.vectors[name], rtol=1e-6)


def test_a_legacy_file_counts_for_all_experts() -> None:
    known = Sums.of_legacy([Entry("a", 2, np.array([2, 4, 6, 8], np.float32))], b"", 2, 3)
    fresh = Sums({"a": Sum(np.ones((2, 2), np.float32), np.array([1, 2]), 1)})
    for merged in (merge([("known", known), ("fresh", fresh)]), merge([("fresh", fresh), ("known", known)])):
        assert merged.tensors["a"].squares.tolist() == [[7, 13], [19, 25]]
        assert merged.tensors["a"].counts.tolist() == [7, 8]
        assert merged.tensors["a"].calls == 3


def test_files_of_two_models_are_not_merged() -> None:
    with pytest.raises(ImatrixError, match="second: a has 3 values, elsewhere 2; merge files of one model"):
        merge([("first", Sums({"a": one([1, 2])})), ("second", Sums({"a": one([1, 2, 3])}))])


def test_a_legacy_reader_of_a_gguf(tmp_path: Path) -> None:
    gguf_form.write(tmp_path / "i.gguf", Sums({"a": one([1.0])}).stored(4))
    with pytest.raises(ImatrixError, match="ends inside the number of entries"):
        imatrix.entries(tmp_path / "i.gguf")


def test_statistics_of_known_values() -> None:
    found = rows(
        Sums(
            {
                "blk.0.ffn_up.weight": one([4, 4, 4, 4]),
                "blk.1.ffn_up.weight": one([0, 0, 0, 8], count=2),
                "output.weight": one([1, 1]),
            }
        )
    )
    assert [(row.layer, row.tensor) for row in found] == [(0, "ffn_up"), (1, "ffn_up"), (None, "output")]
    flat, peak, output = found
    assert (flat.total, flat.mean, flat.deviation, flat.entropy, flat.entropy_share) == (4, 1, 0, 2, 1)
    assert (flat.active, flat.density, flat.cosine, flat.columns) == (1, 0, 0, 4)
    assert (peak.total, peak.least, peak.largest, peak.mean, peak.entropy) == (4, 0, 4, 1, 0)
    assert (peak.active, peak.density) == (0.25, 0.25)
    assert peak.deviation == pytest.approx(math.sqrt(3))
    assert peak.cosine == pytest.approx(0.5)
    assert output.cosine == 0
    assert [(layer.layer, layer.total, layer.density) for layer in layers(found)] == [(0, 4, 0), (1, 4, 0.25)]


def test_statistics_of_nothing() -> None:
    (row,) = rows(Sums({"blk.0.a.weight": one([0.0], count=0)}))
    assert (row.total, row.entropy, row.entropy_share, row.active, row.density) == (0, 0, 0, 0, 0)


def test_a_span_that_keeps_partial_entries_weighs_a_missed_expert_alike() -> None:
    partial = replace(B4867, imatrix=replace(B4867.imatrix, whole_only=False, order=sorted))
    sums = Sum(np.array([[8, 2], [0, 0]], np.float32), np.array([4, 0]), 3)
    entry = Entry("a", 3, np.array([6, 1.5, 3, 3], np.float32))
    assert Sums({"a": sums}).legacy(partial, b"", 1) == encode([entry], b"", 1)
