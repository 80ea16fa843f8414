"""A damaged text or small file that a stranger or a careless hand wrote: a recipe, a lock, quantmill.toml, a signed
record, a list of chunks, a SentencePiece vocabulary, an importance matrix, the reports of a release."""

import json
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convert_golden.vocabularies import spm_model
from quantmill.imatrix import legacy
from quantmill.listing import parse_strangers
from quantmill.recipe import lock, recipe
from quantmill.released import bench, quality
from quantmill.store.key import StepKey
from quantmill.store.remote import settings, trust
from quantmill.store.remote.transfer import _parse
from quantmill.vocabulary.sentencepiece import pieces

from .gguf_case import attempt

ROOT = Path(__file__).resolve().parents[3]
KEY = StepKey("quant", 2, 1, {"a": 1}, {"model.gguf": "a" * 64})
ODD = [b'"', b"[", b"{", b"\0", b"\xff" * 9, b"-1", b"1e999", b"null", b"\x1b[31m", b"\\ud800", b"\n", b"9" * 20]
ODD += [b"[[[[[", b"true", b'""', b"\xff\xff\xff\x7f", b"inf", b"nan", b"1979-05-27", b"'''", b"= ", b"."]
NUMBERS = [b"0", b"-1", b"1e400", b"18446744073709551616", b"9" * 5000, b"0x" + b"f" * 6000, b"1.5"]
RECIPE = """
[[quants.override]]
ftypes = ["Q4_K_M"]
tensors = { "a" = "Q8_0" }
[card]
tags = ["a"]
[publish]
owner = "x"
[verify]
max_kld = 0.1
[bench]
"""
SETTINGS = """
[store]
url = "s3://a/b"
chunk = "1MiB"
max_age = "30d"
[[store.key]]
name = "x"
public = "{}"
expires = 2030-01-01
"""
REPORT = {
    "quality": {"perplexity": 9.5, "perplexity_error": 0.1, "kld": {"mean": 0.01}, "top1": 0.9},
    "host": {"cpu": "x", "threads": 4},
    "rows": [{"ts": 1.5, "sd": 0.1, "ftype": "Q4_0", "test": "pp512", "percent_of_q4_0": 100}],
}


class Bases:
    """What is damaged, and who reads it; made once."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self.public = settings.PublicKey("x", trust.new_key(Path(folder) / "key"))
            self.record = trust.Signer(f"{folder}/key", [self.public]).seal(KEY, {"model.gguf": ("b" * 64, 5)}, "t")
        listing = {"size": 1 << 20, "chunk": 1 << 17, "chunks": ["a" * 64] * 8}
        tiny = ROOT / "recipes" / "tiny.toml"
        self.all: dict[str, tuple[bytes, Callable[[bytes, Path], Any]]] = {
            "a vocabulary": (spm_model(), lambda data, folder: pieces(data)),
            "a record": (self.record, self.unseal),
            "a lock": (tiny.with_suffix(".lock").read_bytes(), self.lock),
            "a recipe": (tiny.read_bytes() + RECIPE.encode(), self.recipe),
            "settings": (SETTINGS.format(settings.format_public(self.public.public)).encode(), self.settings),
            "a matrix": ((ROOT / "recipes/tiny/imatrix.dat").read_bytes(), lambda data, at: legacy.vectors("x", data)),
            "chunks": (json.dumps(listing).encode(), lambda data, folder: _parse(data, "0" * 64, 1 << 20)),
            "a report": (json.dumps(REPORT).encode(), self.report),
        }

    def unseal(self, data: bytes, folder: Path) -> None:
        _, found = trust.unseal(data, KEY.digest(), [self.public], time.time())
        assert found.outputs == {"model.gguf": ("b" * 64, 5)}, "a record that nobody signed"

    def lock(self, data: bytes, folder: Path) -> None:
        (folder / "x.lock").write_bytes(data)
        lock.read(folder / "x.lock").text()

    def recipe(self, data: bytes, folder: Path) -> None:
        (folder / "x.toml").write_bytes(data)
        recipe.load(folder / "x.toml")

    def settings(self, data: bytes, folder: Path) -> None:
        (folder / "quantmill.toml").write_bytes(data)
        if found := settings.find(folder, {}):
            assert found.address

    def report(self, data: bytes, folder: Path) -> None:
        found = parse_strangers(data)
        quality(found)
        bench(found)


_BASES: list[Bases] = []


def damaged(data: bytes, rng: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 10])):
        if not made:
            break
        at = rng.randrange(len(made))
        match rng.randrange(8):
            case 0:
                made[at] ^= 1 << rng.randrange(8)
            case 1:
                made[at] = rng.randrange(256)
            case 2:
                del made[at : at + rng.randrange(1, 20)]
            case 3:
                made[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                made[at:at] = rng.choice(ODD)
            case 5:
                other = rng.randrange(len(made))
                made[at : at + 8] = made[other : other + 8]
            case 6:
                del made[at:]
            case _:
                if numbers := list(re.finditer(rb"\d+", bytes(made))):
                    number = rng.choice(numbers)
                    made[number.start() : number.end()] = rng.choice(NUMBERS)
    return bytes(made)


def case(seed: int, folder: Path) -> str:
    """The damaged text of this seed; whether it was taken."""
    rng = random.Random(f"texts {seed}")
    if not _BASES:
        _BASES.append(Bases())
    name = rng.choice(list(_BASES[0].all))
    data, read = _BASES[0].all[name]
    data = damaged(data, rng)
    work = folder / "case"
    work.mkdir()
    try:
        return f"{name}: {'taken' if attempt(lambda: read(data, work)) else 'refused'}"
    finally:
        shutil.rmtree(work)
