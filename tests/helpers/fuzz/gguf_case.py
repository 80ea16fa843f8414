"""One damaged GGUF file (or set of shards, or imatrix) on its way through everything that reads such files.

Whatever is wrong with it, the only exceptions are QuantmillErrors of one sentence, nothing half-made stays behind, and
what is made of it can be verified.
"""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantmill import gguf, imatrix
from quantmill.errors import QuantmillError
from quantmill.gguf.layout import TensorInfo
from quantmill.gguf.reader import GGUFFile
from quantmill.gguf.types import TYPES
from quantmill.gguf.verification import check_tokens
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.ftypes import FTYPES
from quantmill.reference.spans import offered

from . import mutate, parts

BASES = parts.bases()
_MAPPED = GGUFFile.data


def _copied(file: GGUFFile, info: TensorInfo) -> NDArray[np.uint8]:
    """The tensor in memory of its own, around which a sanitizer sees every access."""
    return np.array(_MAPPED(file, info))


def attempt(work: Callable[[], Any]) -> bool:
    """Whether the work succeeds; it may fail with one sentence."""
    try:
        work()
    except QuantmillError as error:
        message = str(error)
        assert message, "an error without a sentence"
        assert "\n" not in message, f"an error of several lines: {message!r}"
        assert len(message) < 1500, f"an endless error: {message[:100]!r}"
        return False
    return True


def looked_at(path: Path) -> None:
    with gguf.read(path) as file:
        for entry in file.metadata.values():
            assert entry.value is not None
            assert len(entry.encode()) > 8
            entry.canonical()
        for info in file.tensors.values():
            assert file.data(info).size == info.nbytes
        gguf.shard_sizes(file.metadata.values(), gguf.describe(file.tensors.values()), 4096)


def options(rng: random.Random) -> dict[str, Any]:
    types = list(TYPES)
    found: dict[str, Any] = {"allow_requantize": rng.random() < 0.95, "reference": rng.choice(offered())}
    if rng.random() < 0.15:
        found["tensor_types"] = [(rng.choice(["attn_v", "ffn", ".*", "weight"]), rng.choice(types))]
    if rng.random() < 0.1:
        found["output_tensor_type"] = rng.choice(types)
    if rng.random() < 0.1:
        found["token_embedding_type"] = rng.choice(types)
    if rng.random() < 0.1:
        found["pure"] = True
    if rng.random() < 0.1:
        found["leave_output_tensor"] = True
    if rng.random() < 0.05:
        found["threads"] = 2
    if rng.random() < 0.1:
        found["keep_split"] = True
    return found


def case(seed: int, folder: Path) -> str:
    """The damaged file of this seed; how far it came."""
    rng = random.Random(f"gguf {seed}")
    GGUFFile.data = _copied if seed % 2 else _MAPPED  # type: ignore[method-assign]  # guarded copies
    work = folder / "case"
    work.mkdir()
    try:
        return through(rng, work)
    finally:
        GGUFFile.data = _MAPPED  # type: ignore[method-assign]  # as it was
        shutil.rmtree(work)


def through(rng: random.Random, work: Path) -> str:
    base, other = rng.choice(BASES), rng.choice(BASES)
    guide = work / "imatrix"
    damaged_guide = rng.random() < 0.15
    match rng.randrange(4):
        case 0:
            data = parts.gguf_imatrix(base, rng)
            guide.write_bytes(mutate.mutated(data, other, rng) if damaged_guide else data.encode())
        case 1 | 2:
            legacy = parts.imatrix(base, rng)
            if damaged_guide:
                legacy = mutate.of_bytes(legacy, legacy[::-1], rng)
            guide.write_bytes(legacy)
    if rng.random() < 0.2:
        pieces = parts.shards(base)
        source = work / "base-00001-of-00002.gguf"
        files = [piece.encode() for piece in pieces]
        if not damaged_guide or rng.random() < 0.5:
            number = rng.randrange(2)
            files[number] = mutate.mutated(pieces[number], other, rng)
        for number, data_ in enumerate(files, 1):
            (work / f"base-{number:05d}-of-00002.gguf").write_bytes(data_)
    else:
        source = work / "base.gguf"
        damaged = not damaged_guide or rng.random() < 0.5
        source.write_bytes(mutate.mutated(base, other, rng) if damaged else base.encode())
    return used(rng, work, source, guide)


def vocabulary(path: Path) -> None:
    with gguf.read(path) as file:
        check_tokens([file], None)


def used(rng: random.Random, work: Path, source: Path, guide: Path) -> str:
    here = set(work.iterdir())
    if guide.exists():
        attempt(lambda: imatrix.read(guide))
    readable = attempt(lambda: looked_at(source))
    sound = attempt(lambda: gguf.verify(source))
    loadable = attempt(lambda: vocabulary(source))
    if not readable and source.name == "base.gguf" and rng.random() < 0.7:
        return "refused"  # the others begin by reading it, too
    out = work / "out.gguf"
    ftype, more = rng.choice(list(FTYPES)), options(rng)
    chosen = guide if guide.exists() else None
    made = attempt(lambda: quantize_file(source, out, ftype, imatrix=chosen, imatrix_name="imatrix", **more))
    for path in set(work.iterdir()) - here:
        assert made, f"a failure left {path.name} behind"
        assert path.suffix == ".gguf", f"{path.name} was left behind"
        if loadable:  # else the file has the base's vocabulary
            gguf.verify(path)
    there = set(work.iterdir())
    merged = attempt(lambda: gguf.merge(source, work / "merged.gguf"))
    assert set(work.iterdir()) - there == ({work / "merged.gguf"} if merged else set())
    if merged and sound:
        gguf.verify(work / "merged.gguf")
    limit = {"max_tensors": rng.randrange(1, 4)} if rng.random() < 0.7 else {"max_size": rng.choice([1, 999, 4000])}
    cut = attempt(lambda: gguf.split(source, work / "shards", "cut", **limit))
    shards = sorted((work / "shards").iterdir()) if (work / "shards").exists() else []
    if not cut:
        assert not shards, "a failure left shards behind"
    else:
        if sound:
            gguf.verify(shards[0])
        again = work / "again.gguf"
        gguf.merge(shards[-1], again)
        if sound:
            gguf.verify(again)
    return ("sound" if sound else "readable" if readable else "refused") + (", quantized" if made else "")
