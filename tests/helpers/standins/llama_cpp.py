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
asked.add_argument("--mistral-format", action="store_true")
asked.add_argument("--mmproj", action="store_true")
asked = asked.parse_args()
import gguf
import numpy as np

if bad := [str(path) for path in asked.model.rglob("*") if path.suffix in (".py", ".bin", ".pth", ".gguf")]:
    sys.exit(f"nobody asked for {bad}")
config = json.loads((asked.model / ("params.json" if asked.mistral_format else "config.json")).read_text())
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
if behave == "bare":
    assert config['layers'] == 0
if behave == "lacks":
    (asked.model / "none").read_bytes()
if behave == "network":
    socket.create_connection(("127.0.0.1", config["port"]), timeout=5).sendall(b"here")
if behave == "slow" and not Path(config["mark"]).exists():
    Path(config["mark"]).write_text(str(os.getpid()))
    time.sleep(600)
kinds = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16}
kinds["bf16"] = gguf.GGMLQuantizationType.BF16
kinds["q8_0"] = gguf.GGMLQuantizationType.Q8_0
if asked.mmproj:
    if behave == "blind":
        raise NotImplementedError("vision_config / audio_config not found in hparams")
    writer = gguf.GGUFWriter(asked.outfile, "llama" if behave == "no-projector" else "clip")
    writer.add_type("model" if behave == "no-projector" else "mmproj")
    writer.add_name(asked.model.name)
    writer.add_clip_has_vision_encoder(True)
    for name, shape in (("v.blk.0.attn_q.weight", (64, 64)), ("mm.0.weight", (256, 64)), ("mm.0.bias", (256,))):
        kept = kinds[asked.outtype] if len(shape) > 1 else gguf.GGMLQuantizationType.F32
        array = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(array, kept), raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    sys.exit()
kind = kinds["f16" if behave == "type" else asked.outtype]
parts = ["consolidated.safetensors" if asked.mistral_format else "model.safetensors"]
if not asked.mistral_format and (index := asked.model / "model.safetensors.index.json").is_file():
    parts = sorted(set(json.loads(index.read_text())["weight_map"].values()))
