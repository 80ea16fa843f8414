"""A small model in Hugging Face layout with damaged safetensors, index or JSON: opened and converted."""

import copy
import json
import random
import shutil
import struct
from pathlib import Path
from typing import Any

from convert_golden import models, vocabularies
from quantmill import gguf
from quantmill.artifact import Artifact, Context
from quantmill.checkpoint.conversion import TYPES
from quantmill.checkpoint.safetensors import BITS, INDEX, SINGLE, open_weights
from quantmill.steps import convert

from .gguf_case import attempt
from .mutate import ODD, of_bytes

SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VALUES = [None, True, -1, 0, 1.5, "x", [], {}, [[]], [1, "x"], float("nan"), 10**30, "\ud800", *ODD]
Files = dict[str, bytes]


def built(folder: Path, shards: int) -> Files:
    facts = models.config("Qwen2ForCausalLM", "qwen2", rope_theta=1e6) | SIZES | {"num_key_value_heads": 1}
    tokenizer = vocabularies.byte_level(vocabularies.split(vocabularies.QWEN2), [("<|endoftext|>", True, False)])
    settings = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|endoftext|>"}
    files = {"tokenizer.json": tokenizer, "tokenizer_config.json": settings}
    models.write(folder, facts, "BF16", files, models.shapes_of(facts, ("q", "k", "v")), shards)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    return found


_BASES: dict[int, Files] = {}


def odd_header(data: bytes, rng: random.Random) -> bytes:
    """The file with changes to its header's JSON; the data stays."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    for _ in range(rng.choice([1, 1, 2, 3])):
        name = rng.choice(list(header))
        facts = header[name]
        if not isinstance(facts, dict):
            continue
        match rng.randrange(10):
            case 0:
                facts["dtype"] = rng.choice([*BITS, "", "f32", None, 5, "BF16 "])
            case 1:
                facts["shape"] = rng.choice([[], [0], [1] * 65, [2**62, 4], [-1], [1.5], "x", None, [rng.choice(ODD)]])
            case 2 if isinstance(facts.get("shape"), list) and facts["shape"]:
                facts["shape"][rng.randrange(len(facts["shape"]))] = rng.choice(VALUES)
            case 3 if isinstance(facts.get("data_offsets"), list) and facts["data_offsets"]:
                facts["data_offsets"][rng.randrange(len(facts["data_offsets"]))] = rng.choice(VALUES)
            case 4:
                facts["data_offsets"] = rng.choice([[], [0], [0, 0, 0], None, [1, 0], [2**63, 2**64]])
            case 5:
                facts.pop(rng.choice(["dtype", "shape", "data_offsets"]), None)
            case 6:
                header[rng.choice(["", "x", "\ud800", "model.norm.weight", "__metadata__"])] = header.pop(name)
            case 7:
                header[name + "2"] = copy.deepcopy(facts)
            case 8:
                del header[name]
            case 9:
                header[name] = rng.choice(VALUES)
        if not header:
            break
    text = json.dumps(header).encode()
    if rng.random() < 0.15:
        text = of_bytes(text, text[::-1], rng)
    claimed = len(text) if rng.random() < 0.85 else rng.choice([*ODD, len(text) + 1, max(0, len(text) - 1)])
    return struct.pack("<Q", claimed % 2**64) + text + body


def odd_json(data: bytes, rng: random.Random) -> bytes:
    """A JSON file in which some value, at any depth, is another."""
    whole: Any = json.loads(data)
    at = whole
    for _ in range(9):
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = rng.choice(keys) if keys else None
        if key is None:
            break
        inner = at[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.7:
            at = inner
            continue
        if rng.random() < 0.2:
            del at[key]
        else:
            at[key] = rng.choice(VALUES)
        break
    return json.dumps(whole).encode()


def case(seed: int, folder: Path) -> str:
    """The damaged model of this seed; how far it came."""
    rng = random.Random(f"safetensors {seed}")
    shards = rng.choice([1, 1, 2])
    if shards not in _BASES:
        _BASES[shards] = built(folder / "model", shards)
    files = dict(_BASES[shards])
    weights = sorted(name for name in files if name.endswith(".safetensors"))
    damaged = rng.choice(weights)
    match rng.randrange(10):
        case 0 | 1:
            files[damaged] = of_bytes(files[damaged], files[weights[0]][::-1], rng)
        case 2:
            name = rng.choice([name for name in sorted(files) if name.endswith(".json")])
            files[name] = odd_json(files[name], rng)
        case 3 if shards > 1:
            files[INDEX] = odd_json(files[INDEX], rng) if rng.random() < 0.5 else of_bytes(files[INDEX], b"{}", rng)
        case _:
            files[damaged] = odd_header(files[damaged], rng)
    assert (SINGLE in files) == (shards == 1)
    work, out = folder / "case", folder / "out"
    work.mkdir()
    out.mkdir()
    try:
        paths = {name: work / name for name in files}
        for name, data in files.items():
            paths[name].write_bytes(data)
        opened = attempt(lambda: open_weights(paths).close())
        inputs = {name: Artifact(path, "0" * 64, len(files[name])) for name, path in paths.items()}
        type_ = rng.choice(TYPES)
        made = attempt(lambda: convert.run(inputs, {"name": "x", "type": type_}, out, Context()))
        assert [path.name for path in out.iterdir()] == (["model.gguf"] if made else [])
        if made:
            gguf.read(out / "model.gguf").close()
        return "converted" if made else "opened" if opened else "refused"
    finally:
        shutil.rmtree(work)
        shutil.rmtree(out)
