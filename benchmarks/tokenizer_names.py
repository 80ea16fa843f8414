"""Ask a libllama which vocabularies and pre-tokenizers it knows, as the records of reference/ say.

    python benchmarks/tokenizer_names.py LIBLLAMA TAG

Loads a model without weights for each name of the newest record: a name that is not known is the first thing that the
library complains of. Prints what the library knows and the tag's record does not, and the other way round. A record
has what the span's first tag knows, so that only `unknown` is a fault there. Exit code 1 for such a name.
"""

import ctypes
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from quantmill import gguf
from quantmill.gguf import ValueType, kv
from quantmill.gguf.types import TYPES
from quantmill.reference.spans import of_tag, offered

SIZES = ("context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count")
COMPLAINTS = ("unknown tokenizer", "unknown pre-tokenizer type")


class Params(ctypes.Structure):
    """llama_model_params of any version: passed by value, of which each reads its own size."""

    _fields_ = (("bytes", ctypes.c_char * 1024),)


def write(path: Path, model: str, pre: str) -> None:
    tokens = ["<unk>", "<s>", "</s>", *map(chr, range(0x21, 0x7F)), "ab"]
    entries = [kv("general.architecture", "llama"), *(kv(f"llama.{key}", 32) for key in SIZES)]
    entries += [kv("llama.attention.layer_norm_rms_epsilon", 1e-5, ValueType.FLOAT32)]
    entries += [kv("tokenizer.ggml.model", model), kv("tokenizer.ggml.pre", pre), kv("tokenizer.ggml.tokens", tokens)]
    entries += [kv("tokenizer.ggml.token_type", [1] * len(tokens), subtype=ValueType.INT32)]
    entries += [kv("tokenizer.ggml.merges", ["a b"])]
    with gguf.Writer(path, entries, [("token_embd.weight", (32, 2), TYPES["F16"])]) as writer:
        writer.append(np.zeros(64, np.float16).tobytes())


def load(library: str, path: str) -> None:
    """Loads, in a process of its own; the library says on standard error what it thinks of the file."""
    folder = Path(library).resolve().parent
    llama = ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    llama.llama_backend_init()
    for name in sorted(folder.glob("libggml*.so*")):  # a package of several processors' code loads it when it is told
        ggml = ctypes.CDLL(str(name), mode=ctypes.RTLD_GLOBAL)
        if hasattr(ggml, "ggml_backend_load_all_from_path"):
            ggml.ggml_backend_load_all_from_path(str(folder).encode())
            break
    llama.llama_model_default_params.restype = Params
    llama.llama_model_load_from_file.argtypes = (ctypes.c_char_p, Params)
    llama.llama_model_load_from_file.restype = ctypes.c_void_p
    llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())


def main() -> int:
    if sys.argv[1] == "--load":
        load(*sys.argv[2:4])
        return 0
    library, reference, newest = sys.argv[1], of_tag(sys.argv[2]), offered()[-1]
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.gguf"
        asked = [("model", name, name, "default") for name in newest.tokenizers]
        asked += [("pre", name, "gpt2", name) for name in newest.pre_tokenizers]
        for kind, name, model, pre in asked:
            write(path, model, pre)
            command = [sys.executable, __file__, "--load", library, str(path)]
            said = subprocess.run(command, capture_output=True, text=True, errors="replace")
            knows = not any(complaint in said.stdout + said.stderr for complaint in COMPLAINTS)
            recorded = name in (reference.tokenizers if kind == "model" else reference.pre_tokenizers)
            if knows != recorded:
                failed = failed or not knows
                print(f"{kind} {name}: {'known, not recorded' if knows else 'unknown, but recorded'}")
    print(f"{len(asked)} names asked")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
