"""A libllama that quantizes, in a process of its own: what a tag of llama.cpp answers to the conformance set.

    python -m quantmill.admission.library LIBRARY arrays|containers

reads a call a line from stdin, as JSON, and prints `done`, or `refused` where the library says no. It may abort; then
the process is gone, and so is the call, with tables that take seconds. Where that is likely, a fork answers, and says
`aborted`. Parameters are arrays from b8660 on, and C++'s containers before.
"""

import ctypes
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from ctypes import byref, c_char_p
from pathlib import Path
from typing import Any

from quantmill.admission.c_params import Arrays, Containers, Params
from quantmill.admission.conformance import IMATRIX_NAME, OPTIONS, Call
from quantmill.errors import UsageError
from quantmill.reference.ftypes import FTYPES

FIRST_BUILD = 8660  # whose llama_model_quantize takes arrays
UNSURE = range(8590, FIRST_BUILD)  # b8589's takes containers
ARRAYS, CONTAINERS = "arrays", "containers"
# Where ggml aborts it has a debugger show a trace, which takes seconds.
SETTINGS = {"OMP_NUM_THREADS": "1", "GGML_NO_BACKTRACE": "1"}


def form_of(tag: str) -> str:
    """How the library of a tag takes its parameters; UsageError where that is not known."""
    build = int(tag[1:]) if tag.startswith("b") else FIRST_BUILD
    if build in UNSURE:
        raise UsageError(
            f"how a library of {tag} takes its parameters is not known; give its sources with --source or its "
            "llama-quantize with --tools"
        )
    return ARRAYS if build >= FIRST_BUILD else CONTAINERS


class Library:
    """The library in the folder `place`, or that file, and the form of its parameters. `answer` writes its file of a
    call; False where it refuses or aborts, and then `aborted` says which."""

    def __init__(self, place: Path, form: str = ARRAYS, threads: int = 1) -> None:
        self.path, self._form, self._threads = find(place), form, threads
        self.aborted = False
        self._process: subprocess.Popen[str] | None = None

    def answer(self, call: Call, base: Path, out: Path) -> bool:
        """Whether `out` is now the library's file of the call on a base, whose imatrix lies beside it."""
        out.unlink(missing_ok=True)
        process = self._process or self._start()
        request = {**vars(call), "base": str(base), "out": str(out), "threads": self._threads}
        try:
            reply = _ask(process, json.dumps(request))
        except BrokenPipeError:
            reply = ""
        if reply.startswith("unfit"):
            raise UsageError(f"{self.path}: {reply.removeprefix('unfit ')}")
        if not reply:
            self.close()
        self.aborted = reply in ("", "aborted")
        return reply == "done" and out.exists()

    def processor_seconds(self) -> float:
        """What its processes have spent so far, user and system."""
        if self._process is None:
            return 0.0
        text = Path(f"/proc/{self._process.pid}/stat").read_text()
        own_and_ended = text.rpartition(")")[2].split()[11:15]
        return sum(map(int, own_and_ended)) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Let its process go."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        folder = str(self.path.parent)
        known = os.environ.get("LD_LIBRARY_PATH")
        env = os.environ | SETTINGS | {"LD_LIBRARY_PATH": f"{folder}:{known}" if known else folder}
        command = [sys.executable, "-m", "quantmill.admission.library", str(self.path), self._form]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=env, text=True
        )
        return self._process


