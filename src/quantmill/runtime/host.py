"""The machine that speeds were measured on. Never part of what decides a release's bytes."""

import os
import platform
from pathlib import Path
from typing import Any

from quantmill import __version__


def cpu_name() -> str:
    """The processor's name, or the architecture's where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
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
