"""A stand-in for a llama.cpp: sources with a converter and a build, tools, and a checkpoint that only it knows.

Its programs are real: the converter writes GGUF files by the `gguf` package, llama-imatrix is our own imatrix or, where
our engine does not know the model, sums made up from the tensors' names. What they do wrong is asked for by the
checkpoint's `behave` or by `--behave`.
"""

import json
import os
import struct
import sys
from pathlib import Path

import numpy as np

import quantmill
from projects import Project

TAG = "b11312"
SOURCES = Path(quantmill.__file__ or "").parents[1]
WIDTH, LAYERS, VOCABULARY = 256, 2, 300

_CONVERTER = """
import argparse, json, os, socket, struct, sys, time
from pathlib import Path

asked = argparse.ArgumentParser()
for name in ("--outtype", "--outfile"):
    asked.add_argument(name)
asked.add_argument("model", type=Path)
asked = asked.parse_args()
import gguf
import numpy as np

config = json.loads((asked.model / "config.json").read_text())
behave = config.get("behave", "")
if behave == "fail":
    print("INFO: looking at the model", file=sys.stderr)
    raise NotImplementedError("Architecture 'StandInForCausalLM' is not supported")
if behave == "garbage":
    Path(asked.outfile).write_bytes(os.urandom(5000))
    sys.exit()
if behave == "noise":
    for _ in range(40):
        os.write(2, os.urandom(50_000))
    sys.exit(3)
if behave == "nothing":
    sys.exit()
if behave == "network":
    socket.create_connection(("127.0.0.1", config["port"]), timeout=5).sendall(b"here")
if behave == "slow" and not Path(config["mark"]).exists():
    Path(config["mark"]).write_text(str(os.getpid()))
    time.sleep(600)
kinds = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16}
kinds["bf16"] = gguf.GGMLQuantizationType.BF16
kind = kinds["f16" if behave == "type" else asked.outtype]
data = (asked.model / "model.safetensors").read_bytes()
(size,) = struct.unpack("<Q", data[:8])
header = json.loads(data[8 : 8 + size])
writer = gguf.GGUFWriter(asked.outfile, config["gguf"])
writer.add_type("model")
writer.add_name(asked.model.name)
writer.add_context_length(2048)
writer.add_embedding_length(config["width"])
writer.add_feed_forward_length(2 * config["width"])
writer.add_block_count(config["layers"])
writer.add_head_count(4)
writer.add_head_count_kv(4)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_dimension_count(config["width"] // 4)
writer.add_vocab_size(config["vocabulary"])
writer.add_file_type({"f32": 0, "f16": 1, "bf16": 32}[asked.outtype])
writer.add_tokenizer_model("llama")
writer.add_tokenizer_pre("default")
bytes_ = ["<0x%02X>" % i for i in range(256)]
tokens = ["<unk>", "<s>", "</s>", *bytes_]
tokens += [chr(0x2581) + chr(97 + i % 26) * (1 + i // 26) for i in range(config["vocabulary"] - len(tokens))]
writer.add_token_list(tokens)
writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(tokens) - 259)])
writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259))
for name, fact in header.items():
    begin, end = fact["data_offsets"]
    array = np.frombuffer(data[8 + size + begin : 8 + size + end], np.float32).reshape(fact["shape"])
    kept = kind if array.ndim > 1 else gguf.GGMLQuantizationType.F32
    writer.add_tensor(name, gguf.quants.quantize(array, kept), raw_dtype=kept)
print("Writing:  50%|#####     | 1.0/2.0", file=sys.stderr)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
if behave == "half":
    os.truncate(asked.outfile, os.path.getsize(asked.outfile) // 2)
print("INFO: EXTRA", file=sys.stderr)
"""

_IMATRIX = """#!PYTHON
import os, sys, time, zlib
from pathlib import Path

sys.path.insert(0, "SOURCES")
import numpy as np

words = sys.argv[1:]
if words == ["--version"] or words == ["--list-devices"]:
    print("version: VERSION (abc)" if words == ["--version"] else "Available devices:\\n  CUDA0: one (1 MiB)")
    sys.exit()
model, text, out = (words[words.index(name) + 1] for name in ("-m", "-f", "-o"))
behave = words[words.index("--behave") + 1] if "--behave" in words else ""
if behave == "fail":
    print("llama_model_load: error loading model: unknown architecture")
    print("main : failed to init")
    sys.exit(1)
if behave == "garbage":
    Path(out).write_bytes(os.urandom(3000))
    sys.exit()
if behave == "slow" and not (mark := Path(words[words.index("--mark") + 1])).exists():
    Path(out).write_bytes(b"GGUF and half of what follows")
    mark.write_text(str(os.getpid()))
    time.sleep(600)
if behave == "nothing":
    sys.exit()
from quantmill import gguf
from quantmill.errors import QuantmillError
from quantmill.imatrix import gguf_form

print("compute_imatrix: computing over 4 chunks, n_ctx=128")
print("[1]10.5,[2]11.0,[3]-nan,[4]10.1,")
print("Final estimate: PPL = 10.1000 +/- 0.25000")
from quantmill.cli import main

options = ["--n-ctx", words[words.index("-c") + 1], "--output-format", "gguf", "--threads", "1"]
try:
    main(["imatrix", model, "-f", text, "-o", out, *options])
except SystemExit as done:
    if done.code:
        with gguf.read(Path(model)) as file:
            sums = {}
            for name, shape, _ in file.tensor_entries():
                if len(shape) == 2 and name.startswith("blk."):
                    random = np.random.default_rng(zlib.crc32(name.encode()))
                    sums[name] = random.random((1, shape[0]), np.float32), np.full(1, 512, np.float32)
        Path(out).unlink(missing_ok=True)
        gguf_form.write(Path(out), gguf_form.ImatrixFile(sums, (text.encode(),), 4, 128))
if behave == "half":
    os.truncate(out, os.path.getsize(out) // 2)
"""

