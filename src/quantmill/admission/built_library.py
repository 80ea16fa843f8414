"""Build the libllama of a llama.cpp source tree with cmake, and nothing else of it."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from quantmill.admission.library import ARRAYS, CONTAINERS
from quantmill.artifact import silent
from quantmill.errors import QuantmillError, UsageError

OFF = (
    *("GGML_NATIVE", "GGML_CCACHE", "LLAMA_CURL", "LLAMA_BUILD_COMMON", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_TOOLS"),
    *("LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_SERVER"),
)
LOG = "quantmill.log"
STEP = re.compile(rb"\[ *(\d+)(?:%|/(\d+))\]")  # of make, and of ninja
COMPILER = re.compile(rb"No CMAKE_CX*_COMPILER could|CMAKE_CX*_COMPILER not set|is not able to compile|not a full path")


class BuildFailed(QuantmillError):
    """cmake did not build the library."""


def form_of(tree: Path) -> str:
    """How the library of a tree takes its parameters."""
    header = tree / "include" / "llama.h"
    return ARRAYS if "llama_model_imatrix_data" in header.read_text(errors="replace") else CONTAINERS


def build(tree: Path, folder: Path, threads: int, progress: Callable[[int, int], None] = silent) -> Path:
    """The folder of the library of the sources in `tree`, built below `folder`, where a second call finds it made.
    UsageError where the tree, cmake or a compiler is missing; BuildFailed, naming the log, where it does not build."""
    for path in (tree / "CMakeLists.txt", tree / "include" / "llama.h"):
        if not path.is_file():
            raise UsageError(f"{tree}: no sources of llama.cpp, it has no {path.relative_to(tree)}; give its root")
    cmake = shutil.which("cmake")
    if cmake is None:
        raise UsageError("building llama.cpp needs cmake, which is not here: pip install cmake, or give --lib")
    place = folder / hashlib.sha256(os.fsencode(tree.resolve())).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    with open(place / LOG, "wb", buffering=0) as log:
        configure = [cmake, "-S", str(tree.resolve()), "-B", str(place), "-DCMAKE_BUILD_TYPE=Release"]
        configure += ["-DBUILD_SHARED_LIBS=ON", *(f"-D{name}=OFF" for name in OFF)]
        _run(configure, log, silent)
        _run([cmake, "--build", str(place), "--target", "llama", "--parallel", str(threads)], log, progress)
    return place / "bin"


def _run(command: list[str], log: IO[bytes], progress: Callable[[int, int], None]) -> None:
    """Run cmake, with its words in the log; its own count of steps is the progress."""
    said = []
    pipes: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, start_new_session=True, **pipes) as done:
        try:
            for line in done.stdout or ():
                log.write(line)
                said.append(line)
                if step := STEP.match(line):
                    progress(int(step[1]), int(step[2] or 100))
        except BaseException:
            os.killpg(done.pid, signal.SIGTERM)  # with make and the compilers that it began
            raise
    if done.returncode:
        text = b"".join(said)
        if COMPILER.search(text):
            raise UsageError(
                "building llama.cpp needs a compiler of C and C++, and cmake finds none: install one, such as g++, or "
                "name it in CC and CXX"
            )
        wrong = [line for line in text.decode(errors="replace").splitlines() if re.search("error", line, re.I)]
        first = wrong[0].strip() if wrong else f"cmake ended with {done.returncode}"
        raise BuildFailed(f"llama.cpp does not build: {first}; all that cmake said is in {log.name}")