tensors = {}
for part in parts:
    data = (asked.model / part).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    for name, fact in json.loads(data[8 : 8 + size]).items():
        begin, end = (8 + size + at for at in fact["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], np.float32).reshape(fact["shape"])
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
for name, array in tensors.items():
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

_PERPLEXITY = """#!PYTHON
import os, struct, sys, time, zlib
from pathlib import Path

words = sys.argv[1:]
value = {word: after for word, after in zip(words, [*words[1:], ""])}
behave, model, n_ctx = value.get("--behave", ""), Path(value["-m"]), int(value["-c"])
if behave == "fail":
    print("llama_model_load: error loading model: unknown architecture")
    sys.exit(1)
if behave == "slow" and not (mark := Path(value["--mark"])).exists():
    mark.write_text(str(os.getpid()))
    time.sleep(600)
chunks, vocabulary = int(value.get("--chunks", 3)), 300
predictions, rows = Path(value["--kl-divergence-base"]), n_ctx - 1 - n_ctx // 2
sized = struct.pack("<3i", n_ctx, vocabulary, chunks)
body = bytes(4 * chunks * n_ctx + chunks * rows * 2 * (2 * ((vocabulary + 1) // 2) + 4))
if "--kl-divergence" not in words:
    Path(value["-f"]).read_text()
    print(f"perplexity: calculating perplexity over {chunks} chunks, n_ctx={n_ctx}, batch_size=2048, n_seq=16")
    print("[1]10.5,[2]11.0,[3]10.1,")
    print(f"0.01.032.055 I Final estimate: PPL = {'nan' if behave == 'nan' else '10.1000'} +/- 0.25000")
    predictions.write_bytes(b"_logits_" + sized + (body[:100] if behave == "half" else body))
    sys.exit()
if predictions.read_bytes() != b"_logits_" + sized + body:
    sys.exit("these are no predictions")
lost = 1 / model.stat().st_size ** 0.5
print(f"kl_divergence: computing over {chunks} chunks, n_ctx={n_ctx}, batch_size=2048, n_seq=16", flush=True)
print("chunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence")
for chunk in range(1, chunks + 1):
    print(f"{chunk:4d}     137.7251 ±    3.1024       0.00009 ±    0.00097       0.00004 ±    0.00000")
said = {
    "Mean PPL(Q)                   ": f" {10.1 + lost:10.6f} ±   1.584582",
    "Mean    KLD": f"   {lost:.6f} ±   0.000100",
    "Maximum KLD": f"   {9 * lost:.6f}",
    "99.9%   KLD": f"   {8 * lost:.6f}",
    "99.0%   KLD": f"   {7 * lost:.6f}",
    "90.0%   KLD": f"   {4 * lost:.6f}",
    "Median  KLD": f"   {2 * lost:.6f}",
    "Mean    Δp": " -0.010 ± 0.010 %",
    "RMS Δp    ": "  0.700 ± 0.010 %",
    "Same top p": " nan ± nan %" if behave == "nan" else " 90.079 ± 1.887 %",
}
if behave == "old":
    said = {name: text for name, text in said.items() if "90.0" not in name and "Δp" not in name}
if behave == "little":
    del said["Same top p"]
if behave == "twice":
    print("Mean    KLD:   0.5 ± 0.1")
data = "".join(f"{name}:{text}\\n" for name, text in said.items()).encode()
for at in range(len(data)):  # one byte at a time: half of a letter is no letter yet
    os.write(1, data[at : at + 1])
"""

_BENCH = """#!PYTHON
import json, sys

words = sys.argv[1:]
if words == ["--version"] or words == ["--list-devices"]:
    print("version: VERSION (abc)" if words == ["--version"] else "Available devices:\\n  CUDA0: one (1 MiB)")
    sys.exit()
value = {word: after for word, after in zip(words, [*words[1:], ""])}
print("ggml_cuda_init: found 1 device", file=sys.stderr)
facts = {"model_size": 7, "model_n_params": 8, "backends": "CUDA", "build_number": VERSION, "build_commit": "abc"}
rows = [{"n_prompt": int(n), "n_gen": 0, "avg_ts": 100.0} for n in value["-p"].split(",") if n != "0"]
rows += [{"n_prompt": 0, "n_gen": int(n), "avg_ts": 20.0} for n in value["-n"].split(",") if n != "0"]
if "-ngl" in words:
    rows = [{**row, "avg_ts": row["avg_ts"] * 10} for row in rows]
print(json.dumps([{**facts, **row} for row in rows]))
"""

_CMAKE = """cmake_minimum_required(VERSION 3.14)
project(standin CXX)
file(WRITE ${CMAKE_CURRENT_SOURCE_DIR}/build-info.txt "some tags write to their sources")
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_executable(llama-imatrix main.cpp)
add_executable(llama-quantize main.cpp)
add_executable(llama-perplexity main.cpp)
add_executable(llama-bench main.cpp)
add_executable(llama-server broken.cpp)
target_compile_definitions(llama-imatrix PRIVATE NUMBER="${LLAMA_BUILD_NUMBER}")
target_compile_definitions(llama-perplexity PRIVATE NUMBER="${LLAMA_BUILD_NUMBER}")
target_compile_definitions(llama-bench PRIVATE NUMBER="${LLAMA_BUILD_NUMBER}")
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


PROGRAMS = {"llama-imatrix": _IMATRIX, "llama-quantize": _IMATRIX, "llama-perplexity": _PERPLEXITY}
PROGRAMS |= {"llama-bench": _BENCH}


def tools(folder: Path, version: str = TAG[1:], extra: str = "") -> Path:
    """A folder of its programs; `extra` makes them others."""
    folder.mkdir(parents=True)
    for name, text in PROGRAMS.items():
        text = text.replace("PYTHON", sys.executable).replace("SOURCES", str(SOURCES)).replace("VERSION", version)
        (folder / name).write_text(text + extra)
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
