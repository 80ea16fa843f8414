"""This machine: its memory, its graphics cards, its processor. What cannot be found out is not there."""

import platform
import subprocess
from pathlib import Path

from quantmill.choose.machine import Machine, machine
from quantmill.host import PROC, SYS, usable_memory


def detect(proc: Path = PROC, sys: Path = SYS) -> Machine:
    """This machine with its best backend: Metal on Apple's chips, CUDA, ROCm, else the processor alone."""
    ram = usable_memory(proc, sys)
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return machine("metal", (), ram)
    if cards := nvidia():
        return machine("cuda", cards, ram)
    if cards := amd(sys):
        return machine("rocm", cards, ram)
    return machine(processor(proc), (), ram)


def nvidia() -> tuple[int, ...]:
    """The memory of NVIDIA's cards, as their driver's program tells it."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return tuple(int(line) << 20 for line in done.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()


def amd(sys: Path) -> tuple[int, ...]:
    """The memory of AMD's cards; a processor's own graphics, which have little, do not count."""
    found = []
    for path in sorted(sys.glob("class/drm/card*/device/mem_info_vram_total")):
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return tuple(amount for amount in found if amount >= 4 << 30)


def processor(proc: Path) -> str:
    """The backend that a processor alone is: by its vector instructions on x86, else ARM."""
    if platform.machine().lower() in ("arm64", "aarch64", "armv7l"):
        return "arm"
    try:
        flags = (proc / "cpuinfo").read_text().split()
    except OSError:
        flags = []
    return "cpu-avx512" if "avx512f" in flags else "cpu-avx2"
