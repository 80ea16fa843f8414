"""The machine that speeds are measured on. Never part of what decides a file of weights."""

import hashlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from quantmill import __version__

MOST_THREADS = 1024  # of one task; more than that is a slip of the hand, and only to start them would take hours
PROC, SYS = Path("/proc"), Path("/sys")
CPUINFO = PROC / "cpuinfo"


def cpu_name() -> str:
    """The processor's name, or the architecture's where the system does not tell."""
    try:
        lines = CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def host(threads: int, backend: str, versions: dict[str, str] | None = None) -> dict[str, Any]:
    """What a table of speeds says of its machine."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 1,
        "threads": threads,
        "backend": backend,
        "versions": {"quantmill": __version__, **(versions or {})},
    }


def facts(runtime: str, digest: str | None = "") -> dict[str, Any]:
    """What decides speeds here, beside the files and the threads: the key's share of the host.

    `runtime` is "kernels" or "llama.cpp", whose llama-bench is known by its `digest`; where that is
    empty by the sha256 of the one on PATH (None where there is none).
    """
    found = {"cpu": cpu_name(), "cores": os.cpu_count() or 1, "versions": {"quantmill": __version__}}
    if runtime == "kernels":
        from quantmill._kernels import infer_isa  # only where it is asked for: a no-op loads no kernels

        return {**found, "level": infer_isa()}
    if digest != "":
        return {**found, "llama-bench": digest}
    program = shutil.which("llama-bench")
    return {**found, "llama-bench": hashlib.sha256(Path(program).read_bytes()).hexdigest() if program else None}


def usable_threads() -> int:
    """The processor threads that this process may use."""
    return len(os.sched_getaffinity(0))


def usable_memory(proc: Path = PROC, sys: Path = SYS) -> int:
    """Bytes of main memory, or of what the process' control groups, of either version, leave it; 0 if unknown."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        for line in (proc / "meminfo").read_text().splitlines() if (proc / "meminfo").is_file() else ():
            if line.startswith("MemTotal:"):
                total = int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return 0
    for path in _memory_limits(proc, sys):
        try:
            total = min(total, int(path.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return total


def _memory_limits(proc: Path, sys: Path) -> Iterator[Path]:
    """The files of the limits of the process' control group and of all above it."""
    try:
        groups = [line.split(":", 2)[1:] for line in (proc / "self" / "cgroup").read_text().splitlines()]
    except OSError:
        groups = []
    for kind, folder, name in (("", "", "memory.max"), ("memory", "memory", "memory.limit_in_bytes")):
        top = sys / "fs" / "cgroup" / folder
        own = next((found[1] for found in groups if len(found) == 2 and kind in found[0].split(",")), "/")
        below = PurePosixPath(own.lstrip("/"))
        yield from (top / part / name for part in (below, *below.parents))