def _ask(process: subprocess.Popen[str], request: str) -> str:
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process has no pipes")
    process.stdin.write(request + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def find(place: Path) -> Path:
    """The libllama in a folder or below it, or the file itself; UsageError where there is none, or several."""
    if place.is_file():
        return place.resolve()
    if not place.is_dir():
        what = "this is no file" if place.exists() else "there is no such folder or file"
        raise UsageError(f"{place}: {what}; give the one that holds libllama.so")
    found = [path for path in place.rglob("libllama*.so*") if "common" not in path.name]
    own = sorted({path.resolve() for path in found}, key=lambda path: (len(path.parts), path.name))
    same = {path.parent for path in own}
    if not own or len(same) > 1:
        what = "no libllama.so" if not own else f"{len(same)} folders with a libllama.so"
        raise UsageError(f"{place}: {what} in it; give the folder that holds one, or the file itself")
    return own[0]


class Tool:
    """A llama-quantize, each call a process of its own. Any tag's will do. `aborted`: it did at the last call."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "llama-quantize" if folder.is_dir() else folder
        if not self.path.is_file():
            what = "no llama-quantize in it" if folder.is_dir() else "there is no such folder"
            raise UsageError(f"{folder}: {what}; give the folder of llama.cpp's programs")
        self.path, self.aborted = self.path.resolve(), False  # it runs elsewhere

    def answer(self, call: Call, base: Path, out: Path) -> bool:
        """Whether `out` is now the tool's file of the call on a base, whose imatrix lies beside it."""
        out.unlink(missing_ok=True)
        ftype, options = FTYPES[call.ftype], OPTIONS[call.options]
        large = ftype.embedding_and_output
        command = [str(self.path), *["--pure"] * options.get("pure", False)]
        command += ["--leave-output-tensor"] * options.get("leave_output_tensor", False)
        for name in ("output_tensor_type", "token_embedding_type"):
            if type_ := options.get(name, large and large.name):
                command += [f"--{name.replace('_', '-')}", type_.lower()]
        for pattern, name in options.get("tensor_types", ()):
            command += ["--tensor-type", f"{pattern}={name.lower()}"]
        for key, value in options.get("override_kv", ()):
            command += ["--override-kv", f"{key}=int:{value}"]
        if layers := options.get("prune_layers"):
            command += ["--prune-layers", ",".join(map(str, layers))]
        if call.guided:
            shutil.copyfile(base.with_suffix(".imatrix"), base.parent / IMATRIX_NAME)
            command += ["--imatrix", IMATRIX_NAME]
        command += [base.name, str(out), ftype.base, "1"]
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True}
        done = subprocess.run(command, cwd=base.parent, env=os.environ | SETTINGS, check=False, **pipes)
        self.aborted = done.returncode < 0
        return done.returncode == 0 and out.exists()

    def close(self) -> None:
        """Nothing is open."""


class _Quantizer:
    """The library, loaded into this process."""

    def __init__(self, path: str, made: type[Arrays]) -> None:
        self._made = made
        self.library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        self.library.llama_model_quantize_default_params.restype = Params
        self.library.llama_model_quantize.argtypes = (c_char_p, c_char_p, ctypes.POINTER(Params))
        self.library.llama_model_quantize.restype = ctypes.c_uint32
        self.library.llama_backend_init()
        load = getattr(self.library, "ggml_backend_load_all_from_path", None)
        if load is not None:
            load(os.path.dirname(path).encode())

    def answer(self, request: dict[str, Any]) -> str:
        """`done` or `refused`, by a fork where the library may stop and tables be lost.

        It may where an option gives an embedding a type that its width or its want of importance forbids, and for
        want of a projector's heads.
        """
        type_ = FTYPES[request["ftype"]].type
        if request["model"] != "clip" and not (request["options"] and type_.name.startswith("IQ")):
            return "done" if self.quantize(request) else "refused"
        if init := getattr(self.library, "ggml_quantize_init", None):
            init(type_.id)  # makes its tables, unless they are there
        fork = multiprocessing.get_context("fork")
        told, tell = fork.Pipe(duplex=False)
        child = fork.Process(target=lambda: tell.send(self.quantize(request)))
        child.start()
        tell.close()
        try:
            return "done" if told.recv() else "refused"
        except EOFError:
            return "aborted"
        finally:
            child.join()

    def quantize(self, request: dict[str, Any]) -> bool:
        params = self.library.llama_model_quantize_default_params()
        params.nthread = request["threads"]
        guide = Path(request["base"]).with_suffix(".imatrix") if request["guided"] else None
        filled = self._made()
        filled.fill(params, FTYPES[request["ftype"]], OPTIONS[request["options"]], guide)
        files = (request["base"].encode(), request["out"].encode())
        return bool(self.library.llama_model_quantize(*files, byref(params)) == 0)


def main(path: str, form: str) -> None:
    """Answer the calls of stdin. The library writes what it likes to stdout, so that ours is put aside first."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        quantizer = _Quantizer(path, Arrays if form == ARRAYS else Containers)
    except (OSError, AttributeError) as error:
        print(f"unfit it cannot be used: {error}", file=answers, flush=True)
        return
    for line in sys.stdin:
        print(quantizer.answer(json.loads(line)), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
