"""Build the libllama of a llama.cpp source tree with cmake, and nothing else of it."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from quantmill.admission.library import ARRAYS, CONTAINERS
from quantmill.artifact import silent
from quantmill.errors import UsageError
from quantmill.toolchain import cmake

ALONE = ("BUILD_SHARED_LIBS=ON", "LLAMA_BUILD_COMMON=OFF", "LLAMA_BUILD_TOOLS=OFF", "LLAMA_BUILD_APP=OFF")
LOG = "quantmill.log"


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
    if shutil.which("cmake") is None:
        raise UsageError("building llama.cpp needs cmake, which is not here: pip install cmake, or give --lib")
    place = folder.absolute() / hashlib.sha256(os.fsencode(tree.resolve())).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    cmake.build(tree.resolve(), place, ["llama"], ALONE, threads, place / LOG, progress)
    return place / "bin"
