"""How a program ends after Ctrl-C."""

import atexit
import contextlib
import os
import sys
from typing import NoReturn

MESSAGE = "interrupted; finished work is kept, run the same command to go on"


def leave() -> NoReturn:
    """Ends the process with code 1 after what was registered for its end, and without its other threads' consent.

    One that comes back from a kernel while the interpreter goes down is ended by it, which C++ answers with abort().
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or its reader has left
            stream.flush()
    os._exit(1)
