"""Samples: which rows are read, what that proves, and that a seed repeats it."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantmill import gguf
from quantmill.audit.file_audit import AuditOptions, audit_file
from quantmill.audit.row_sample import RowSample
from quantmill.cli import main
from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf.types import TYPES
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.spans import of_tag

VICTIM = "blk.1.ffn_up.weight"
TENSORS = {"a": 4096, "b": 1500, "c": 333, "d": 40, "e": 1}  # rows


def test_a_sample_is_repeated_by_its_seed_alone() -> None:
    for name, count in TENSORS.items():
        rows = RowSample(0.02, 5).rows(name, count)
        assert len(rows) == math.ceil(0.02 * count)
        assert np.array_equal(np.unique(rows), rows)
        assert 0 <= rows[0] <= rows[-1] < count
        assert np.array_equal(rows, RowSample(0.02, 5).rows(name, count))
    assert not np.array_equal(RowSample(0.02, 6).rows("a", 4096), RowSample(0.02, 5).rows("a", 4096))
    assert len(RowSample(1.0, 5).rows("a", 4096)) == 4096


@pytest.mark.parametrize("share", [0.02, 0.2])
@pytest.mark.parametrize("spread", [True, False])
def test_the_stated_chance_is_kept(share: float, spread: bool) -> None:
    """1,000 trials of a planted change: of one row in a thousand, anywhere, or all in one tensor."""
    total = sum(TENSORS.values())
    places = [(name, row) for name, count in TENSORS.items() for row in range(count)]
    rng, planted, seen = np.random.default_rng(4), math.ceil(total / 1000), 0
    for seed in range(1000):
        sample = RowSample(share, seed)
        first = int(rng.integers(0, 4096 - planted))
        chosen = rng.choice(total, planted, False) if spread else range(first, first + planted)
        read = {name: set(sample.rows(name, count).tolist()) for name, count in TENSORS.items()}
        seen += any(places[at][1] in read[places[at][0]] for at in chosen)
    stated = sample.chance(total)
    assert stated == pytest.approx(1 - (1 - share) ** 6)
    assert seen / 1000 >= stated - 3 * math.sqrt(stated * (1 - stated) / 1000)  # never less, but for chance


def test_a_sample_reads_little_and_finds_what_lies_in_its_rows(toy: Any, mixture: Any, tmp_path: Path) -> None:
    for model in (toy, mixture):
        path = model.quantized("Q4_K_M")
        found = audit_file(path, model.base, AuditOptions(model.imatrix, sample=RowSample(0.02, 1)))
        assert {tensor.word for tensor in found.tensors} == {"same"}
        assert found.rows < 0.03 * found.all_rows
        with gguf.read(path) as one, gguf.read(model.base) as other:
            matrices = [info for file in (one, other) for info in file.tensors.values() if len(info.shape) > 1]
        assert found.bytes_read < 0.05 * sum(info.nbytes for info in matrices)
    changed = tmp_path / "changed.gguf"
    shutil.copy(toy.quantized("Q4_K_M"), changed)
    with gguf.read(changed) as file, open(changed, "r+b") as out:
        info = file.tensors[VICTIM]
        out.seek(file.data_offset + info.offset + 300 * 144 + 60)
        out.write(b"\xff\x00\xff")
    verdicts = {}
    for seed in range(60):
        sample = RowSample(0.02, seed)
        found = audit_file(changed, toy.base, AuditOptions(toy.imatrix, sample=sample))
        verdicts[300 in sample.rows(VICTIM, 512).tolist()] = found.word
        for tensor in found.tensors:
            assert tensor.spot is None or (tensor.name, tensor.spot.block) == (VICTIM, 300)
    assert verdicts == {True: "changed", False: "same"}


def test_the_command_says_what_a_sample_proves(toy: Any, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["audit", str(toy.quantized("Q4_K_M")), "--base", str(toy.base), "--imatrix", str(toy.imatrix)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--sample", "2%", "--seed", "7"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "rows were read: a change of one row in a thousand, wherever, is among them with a chance of 0.0" in out


def test_files_elsewhere_are_sampled_by_ranges(served: Any, toy: Any, tmp_path: Path) -> None:
    """At 2 % at most 3 % of both files are sent, headers included."""
    name, rows = "blk.0.ffn_up.weight", 12_000
    weights = (np.random.default_rng(8).standard_normal((rows, 1024)) * 0.02).astype(np.float32)
    kvs = [gguf.kv("general.architecture", "llama"), gguf.kv("llama.block_count", 1)]
    base, path = tmp_path / "base.gguf", tmp_path / "x-Q4_K_S.gguf"
    with gguf.Writer(base, kvs, [gguf.TensorEntry(name, (1024, rows), TYPES["F16"])]) as writer:
        writer.append(weights.astype("<f2").tobytes())
    quantize_file(base, path, "Q4_K_S", reference=of_tag("b8305"))
    asked = AuditOptions(sample=RowSample(0.02, 3), threads=2)
    here = audit_file(path, base, asked)
    there = audit_file(f"{served.address}/{path.name}", f"{served.address}/{base.name}", asked)
    assert there.to_json() | {"name": ""} == here.to_json() | {"name": ""}
    assert {tensor.word for tensor in there.tensors} == {"same"}
    assert served.sent <= 0.03 * (path.stat().st_size + base.stat().st_size)
    with pytest.raises(
        UsageError, match="only a part of a file elsewhere is audited; give --sample 2%, or download it"
    ):
        audit_file(f"{served.address}/{path.name}", base, AuditOptions())
    served.ranges = False
    with pytest.raises(QuantmillError, match="the server does not send the range asked for; download it"):
        audit_file(f"{served.address}/{path.name}", base, asked)


def test_a_server_that_cuts_ranges_ends_in_a_sentence(served: Any, toy: Any, tmp_path: Path) -> None:
    shutil.copy(toy.quantized("Q4_K_M"), tmp_path / "x.gguf")
    served.cut = True
    with pytest.raises(QuantmillError, match="cannot be reached or breaks off"):
        audit_file(f"{served.address}/x.gguf", toy.base, AuditOptions(toy.imatrix, sample=RowSample(0.02, 3)))
