"""SIGTERM and SIGHUP at many moments: a command ends, and leaves what was there and nothing else."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from projects import TINY
from quantmill import gguf
from quantmill.gguf import TensorEntry, Writer, kv
from quantmill.gguf.types import TYPES
from quantmill.gguf.verification import verify
from quantmill.interrupt import ANEW, MESSAGE
from tokenizer_cases import CALIBRATION, tiny

CALLS = {
    "quantize": ["base.gguf", "out/new.gguf", "Q2_K", "--threads", "1"],
    "convert": ["tiny", "out/new.gguf"],
    "imatrix": ["model.gguf", "-f", "text", "-o", "out/new.gguf", "--threads", "1"],
    "split": ["base.gguf", "out/new", "--max-size", "60MB"],
    "merge": ["base-00001-of-00004.gguf", "out/new/new.gguf"],
}
SIGNALS = (signal.SIGTERM, signal.SIGHUP)
DELAYS = (None, 0.0, 0.03, 0.15)  # seconds after the command has begun to write; None: as soon as it is heard at all


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of 200 MB, its shards, a model, a text and a checkpoint."""
    here = tmp_path_factory.mktemp("inputs")
    tensors = [TensorEntry(f"blk.{i}.ffn_up.weight", (4096, 3072), TYPES["F32"]) for i in range(4)]
    piece = np.random.default_rng(0).standard_normal((3072, 4096), np.float32)
    with Writer(here / "base.gguf", [kv("general.architecture", "llama"), kv("llama.block_count", 4)], tensors) as out:
        for _ in tensors:
            out.append(piece)
    gguf.split(here / "base.gguf", here, "base", max_tensors=1)
    tiny(here).rename(here / "model.gguf")
    (here / "text").symlink_to(CALIBRATION)
    (here / "tiny").symlink_to(TINY)
    return here


def writes(run: subprocess.Popen[str], out: Path) -> bool:
    """Whether a file below `out` is open there, with a name or without."""
    try:
        found = [os.readlink(entry) for entry in Path(f"/proc/{run.pid}/fd").iterdir()]
    except OSError:
        return False
    return any(name.startswith(f"{out}/") for name in found)


def heard(run: subprocess.Popen[str], number: int) -> bool:
    """Whether the program has a handler for the signal."""
    try:
        status = Path(f"/proc/{run.pid}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def until(found: Iterator[bool], run: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while run.poll() is None and not next(found):
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("command", CALLS)
def test_nothing_is_left_behind(folder: Path, command: str, delay: float | None, tmp_path: Path) -> None:
    number = SIGNALS[(DELAYS.index(delay) + list(CALLS).index(command)) % 2]
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "earlier").write_bytes(b"kept")
    run = subprocess.Popen(
        [sys.executable, "-m", "quantmill.cli", command, *CALLS[command]],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if delay is None:
            until(iter(lambda: heard(run, number), None), run)
        else:
            until(iter(lambda: writes(run, out), None), run)
            time.sleep(delay)
        run.send_signal(number)
        _, said = run.communicate(timeout=120)
    finally:
        run.kill()
    left = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    assert left.pop("earlier").read_bytes() == b"kept"
    if command == "imatrix":  # what the next run goes on from
        left = {name: path for name, path in left.items() if not name.startswith("new.gguf.work/")}
    for path in left.values():  # it was done before: this is whole
        verify(path)
    if not left:
        assert run.returncode == 1, said
        assert said.endswith(f"quantmill: {MESSAGE if command == 'imatrix' else ANEW}\n")
        assert {path.name for path in out.iterdir()} <= {"earlier", "new.gguf.work"}


@pytest.mark.parametrize("command", CALLS)
def test_what_is_killed_is_right_when_it_is_done_again(folder: Path, command: str, tmp_path: Path) -> None:
    """A file of no size limit has no name before it is whole; of shards there may be some."""
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    out, rng = tmp_path / "out", random.Random(command)
    out.mkdir()
    call = [sys.executable, "-m", "quantmill.cli", command, *CALLS[command]]
    for _ in range(4):
        run = subprocess.Popen(call, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(iter(lambda run=run: writes(run, out), None), run)  # type: ignore[misc]
        time.sleep(rng.uniform(0, 0.5))
        run.kill()
        run.wait()
        for path in out.rglob("new*.gguf"):
            verify(path)
            if command == "merge":  # which was done before, and overwrites nothing
                path.unlink()
    subprocess.run(call, cwd=tmp_path, check=True, capture_output=True)
    made = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    shutil.rmtree(out)
    out.mkdir()
    subprocess.run(call, cwd=tmp_path, check=True, capture_output=True)
    assert made == {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_what_is_told_to_ignore_a_hangup_goes_on(folder: Path, tmp_path: Path) -> None:
    """As below nohup."""
    run = subprocess.Popen(
        [sys.executable, "-m", "quantmill.cli", "quantize", str(folder / "base.gguf"), "new.gguf", "Q8_0"],
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        stdout=subprocess.DEVNULL,
    )
    until(iter(lambda: writes(run, tmp_path), None), run)
    run.send_signal(signal.SIGHUP)
    assert run.wait(timeout=120) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["new.gguf"]