_CMAKE = """cmake_minimum_required(VERSION 3.14)
project(standin CXX)
file(WRITE ${CMAKE_CURRENT_SOURCE_DIR}/build-info.txt "some tags write to their sources")
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_executable(llama-imatrix main.cpp)
add_executable(llama-quantize main.cpp)
add_executable(llama-server broken.cpp)
target_compile_definitions(llama-imatrix PRIVATE NUMBER="${LLAMA_BUILD_NUMBER}")
target_compile_definitions(llama-quantize PRIVATE NUMBER="${LLAMA_BUILD_NUMBER}")
"""


def sources(folder: Path, extra: str = "") -> Path:
    """Sources with a converter and a build; `extra` makes them others."""
    (folder / "gguf-py").mkdir(parents=True)
    (folder / "convert_hf_to_gguf.py").write_text(_CONVERTER)
    (folder / "CMakeLists.txt").write_text(_CMAKE)
    (folder / "main.cpp").write_text('#include <cstdio>\nint main() { std::puts("version: " NUMBER " (abc)"); }\n')
    (folder / "broken.cpp").write_text("nobody builds this\n")
    (folder / "requirements.txt").write_text("")
    (folder / "gguf-py" / "README.md").write_text(f"stand-in{extra}\n")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("no source")
    return folder


def tools(folder: Path, version: str = TAG[1:]) -> Path:
    """A folder of its programs."""
    folder.mkdir(parents=True)
    text = _IMATRIX.replace("PYTHON", sys.executable).replace("SOURCES", str(SOURCES)).replace("VERSION", version)
    for name in ("llama-imatrix", "llama-quantize"):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def checkpoint(folder: Path, gguf: str = "chatglm", **more: object) -> Path:
    """A model in Hugging Face layout of a class that our own converter does not know."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {"architectures": ["StandInForCausalLM"], "gguf": gguf, "width": WIDTH, "layers": LAYERS}
    (folder / "config.json").write_text(json.dumps({**known, "vocabulary": VOCABULARY, **more}))
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, WIDTH), "output_norm.weight": (WIDTH,)}
    parts = {"attn_q": WIDTH, "attn_k": WIDTH, "attn_v": WIDTH} if gguf == "llama" else {"attn_qkv": 3 * WIDTH}
    up = {"ffn_gate": 2 * WIDTH, "ffn_up": 2 * WIDTH} if gguf == "llama" else {"ffn_up": 4 * WIDTH}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.{part}.weight": (rows, WIDTH) for part, rows in (parts | up).items()}
        shapes |= {f"blk.{layer}.{part}.weight": (WIDTH,) for part in ("attn_norm", "ffn_norm")}
        shapes[f"blk.{layer}.attn_output.weight"] = (WIDTH, WIDTH)
        shapes[f"blk.{layer}.ffn_down.weight"] = (WIDTH, 2 * WIDTH)
    shapes["output.weight"] = (VOCABULARY, WIDTH)
    random, header, data = np.random.default_rng(7), {}, b""
    for name, shape in shapes.items():
        array = random.standard_normal(shape).astype(np.float32) / (1 if len(shape) == 1 else 16)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


RECIPE = f"""
llama_cpp = "{TAG}"
prefix = "small"

[base]
path = "standin"
name = "Stand In"

[convert]
with = "llama.cpp"

[calibration]
text = "text.txt"
n_ctx = 128

[imatrix]
with = "llama.cpp"

[quants]
matrix = ["BF16", "Q8_0", "IQ3_XXS"]
"""


def standin_project(folder: Path, text: str = RECIPE, **config: object) -> Project:
    """A project whose recipe `small` is of a stand-in's checkpoint."""
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / "small.toml").write_text(text)
    (folder / "recipes" / "text.txt").write_text("a quick brown fox and so on, once more. " * 200)
    checkpoint(folder / "recipes" / "standin", **config)
    return Project(folder)


def ready(project: Project, folder: Path, tree: Path, programs: Path) -> dict[str, str]:
    """A toolchain in `folder`, and the environment that names it."""
    call = ("toolchain", TAG, "--from", str(tree), "--python", sys.executable, "--tools", str(programs))
    project.run("quantmill", *call, "--to", str(folder))
    return {"QUANTMILL_LLAMA_CPP": str(folder)}


def alive(pid: int) -> bool:
    """Whether a process of that number is at work."""
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
