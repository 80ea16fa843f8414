"""Rates of this machine: the best of several by processor time, kept for the next plan.

They lie in the user's cache folder, a file for each processor, level of the kernels and version of quantmill. A plan
measures again for a moment, and anew where what is kept is off. Losing them costs a moment's measuring.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from quantmill import __version__
from quantmill.disk import read_table, write_atomic
from quantmill.host import cpu_name

SAMPLES = 5
OFF = 2.0  # times as fast as what is measured now: what is kept is of another machine, or of another time

_known: dict[tuple[str, str], float] = {}  # by machine and name, of this process


def timed(call: Callable[[], object], least: float) -> float:
    """Seconds of one call by this thread's processor time: the best of SAMPLES, each of as many calls as take `least`
    seconds. What else the machine does disturbs it little."""
    call()  # fills caches and tables
    found = []
    for _ in range(SAMPLES):
        runs, began = 0, time.thread_time()
        while (spent := time.thread_time() - began) < least:
            call()
            runs += 1
        found.append(spent / runs)
    return min(found)


def kept(name: str, measure: Callable[[], float]) -> float:
    """The best rate of that name that was measured on this machine. It is `measure`d once a process."""
    machine = _machine()
    if (machine, name) not in _known:
        path = _path(machine)
        rates = read_table(path)
        _known[machine, name] = found = _best(rates.get(name), measure)
        if rates.get(name) != found:
            with suppress(OSError):
                write_atomic(
                    path, json.dumps({**rates, "machine": machine, name: found}, indent=1).encode(), sync=False
                )
    return _known[machine, name]


def forget() -> None:
    """What is kept of this machine was found to be off: the next plan measures anew."""
    _known.clear()
    with suppress(OSError):
        _path(_machine()).unlink(missing_ok=True)


def _path(machine: str) -> Path:
    return _folder() / f"rates-{hashlib.sha256(machine.encode()).hexdigest()[:16]}.json"


def _best(before: object, measure: Callable[[], float]) -> float:
    now = measure()
    if not isinstance(before, float) or not math.isfinite(before) or before <= 0:
        return now
    if now < before / OFF:
        now = max(now, measure(), measure())
    return before if before / OFF <= now <= before else now


def _machine() -> str:
    from quantmill import _kernels

    return f"{cpu_name()}, {os.cpu_count()} cores, {_kernels.isa()}, {_kernels.infer_isa()}, quantmill {__version__}"


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quantmill"
