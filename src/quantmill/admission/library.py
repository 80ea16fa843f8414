"""A libllama that quantizes, in a process of its own: what a tag of llama.cpp answers to the conformance set.

    python -m quantmill.admission.library LIBRARY

reads a call a line from stdin, as JSON, and prints `done`, or `refused` where the library says no. It may abort; then
the process is gone, and so is the call. The interface is that of llama.h from b8660 on, where parameters are arrays.
"""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from ctypes import Structure, byref, c_bool, c_char, c_char_p, c_double, c_float, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from quantmill.admission.conformance import CHUNKS, DATASET, IMATRIX_NAME, OPTIONS, Call
from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf.types import TYPES
from quantmill.imatrix.legacy import parse
from quantmill.reference.ftypes import FTYPES

FIRST_BUILD = 8660  # whose llama_model_quantize takes arrays


class _Value(ctypes.Union):
    _fields_ = (("whole", c_int64), ("real", c_double), ("yes", c_bool), ("text", c_char * 128))


class _Override(Structure):  # llama_model_kv_override; tag 0 is a whole number, 3 a text
    _fields_ = (("tag", c_int32), ("key", c_char * 128), ("value", _Value))


class _Pattern(Structure):  # llama_model_tensor_override
    _fields_ = (("pattern", c_char_p), ("type", c_int32))


class _Vector(Structure):  # llama_model_imatrix_data
    _fields_ = (("name", c_char_p), ("data", ctypes.POINTER(c_float)), ("size", c_size_t))


class _Params(Structure):  # llama_model_quantize_params, and room for what later tags add at its end
    _fields_ = (
        *((name, c_int32) for name in ("nthread", "ftype", "output_tensor_type", "token_embedding_type")),
        *((name, c_bool) for name in ("allow_requantize", "quantize_output_tensor", "only_copy", "pure", "keep_split")),
        ("dry_run", c_bool),
        *((name, c_void_p) for name in ("imatrix", "kv_overrides", "tt_overrides", "prune_layers")),
        ("room", c_char * 256),
    )


class Library:
    """The library in `folder`, or that file. `answer` writes its file of a call; False where it refuses or aborts."""

    def __init__(self, place: Path, threads: int = 1) -> None:
        self.path, self._threads = find(place), threads
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
            raise QuantmillError(f"{self.path}: {reply.removeprefix('unfit ')}")
        if not reply:
            self.close()
        return reply == "done" and out.exists()

    def processor_seconds(self) -> float:
        """What its process has spent so far, user and system."""
        if self._process is None:
            return 0.0
        text = Path(f"/proc/{self._process.pid}/stat").read_text()
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Let its process go."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> subprocess.Popen[str]:
        folder = str(self.path.parent)
        known = os.environ.get("LD_LIBRARY_PATH")
        env = os.environ | {"LD_LIBRARY_PATH": f"{folder}:{known}" if known else folder, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "quantmill.admission.library", str(self.path)]
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
    found = [path for path in place.rglob("libllama*.so*") if "common" not in path.name]
    own = sorted({path.resolve() for path in found}, key=lambda path: (len(path.parts), path.name))
    same = {path.parent for path in own}
    if not own or len(same) > 1:
        what = "no libllama.so" if not own else f"{len(same)} folders with a libllama.so"
        raise UsageError(f"{place}: {what} in it; give the folder that holds one, or the file itself")
    return own[0]


