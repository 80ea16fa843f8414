"""How a program hears Ctrl-C, and how it ends after it."""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

MESSAGE = "interrupted; finished work is kept, run the same command to go on"
AGAIN = 0.2  # seconds until a main thread that has not heard of it is woken
GRACE = 15.0  # seconds that a program has to end by itself

_said = threading.Lock()  # taken by whoever tells of it, for good


def heed(grace: float = GRACE) -> None:
    """Let no Ctrl-C be lost from here on. For a program that owns its process; called by its main thread.

    Python raises KeyboardInterrupt in the main thread alone. That one may sleep through a signal that another thread
    takes, or that comes just before a wait without end; and where it runs a callback (`__del__`), the exception is
    dropped. So a thread hears of each signal, wakes the main one, and ends a program that goes on for `grace` seconds.
    Nothing is done where the program was told to ignore Ctrl-C, as a shell's background jobs are.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        heard, told = os.pipe()
        os.set_blocking(told, False)
        watch = _Watch(heard, grace)
        signal.signal(signal.SIGINT, watch.interrupt)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        threading.Thread(target=watch.run, name="interrupt", daemon=True).start()


class _Watch:
    """`heard`: a pipe's end from which the number of each signal can be read, whichever thread took it."""

    def __init__(self, heard: int, grace: float) -> None:
        self._heard, self._grace = heard, grace
        self._raised = False  # no Event: the handler may interrupt whoever holds its lock

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler, which runs in the main thread."""
        self._raised = True
        signal.default_int_handler(number, frame)

    def run(self) -> None:
        while signal.SIGINT not in os.read(self._heard, 1):
            pass
        end = time.monotonic() + self._grace
        while time.monotonic() < end:
            time.sleep(AGAIN)
            if not self._raised:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        _say()
        os._exit(1)


def leave() -> NoReturn:
    """Says that the program was interrupted and ends it with code 1, after what was registered for its end, and without
    its other threads' consent.

    One that comes back from a kernel while the interpreter goes down is ended by it, which C++ answers with abort().
    """
    _say()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or its reader has left
            stream.flush()
    os._exit(1)


def _say() -> None:
    if _said.acquire(blocking=False):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            print(f"quantmill: {MESSAGE}", file=sys.stderr, flush=True)
