"""A model's folder in which a text file says odd things: config.json, the tokenizer's files, generation_config.json,
README.md's front matter, the index of its shards. All that reads such a folder has a look."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

from quantmill import gguf
from quantmill.artifact import Artifact, Context
from quantmill.checkpoint.about import about
from quantmill.checkpoint.metadata import metadata
from quantmill.checkpoint.safetensors import INDEX, SINGLE
from quantmill.recipe.base_files import configuration
from quantmill.steps import convert
from quantmill.vocabulary.tokenizer import load

from .gguf_case import attempt
from .safetensors_case import built

SHARD = "model-00001-of-00001.safetensors"
NAMES = ["config.json", "tokenizer.json", "tokenizer_config.json"] * 2
NAMES += ["generation_config.json", "README.md", "bytes", INDEX]
DELETED = object()
ODD = [None, True, False, 0, 1, -1, 2**31, 2**32, 2**63, 2**64, 10**30, 10**400, -(2**63), 0.5, 1e308, -0.0]
ODD += [float("nan"), float("inf"), "", "x", "\0", "\x1b[31m", "../../x", "a" * 100_000, "\ud7ff", "\U0010ffff", []]
ODD += [{}, [[]], [None], [0] * 1000, {"a": {}}, "1e400", "\u2028", ["a", "b"], {"content": "x"}, {"content": None}]
ODD += ["<0x00>", "▁" * 50, " ", [1, 2, 3], DELETED, DELETED, DELETED]
KEYS = ["license", "language", "tags", "base_model", "datasets", "name", "model_name", "pipeline_tag", "license_link"]
KEYS += ["description", "author", "url", "doi", "version", "finetune", "size_label", "base_model_sources"]
VALUES = ["[]", "{}", "null", "1", "1e999", "2020-01-01", "[a,b]", "{a: b}", '"\\ud800"', "!!python/object:os.system x"]
VALUES += ["&a [*a]", '"\\0"', "-", '"' + "a" * 5000 + '"', "[[[[]]]]", "0x" + "f" * 5000, "!!binary aGk=", "!!set {a}"]
VALUES += ["2020-01-01 00:00:00 +24:00", ".nan", "? x", "|-\n  a\n  b", "*x", "<<: {a: 1}", "9" * 5000, "1:30:00"]
VALUES += ["0o7", '"\\x1b[31m"', "https://huggingface.co/a/b/c", "a/b", "[{name: 1}]", "[{name: x, url: [1]}]"]

_BASE: dict[str, bytes] = {}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a value may be another, in a table or list at any depth."""
    keys: Any = value if isinstance(value, dict) else range(min(len(value), 40)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((*path, key), *places(value[key], (*path, key)))]


def odd(data: bytes, rng: random.Random, shallow: bool) -> bytes:
    whole: Any = json.loads(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        found = places(whole)
        if shallow and rng.random() < 0.5:
            found = [path for path in found if len(path) == 1]
        if not found:
            break
        *above, last = rng.choice(found)
        at, value = whole, rng.choice(ODD)
        for key in above:
            at = at[key]
        if value is DELETED:
            del at[last]
        else:
            at[last] = json.loads(json.dumps(value))
    return json.dumps(whole).encode("utf-8", "surrogatepass")


def index_of(names: list[str], rng: random.Random) -> bytes:
    """An index with one thing wrong, or nothing."""
    shard: dict[str, Any] = dict.fromkeys(names, SHARD)
    match rng.randrange(9):
        case 0 | 1 | 2 | 3 as which:
            shard[names[0]] = ("../../../etc/passwd", "/etc/passwd", "x.bin", "tokenizer.json")[which]
        case 4:
            shard = dict.fromkeys(names, f"{SHARD}\0")
        case 5:
            del shard[names[3]]
        case 6:
            shard["new"] = SHARD
        case 7:
            return odd(json.dumps({"metadata": {"total_size": 1}, "weight_map": shard}).encode(), rng, False)
    return json.dumps({"metadata": {"total_size": 1}, "weight_map": shard}).encode()


def changed(files: dict[str, bytes], rng: random.Random) -> str:
    """Changes one of the files; says which."""
    which = rng.choice(NAMES)
    if which == "README.md":
        lines = "".join(f"{rng.choice(KEYS)}: {rng.choice(VALUES)}\n" for _ in range(rng.randrange(1, 6)))
        files[which] = f"---\n{lines}---\n# A model\n".encode()
    elif which == INDEX:
        weights = files.pop(SINGLE)
        header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
        files |= {SHARD: weights, INDEX: index_of([name for name in header if name != "__metadata__"], rng)}
    elif which == "bytes":
        which = rng.choice([name for name in sorted(files) if name != SINGLE])
        data = bytearray(files[which])
        for _ in range(rng.choice([1, 3, 30])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        files[which] = bytes(data)
    else:
        files[which] = odd(files[which], rng, which == "config.json")
    return which


def case(seed: int, folder: Path) -> str:
    """The folder of this seed; which file was changed, and how far it came."""
    rng = random.Random(f"folders {seed}")
    if not _BASE:
        _BASE.update(built(folder / "model", 1))
        _BASE["generation_config.json"] = b'{"bos_token_id": 1, "eos_token_id": [2, 3], "temperature": 0.6}'
        _BASE["README.md"] = b"---\nlicense: mit\ntags: [a, b]\nbase_model: a/b\n---\n# A model\n"
    files = dict(_BASE)
    which = changed(files, rng)
    work, out = folder / "case", folder / "out"
    work.mkdir()
    out.mkdir()
    try:
        paths = {name: work / name for name in files}
        for name, data in files.items():
            paths[name].write_bytes(data)
        attempt(lambda: configuration(paths["config.json"]))
        attempt(lambda: about(paths))
        attempt(lambda: [entry.encode() for entry in metadata(paths, type="BF16", name="X")])
        inputs = {name: Artifact(path, "0" * 64, len(files[name])) for name, path in paths.items()}
        made = attempt(lambda: convert.run(inputs, {"name": "X", "type": "BF16"}, out, Context()))
        assert [path.name for path in out.iterdir()] == (["model.gguf"] if made else [])
        if made:
            with gguf.read(out / "model.gguf") as file:
                assert all(entry.value is not None for entry in file.metadata.values())
            attempt(lambda: load(out / "model.gguf").encode("Hello world! 123 \u4f60\u597d <|im_start|>"))
        return f"{which}: {'converted' if made else 'refused'}"
    finally:
        shutil.rmtree(work)
        shutil.rmtree(out)
