"""The programs that check kernels where no test can run them (docs/kernels.md) keep up with the kernels."""

import os
import platform
import shlex
import subprocess
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[2] / "kernels"
X86 = platform.machine() in ("x86_64", "AMD64")
PROGRAMS = {"pipe": [], "infer_same": []} | ({"amx_by_trap": ["-mfma"]} if X86 else {})


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_outside_the_module_compiles(name: str) -> None:
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    options = ["-std=c++17", "-fsyntax-only", f"-I{KERNELS}", "-Wall", "-Wextra", "-Werror", *PROGRAMS[name]]
    source = str(KERNELS / "programs" / f"{name}.cpp")
    done = subprocess.run([*compiler, *options, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
