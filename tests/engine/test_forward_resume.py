"""A killed evaluation goes on where it was, a stale or torn checkpoint is not used, and memory stays in its bounds."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import forward_killed
from architecture_helpers.hybrid_models import HYBRID_MODELS
from forward_models import MODELS, Small, chunks, sparse, write
from quantmill.engine.budget import budget
from quantmill.engine.errors import TooLittleMemory
from quantmill.engine.evaluation import ARITHMETICS, Run, collect, open_model

PLENTY = 1 << 33


def start(model: Path, work: Path, memory: int, arithmetic: str, sleep: float, limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, forward_killed.__file__, model, work, memory, arithmetic, sleep]
    if limit:  # a BLAS that is not used takes address space for each of its threads
        command = ["sh", "-c", f'ulimit -d {limit >> 10} && exec "$@"', "sh", *command]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True, env=environment)


def finish(model: Path, work: Path, memory: int, arithmetic: str = "f32", limit: int = 0) -> tuple[int, str, int]:
    """(how far the first report was, the digest, the peak of anonymous memory) of a run that is left alone."""
    with start(model, work, memory, arithmetic, 0, limit) as process:
        assert process.stdout is not None
        first, *_, last = process.stdout.read().splitlines()
    assert process.returncode == 0
    _, digest, peak = last.split()
    return int(first.split()[1]), digest, int(peak)


def killed(model: Path, work: Path, memory: int, arithmetic: str, at: int) -> None:
    """Runs until the report `at`, and then no more."""
    with start(model, work, memory, arithmetic, 0.04) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line.split()[1]) >= at:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL


def least(path: Path, arithmetic: str = "f32") -> int:
    with open_model(path) as model, pytest.raises(TooLittleMemory) as error:
        budget(model, Run(arithmetic, threads=2, memory=1), 6, 64)
    return error.value.needed


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("name", ["gemma3", "qwen3moe", "gemma4", "gemma3n"])
def test_a_killed_run_goes_on_with_the_same_bytes(name: str, arithmetic: str, tmp_path: Path) -> None:
    small = (MODELS | HYBRID_MODELS)[name]
    path, layers = write(small, tmp_path / "model.gguf"), small.layers
    work = tmp_path / "work"
    _, expected, _ = finish(path, work, PLENTY, arithmetic)
    tight = least(path, arithmetic)
    for memory in (PLENTY, tight):
        killed(path, work, memory, arithmetic, at=6 * (layers - 1) + 1)  # in the last layer
        assert len(list(work.iterdir())) == 1
        first, digest, _ = finish(path, work, PLENTY if memory != PLENTY else tight, arithmetic)
        assert first > 6 * (layers - 1 if memory != PLENTY else 1)  # states in memory are saved when that is cheap
        assert digest == expected
        assert list(work.iterdir()) == []


def test_a_checkpoint_of_something_else_is_not_used(tmp_path: Path) -> None:
    path = write(MODELS["qwen2"], tmp_path / "model.gguf")
    work = tmp_path / "work"
    killed(path, work, PLENTY, "f32", at=7)
    assert finish(path, work, PLENTY, "bf16x2")[0] <= 6
    other = write(MODELS["qwen2"], tmp_path / "other.gguf")
    assert finish(other, work, PLENTY)[0] <= 6
    assert len(list(work.iterdir())) == 1  # that of the first run
    assert finish(path, work, PLENTY)[0] > 6


@pytest.mark.parametrize("torn", ["states.1", "sums.1", "state.json"])
@pytest.mark.parametrize("how", ["flipped", "short", "gone"])
def test_a_torn_checkpoint_is_not_used(torn: str, how: str, tmp_path: Path) -> None:
    path = write(MODELS["qwen2"], tmp_path / "model.gguf")
    work = tmp_path / "work"
    _, expected, _ = finish(path, work, PLENTY)
    killed(path, work, PLENTY, "f32", at=12)
    (folder,) = work.iterdir()
    layer = json.loads((folder / "state.json").read_text())["layer"]
    file = folder / torn.replace("1", str(layer))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(data if how == "flipped" else data[: len(data) // 2])
    first, digest, _ = finish(path, work, PLENTY)
    assert first <= 6
    assert digest == expected


def test_two_processes_do_not_share_a_checkpoint(tmp_path: Path) -> None:
    path = write(MODELS["qwen2"], tmp_path / "model.gguf")
    work = tmp_path / "work"
    with start(path, work, least(path), "f32", 0.15) as one:
        assert one.stdout is not None
        one.stdout.readline()
        _, digest, _ = finish(path, work, least(path))
        last = one.stdout.read().splitlines()[-1]
    assert last.split()[1] == digest
    assert list(work.iterdir()) == []


def test_a_failed_run_leaves_nothing_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = write(MODELS["qwen2"], tmp_path / "model.gguf")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with open_model(path) as model, pytest.raises(KeyboardInterrupt):
        collect(model, chunks(MODELS["qwen2"]), Run(progress=stop))
    assert [file.name for file in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_a_model_four_times_the_memory(arithmetic: str, tmp_path: Path) -> None:
    """Most of its weights are zeros that take no room on the disk; they are read and multiplied all the same.

    The system's own limit is on all private memory that could be written, touched or not: 80 MB more than is allowed.
    """
    memory, limit = 180 << 20, 256 << 20
    small = Small("qwen2", layers=3, embd=2048, ff=12800, heads=16, heads_kv=8)
    path = sparse(small, tmp_path / "model.gguf")
    assert path.stat().st_size > 4 * limit
    _, expected, plenty = finish(path, tmp_path / "work", PLENTY, arithmetic)
    _, digest, peak = finish(path, tmp_path / "work", memory, arithmetic, limit)
    assert digest == expected
    assert peak <= memory < plenty