class Tool:
    """A llama-quantize, each call a process of its own. Any tag's will do."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "llama-quantize" if folder.is_dir() else folder
        if not self.path.is_file():
            raise UsageError(f"{folder}: no llama-quantize in it; give the folder of llama.cpp's programs")

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
            command += ["--imatrix", f"{base.stem}.imatrix"]
        command += [base.name, str(out), ftype.base, "1"]
        done = subprocess.run(command, cwd=base.parent, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return done.returncode == 0 and out.exists()

    def close(self) -> None:
        """Nothing is open."""


def _texts(overrides: Sequence[tuple[str, int, int | bytes]]) -> Any:
    made = (_Override * (len(overrides) + 1))()
    for entry, (key, tag, value) in zip(made, overrides, strict=False):
        entry.tag, entry.key = tag, key.encode()
        if isinstance(value, bytes):
            entry.value.text = value[:127]
        else:
            entry.value.whole = value
    return made


class _Quantizer:
    """The library, loaded into this process."""

    def __init__(self, path: str) -> None:
        self.library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        self.library.llama_model_quantize_default_params.restype = _Params
        self.library.llama_model_quantize.argtypes = (c_char_p, c_char_p, ctypes.POINTER(_Params))
        self.library.llama_model_quantize.restype = ctypes.c_uint32
        self.library.llama_backend_init()
        load = getattr(self.library, "ggml_backend_load_all_from_path", None)
        if load is not None:
            load(os.path.dirname(path).encode())

    def quantize(self, request: dict[str, Any]) -> bool:
        params = self.library.llama_model_quantize_default_params()
        options, kept = OPTIONS[request["options"]], list[Any]()
        ftype = FTYPES[request["ftype"]]
        params.nthread, params.ftype = request["threads"], ftype.id
        params.only_copy = ftype.name == "COPY"
        params.pure = options.get("pure", False)
        params.quantize_output_tensor = not options.get("leave_output_tensor", False)
        for name in ("output_tensor_type", "token_embedding_type"):
            type_ = TYPES[options[name]] if name in options else ftype.embedding_and_output
            if type_ is not None:
                setattr(params, name, type_.id)
        overrides: list[tuple[str, int, int | bytes]] = [
            (key, 0, value) for key, value in options.get("override_kv", ())
        ]
        if request["guided"]:
            overrides += self._guide(params, Path(request["base"]).with_suffix(".imatrix"), kept)
        if overrides:
            kept.append(_texts(overrides))
            params.kv_overrides = ctypes.addressof(kept[-1])
        if patterns := options.get("tensor_types"):
            made = (_Pattern * (len(patterns) + 1))()
            for entry, (pattern, name) in zip(made, patterns, strict=False):
                entry.pattern, entry.type = pattern.encode(), TYPES[name].id
            kept.append(made)
            params.tt_overrides = ctypes.addressof(made)
        if layers := options.get("prune_layers"):
            kept.append((c_int32 * (len(layers) + 1))(*layers, -1))
            params.prune_layers = ctypes.addressof(kept[-1])
        files = (request["base"].encode(), request["out"].encode())
        return bool(self.library.llama_model_quantize(*files, byref(params)) == 0)

    def _guide(self, params: Any, path: Path, kept: list[Any]) -> list[tuple[str, int, int | bytes]]:
        entries, _, _ = parse(str(path), path.read_bytes())
        made = (_Vector * (len(entries) + 1))()
        for vector, entry in zip(made, entries, strict=False):
            kept.append(entry.values)
            vector.name, vector.size = entry.name.encode(), entry.values.size
            vector.data = entry.values.ctypes.data_as(ctypes.POINTER(c_float))
        kept.append(made)
        params.imatrix = ctypes.addressof(made)
        return [
            ("quantize.imatrix.file", 3, IMATRIX_NAME.encode()),
            ("quantize.imatrix.dataset", 3, DATASET),
            ("quantize.imatrix.entries_count", 0, len(entries)),
            ("quantize.imatrix.chunks_count", 0, CHUNKS),
        ]


def main(path: str) -> None:
    """Answer the calls of stdin. The library writes what it likes to stdout, so that ours is put aside first."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        quantizer = _Quantizer(path)
    except (OSError, AttributeError) as error:
        print(f"unfit it cannot be used: {error}", file=answers, flush=True)
        return
    for line in sys.stdin:
        print("done" if quantizer.quantize(json.loads(line)) else "refused", file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
