"""Ctrl-C is heard wherever a program is, once, and the program ends."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from quantmill import interrupt

SAID = f"quantmill: {interrupt.MESSAGE}\n"
PROGRAM = """
import hashlib, queue, sys, threading, time
from quantmill import interrupt

class Callback:
    def __del__(self):
        print("there", flush=True)
        time.sleep(1)

def drops():
    Callback()
    print("on", flush=True)
    time.sleep(600)

def closes():
    try:
        print("there", flush=True)
        time.sleep(600)
    finally:
        time.sleep(600)

def waits():
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    print("there", flush=True)
    queue.Queue().get()

def computes():
    print("there", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)  # it lets other threads run, and hears nothing itself

interrupt.heed(grace=3)
try:
    {}()
except KeyboardInterrupt:
    interrupt.leave()
"""


def started(work: str, heeded: signal.Handlers = signal.SIG_DFL) -> subprocess.Popen[str]:
    run = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("{}", work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, heeded),
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "there\n"
    return run


def pressed(run: subprocess.Popen[str]) -> None:
    run.send_signal(signal.SIGINT)


def taken_by_another_thread(run: subprocess.Popen[str]) -> None:
    last = max(int(thread.name) for thread in Path(f"/proc/{run.pid}/task").iterdir())
    assert last != run.pid
    tgkill = 234 if os.uname().machine == "x86_64" else 131
    assert ctypes.CDLL(None).syscall(tgkill, run.pid, last, signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("work", "press", "goes_on"),
    [
        ("waits", pressed, ""),
        ("waits", taken_by_another_thread, ""),
        ("drops", pressed, "on\n"),
        ("closes", pressed, ""),
        ("computes", pressed, ""),
    ],
)
def test_one_press_ends_a_program(work: str, press: Callable[[subprocess.Popen[str]], None], goes_on: str) -> None:
    with started(work) as run:
        press(run)
        try:
            stdout, stderr = run.communicate(timeout=60)
        finally:
            run.kill()
    assert (run.returncode, stdout) == (1, goes_on)
    assert stderr.endswith(SAID)
    assert stderr.count(SAID) == 1


def test_a_program_that_ignores_it_goes_on() -> None:
    """As a shell's background job does."""
    with started("waits", signal.SIG_IGN) as run:
        pressed(run)
        with pytest.raises(subprocess.TimeoutExpired):
            run.communicate(timeout=5)
        run.kill()
