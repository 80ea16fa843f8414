"""Building targets of llama.cpp's sources with cmake: its library, or its programs."""

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from quantmill.artifact import silent
from quantmill.errors import QuantmillError, UsageError
from quantmill.toolchain.subprogram import ERROR, ToolFailed, run

DEFINITIONS = (
    *("CMAKE_BUILD_TYPE=Release", "GGML_NATIVE=OFF", "GGML_CCACHE=OFF", "LLAMA_CURL=OFF", "LLAMA_OPENSSL=OFF"),
    *("LLAMA_BUILD_TESTS=OFF", "LLAMA_BUILD_EXAMPLES=OFF", "LLAMA_BUILD_SERVER=OFF"),
)
STEP = re.compile(r"^\[ *(\d+)(?:%|/(\d+))\].*\n", re.MULTILINE)  # of make, and of ninja
COMPILER = re.compile(r"No CMAKE_CX*_COMPILER could|CMAKE_CX*_COMPILER not set|is not able to compile|not a full path")


class BuildFailed(QuantmillError):
    """cmake did not build llama.cpp."""


def build(
    tree: Path,
    place: Path,
    targets: Sequence[str],
    definitions: Sequence[str],
    threads: int,
    log: Path,
    progress: Callable[[int, int], None] = silent,
) -> None:
    """Build targets of the sources in `tree` below `place`, with what cmake says in `log`; its own count of steps is
    the progress. UsageError where no compiler works; BuildFailed, naming the log, where it does not build."""

    def heard(said: str) -> None:
        if found := STEP.findall(said):
            done, total = found[-1]
            progress(int(done), int(total or 100))

    program = shutil.which("cmake") or "cmake"
    configure = [program, "-S", str(tree), "-B", str(place), *(f"-D{each}" for each in (*DEFINITIONS, *definitions))]
    compile_ = [program, "--build", str(place), "--parallel", str(threads), "--target", *targets]
    try:
        with open(log, "wb", buffering=0) as file:
            run(configure, "cmake", place.parent, apart=False, log=file)
            run(compile_, "cmake --build", place.parent, heard, apart=False, log=file)
    except ToolFailed as error:
        said = log.read_text(errors="replace")
        if COMPILER.search(said):
            raise UsageError(
                "building llama.cpp needs a compiler of C and C++, and cmake finds none: install one, such as g++, or "
                "name it in CC and CXX"
            ) from None
        lines = (line.strip() for line in said.splitlines() if ERROR.search(line) and not STEP.match(line + "\n"))
        first = next(lines, str(error))
        raise BuildFailed(f"llama.cpp does not build: {first}; all that cmake said is in {log}") from None
