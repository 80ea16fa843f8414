"""Thousands of damaged files: whatever happens to the bytes, the answer is one of our errors or a verified file."""

import random
import struct
from pathlib import Path

from gguf_files import described, every_kind, write
from quantmill import gguf
from quantmill.errors import QuantmillError

SPECIAL = [0, 1, 9, 2**8 - 1, 2**16, 2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def damaged(data: bytes, rng: random.Random, header: int) -> bytes:
    mutable = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(min(header, len(mutable)) or 1)
        match rng.randrange(6):
            case 0:
                mutable[at] ^= 1 << rng.randrange(8)
            case 1:
                mutable[at : at + 8] = struct.pack("<Q", rng.choice(SPECIAL))
            case 2:
                mutable[at : at + 4] = struct.pack("<I", rng.choice(SPECIAL) & 0xFFFFFFFF)
            case 3:
                del mutable[at : at + rng.randrange(1, 40)]
            case 4:
                mutable[at:at] = mutable[at : at + rng.randrange(1, 40)]
            case 5:
                del mutable[rng.randrange(len(mutable)) :]
        if not mutable:
            break
    return bytes(mutable)


def test_no_damage_escapes_as_another_exception(tmp_path: Path) -> None:
    tensors = [item for item in described(12) if item[2].name not in ("I8", "I32")]
    path = write(tmp_path / "whole.gguf", tensors, every_kind(), zeros=True)
    whole = path.read_bytes()
    with gguf.read(path) as file:
        header = file.data_offset
    rng = random.Random(20)
    messages: list[str] = []
    target = tmp_path / "damaged.gguf"
    for _ in range(4000):
        target.unlink(missing_ok=True)  # some file systems flush what is overwritten in place
        target.write_bytes(damaged(whole, rng, header))
        try:
            with gguf.read(target) as file:
                for entry in file.metadata.values():
                    assert entry.encode()
                    assert entry.value is not None
                    entry.canonical()
                gguf.shard_sizes(file.metadata.values(), gguf.describe(file.tensors.values()), 4096)
            gguf.verify(target)
        except QuantmillError as error:
            messages.append(str(error))
    assert 2000 < len(messages) < 4000
    assert not any("\n" in message for message in messages)
