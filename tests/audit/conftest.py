"""A folder served by HTTP on loopback, in ranges; models to audit."""

import http.server
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantmill import gguf
from quantmill.gguf import kv
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import TYPES
from quantmill.imatrix import Entry, encode
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.spans import of_tag


class RangeServer(http.server.ThreadingHTTPServer):
    """`sent`: bytes of files; `ranges`: whether ranges are heeded; `lies`: what is told of
    a file's size beyond it; `cut`: ranges behind the first break off."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.sent, self.ranges, self.lies, self.cut = folder, 0, True, 0, False

    def handle_error(self, request: Any, client_address: Any) -> None: ...  # a client that has enough leaves

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: RangeServer

    def do_GET(self) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data, size = path.read_bytes(), path.stat().st_size + self.server.lies
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if self.server.ranges else None
        if match:
            data = data[int(match[1]) : int(match[2]) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {match[1]}-{int(match[1]) + len(data) - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.server.cut and match and int(match[1]):
            data = data[: len(data) // 2]
        for at in range(0, len(data), 1 << 16):
            self.wfile.write(data[at : at + (1 << 16)])
            self.server.sent += len(data[at : at + (1 << 16)])

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def served(tmp_path: Path) -> Iterator[RangeServer]:
    """The server of the test's own folder."""
    with RangeServer(tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class ToyModel:
    """A base in BF16 with random weights, an importance matrix for it, and what is made of them."""

    def __init__(self, folder: Path, experts: int = 0, seed: int = 1) -> None:
        self.folder, self.experts = folder, experts
        folder.mkdir(parents=True, exist_ok=True)
        self.base, self.imatrix = folder / "base.gguf", folder / "base.imatrix"
        rng = np.random.default_rng(seed)
        self.tensors = list(_tensors(experts))
        self.weights = {
            name: (rng.standard_normal(shape[::-1]) * 0.02).astype(np.float32) for name, shape, _ in self.tensors
        }
        self.write(self.base, self.weights)
        entries = [
            Entry(name, 1, rng.lognormal(0, 1, shape[0] * (*shape, 1, 1)[2]).astype(np.float32))
            for name, shape, _ in self.tensors
            if name.startswith("blk.") and len(shape) > 1
        ]
        self.imatrix.write_bytes(encode(entries, b"calibration.txt", 5))

    def write(self, path: Path, weights: Mapping[str, "np.ndarray[Any, Any]"], **values: object) -> Path:
        arch = "qwen3moe" if self.experts else "qwen3"
        entries: dict[str, Any] = {
            "general.architecture": arch,
            "general.name": "toy",
            f"{arch}.block_count": 2,
            f"{arch}.expert_count": self.experts,
            f"{arch}.attention.head_count": 8,
            f"{arch}.attention.head_count_kv": 4,
            f"{arch}.rope.freq_base": 1e6,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.tokens": [f"token{n}" for n in range(64)],
            "tokenizer.chat_template": "{% for m in messages %}\n{{ m.role }}: {{ m.content }}\n{% endfor %}\n" * 3,
        }
        entries |= {key.replace("__", "."): value for key, value in values.items()}
        with gguf.Writer(path, [kv(key, value) for key, value in entries.items()], self.tensors) as writer:
            for name, _, type_ in self.tensors:
                x = np.ascontiguousarray(weights[name])
                writer.append(x.tobytes() if type_.name == "F32" else (x.view("<u4") >> 16).astype("<u2").tobytes())
        return path

    def quantized(self, ftype: str, tag: str = "b8305", guided: bool = True, **options: Any) -> Path:
        path = self.folder / f"{ftype}-{tag}-{guided}-{len(options)}.gguf"
        imatrix = self.imatrix if guided else None
        quantize_file(options.pop("src", self.base), path, ftype, imatrix=imatrix, reference=of_tag(tag), **options)
        return path


def _tensors(experts: int) -> Iterator[TensorEntry]:
    f32, bf16 = TYPES["F32"], TYPES["BF16"]
    stack, ending = ((experts,), "_exps") if experts else ((), "")
    yield TensorEntry("token_embd.weight", (256, 64), bf16)
    yield TensorEntry("output_norm.weight", (256,), f32)
    yield TensorEntry("output.weight", (256, 64), bf16)
    for n in range(2):
        yield TensorEntry(f"blk.{n}.attn_norm.weight", (256,), f32)
        for name, rows in (("q", 256), ("k", 128), ("v", 128), ("output", 256)):
            yield TensorEntry(f"blk.{n}.attn_{name}.weight", (256, rows), bf16)
        yield TensorEntry(f"blk.{n}.ffn_norm.weight", (256,), f32)
        for name, (columns, rows) in {"gate": (256, 512), "up": (256, 512), "down": (512, 256)}.items():
            yield TensorEntry(f"blk.{n}.ffn_{name}{ending}.weight", (columns, rows, *stack), bf16)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyModel:
    return ToyModel(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> ToyModel:
    return ToyModel(tmp_path_factory.mktemp("mixture"), experts=4)


@pytest.fixture
def patched(tmp_path: Path) -> Callable[..., Path]:
    """A copy of a file whose tensor's bytes a function changed in place."""

    def patch(source: Path, change: Callable[[Any, gguf.TensorInfo], None], name: str = "blk.1.ffn_up.weight") -> Path:
        target = tmp_path / source.name
        shutil.copy(source, target)
        with gguf.read(source) as file:
            info = file.tensors[name]
            data = file.data(info).copy()
            change(data, info)
            with open(target, "r+b") as out:
                out.seek(file.data_offset + info.offset)
                out.write(data.tobytes())
        return target

    return patch
