"""Calls that name nothing where something must be named, for the table of wrong calls."""

from collections.abc import Iterator
from typing import NamedTuple

USE, WORK = 2, 1


class Wrong(NamedTuple):
    """A call, its exit code, and what its sentence must hold."""

    call: str
    code: int
    named: str


def says_nothing() -> Iterator[Wrong]:
    """An empty text (EMPTY), spaces (SPACES), several lines (LINES), the end of a folder's path behind a file's."""
    options = {
        "build small --only X": "--only",
        "build small --engine dask --scheduler X": "--scheduler",
        "quantize m.gguf out Q8_0 --llama-cpp X": "--llama-cpp",
        "quantize m.gguf out Q8_0 --imatrix-name X": "--imatrix-name",
        "fit m.gguf out --bits 6 --imatrix i.dat -f text --imatrix-name X": "--imatrix-name",
        "quantize m.gguf out Q8_0 --output-tensor-type X": "--output-tensor-type",
        "quantize m.gguf out Q8_0 --token-embedding-type X": "--token-embedding-type",
        "quantize m.gguf out Q8_0 --imatrix i.dat --include-weights X": "--include-weights",
        "quantize m.gguf out Q8_0 --imatrix i.dat --exclude-weights X": "--exclude-weights",
        "quantize m.gguf out Q8_0 --tensor-type X": "--tensor-type",
        "quantize m.gguf out Q8_0 --override-kv X": "is not an override",
        "quantize m.gguf out Q8_0 --prune-layers X": "--prune-layers",
        "convert TINY out --name X": "--name",
        "convert TINY out --pre-tokenizer X": "--pre-tokenizer",
        "convert TINY out --type X": "--type",
        "split m.gguf folder --prefix X": "--prefix",
        "split m.gguf folder --max-size X": "--max-size",
        "imatrix m.gguf -f text -o out --llama-cpp X": "--llama-cpp",
        "bench m.gguf --runtime X": "--runtime",
        "choose small --vram X": "--vram",
        "choose small --ram X": "--ram",
        "choose small --backend X": "--backend",
        "choose X": "",
        "show X": "",
        "audit X --base m.gguf": "",
        "audit q.gguf --base X": "--base",
        "audit q.gguf --base m.gguf --tag X": "--tag",
        "explain X": "task",
        "explain quant:small/Q8_0 X": "recipe",
        "reproduce X": "",
        "toolchain X --from folder": "",
        "toolchain b11739 --from X": "--from",
        "toolchain b11739 --from folder --cmake X": "--cmake",
        "admit X --lib folder": "",
        "key new out --name X": "--name",
        "cache revoke X": "RECORD",
        "cache revoke 0 --why X": "--why",
        "verify folder --key X": "--key",
        "build X": "no",
        "plan X": "no",
        "lock X": "no",
        "card X": "no",
        "publish X": "no",
    }
    for call, named in options.items():
        yield from (Wrong(call.replace("X", value), USE, named) for value in ("EMPTY", "SPACES", "LINES"))
    paths = [
        "split m.gguf X",
        "imatrix X -f text -o out",
        "imatrix m.gguf -f X -o out",
        "imatrix m.gguf -f text -o X",
        "merge X out",
        "merge t-00001-of-00003.gguf X",
        "perplexity m.gguf -f X",
        "perplexity m.gguf -f text --base X",
        "bench X",
        "generate X -p a --raw",
        "audit q.gguf --base m.gguf --imatrix X",
        "diff X m.gguf",
        "card small -o X",
        "audit q.gguf --base m.gguf --json X",
        "reproduce none --against X",
        "reproduce none --beside X",
        "reproduce none --work X",
        "toolchain b11739 --from folder --python X",
        "admit b5490 --lib X",
        "toolchain b11739 --from folder --tools X",
        "toolchain b11739 --from folder --to X",
        "admit b5490 --source X",
        "admit b5490 --tools X",
        "admit b5490 --lib folder --to X",
        "key new X",
        "-C X plan small",
        "build small --engine dask --scheduler tls://x --tls-ca X",
    ]
    for call in paths:
        yield Wrong(call.replace("X", "EMPTY"), USE, "''")
    for call in ("show X", "audit X --base m.gguf", "audit q.gguf --base X", "build X", "explain quant:small/Q8_0 X"):
        yield Wrong(call.replace("X", "m.gguf/"), USE, "m.gguf/: there is no such")
    for call in ("show X", "audit X --base m.gguf", "audit q.gguf --base X", "verify X", "diff X m.gguf", "bench X"):
        yield Wrong(call.replace("X", "/dev/null"), USE, "/dev/null: this is no file; give")
    yield Wrong("build recipes/small.toml/", USE, "recipes/small.toml/: there is no such recipe")
    for value in (".", "folder", "none/out", "text/", "i.dat"):
        yield Wrong(f"audit q.gguf --base m.gguf --imatrix i.dat --json {value}", USE, value.removesuffix("/out"))
    for value in (".", "folder", "none/out", "text/", "/dev/null"):
        yield Wrong(f"admit b5490 --lib folder --to {value}", USE, value.removesuffix("/out"))
    yield Wrong("admit b5490 --lib text", USE, "text: it cannot be used")
    yield Wrong("toolchain b11739 --from folder --to text", USE, "text: this is no folder")
    yield Wrong(
        "toolchain b11739 --from none --only converter --to new/folder", USE, "none: there is no such folder or archive"
    )
    yield Wrong("toolchain b11739 --from folder --cmake GGML_CUDA", USE, "--cmake: 'GGML_CUDA' is no definition")
    yield Wrong("reproduce folder --work text", USE, "text: this is no folder")
    yield Wrong("generate m.gguf -p a --raw --system b", USE, "--system")
