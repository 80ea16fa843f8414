"""How a program hears that it is to end (Ctrl-C, SIGTERM, SIGHUP), and how it ends then."""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Collection
from types import FrameType
from typing import NoReturn

MESSAGE = "interrupted; finished work is kept, run the same command to go on"
ANEW = "interrupted; nothing half done is left, run the same command to begin anew"
AGAIN = 0.2  # seconds until a main thread that has not heard of it is woken
GRACE = 15.0  # seconds that a program has to end by itself
HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_said = threading.Lock()  # taken by whoever tells of it, for good
_words = [MESSAGE]  # the last is what is told


def heed(grace: float = GRACE) -> None:
    """Let no Ctrl-C, SIGTERM or SIGHUP be lost from here on. Each raises KeyboardInterrupt, so that what is half done
    is cleared away. For a program that owns its process; called by its main thread.

    Python raises it in the main thread alone. That one may sleep through a signal that another thread takes, or that
    comes just before a wait without end; and where it runs a callback (`__del__`), the exception is dropped. So a
    thread hears of each signal, wakes the main one, and ends a program that goes on for `grace` seconds. A signal that
    the program was told to ignore stays so, as Ctrl-C in a shell's background jobs and SIGHUP below nohup.
    """
    heeded = [number for number in HEEDED if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)]
    if heeded:
        heard, told = os.pipe()
        os.set_blocking(told, False)
        watch = _Watch(heard, frozenset(heeded), grace)
        for number in heeded:
            signal.signal(number, watch.interrupt)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        threading.Thread(target=watch.run, name="interrupt", daemon=True).start()


def keeps_nothing() -> None:
    """Tell from here on that what was begun is begun anew."""
    _words.append(ANEW)


class _Watch:
    """`heard`: a pipe's end from which the number of each signal can be read, whichever thread took it."""

    def __init__(self, heard: int, heeded: Collection[int], grace: float) -> None:
        self._heard, self._heeded, self._grace = heard, heeded, grace
        self._raised = False  # no Event: the handler may interrupt whoever holds its lock

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """The signals' handler, which runs in the main thread. Only a person's second one breaks into the clearing up
        after the first; a terminal that goes may send several."""
        first, self._raised = not self._raised, True
        if first or number == signal.SIGINT:
            signal.default_int_handler(number, frame)

    def run(self) -> None:
        while (number := os.read(self._heard, 1)[0]) not in self._heeded:
            pass
        end = time.monotonic() + self._grace
        while time.monotonic() < end:
            time.sleep(AGAIN)
            if not self._raised:
                signal.pthread_kill(threading.main_thread().ident or 0, number)
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
            print(f"quantmill: {_words[-1]}", file=sys.stderr, flush=True)
