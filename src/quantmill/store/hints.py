"""What spares a store work and may be lost: digests of files outside it, and where bytes are that a step listed."""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, ByteRange
from quantmill.disk import is_digest, parse_json, read_small, sha256_file, write_own
from quantmill.store.mapped_writes import MappedWrites
from quantmill.store.objects import object_name
from quantmill.store.proof import prove, proven

TICK = 50_000_000  # two changes of a file that are closer together, in nanoseconds, may leave it the same times


class Hints:
    """The memos and spans below `root`; each proves itself."""

    def __init__(self, root: Path, mapped: MappedWrites | None = None) -> None:
        self.root, self._mapped = root, mapped or MappedWrites(root)
        self.remembers = True  # False for what only looks, and would make the store by remembering

    def digest_of(self, path: Path) -> str:
        """sha256 of a file outside the store, remembered until its (device, inode, size, mtime_ns, ctime_ns) moves.
        Hashed each time where a mapped write moves none of these."""
        import xxhash

        stat = path.stat()
        if 0 <= (age := time.time_ns() - stat.st_ctime_ns) < TICK:
            time.sleep((TICK - age) / 1e9)
            stat = path.stat()
        seen = _times(stat)
        memo = self.root / "memo" / xxhash.xxh3_128_hexdigest(os.fsencode(path.absolute()))
        known = self._hint(memo)
        trusted = known.get("stat") == seen and self._mapped.move_times(path.parent, stat.st_dev)
        if trusted and is_digest(found := known.get("sha256")):
            return found
        # As git does with entries that are racy: one that was changed so lately, by its own file system's clock, that
        # another change might leave the same times, or that comes from the future, is hashed again next time.
        settled = time.time_ns() - max(stat.st_ctime_ns, stat.st_mtime_ns) >= _grain(stat)
        digest = sha256_file(path)
        if settled and _times(path.stat()) == seen and self.remembers:
            with suppress(OSError):  # a memo spares work, no more: the store may be full or read-only
                write_own(memo, prove(memo.name, json.dumps({"sha256": digest, "stat": seen}).encode()))
        return digest

    def _hint(self, path: Path) -> Mapping[str, Any]:
        """A small file that spares work: empty where it is missing, or does not prove itself."""
        try:
            data = read_small(str(path))
        except OSError:
            return {}
        found = parse_json(data) if proven(path.name, data) else None
        return found if isinstance(found, dict) else {}

    def find_span(self, key: str) -> ByteRange | None:
        """Where bytes of a key are that a step listed, None when nobody listed them or the object is gone. Whoever uses
        them hashes them first: this index is only a hint, written without syncing."""
        entry = self._hint(self.root / "span" / key[:2] / key)
        digests, places = (entry.get("object"), entry.get("sha256")), (entry.get("offset"), entry.get("size"))
        if not all(map(is_digest, digests)) or not all(type(place) is int and place >= 0 for place in places):
            return None
        return ByteRange(Path(object_name(self.root, entry["object"])), entry["offset"], entry["size"], entry["sha256"])

    def add_spans(self, artifact: Artifact, spans: Mapping[str, Mapping[str, Any]]) -> None:
        """Remember parts of an object by key: `spans` maps keys to offset, size and sha256. Where there is no room to
        remember, they are computed again."""
        with suppress(OSError):
            for key, span in spans.items():
                known = self.find_span(key)
                if known is None or not known.path.exists():
                    entry = prove(key, json.dumps({"object": artifact.sha256, **span}).encode())
                    write_own(self.root / "span" / key[:2] / key, entry, sync=False)


def _times(stat: os.stat_result) -> list[int]:
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _grain(stat: os.stat_result) -> int:
    """How far apart two changes of a file are, in ns, that its times surely tell apart: FAT counts in two seconds."""
    coarse = stat.st_ctime_ns % 10**9 == 0 and stat.st_mtime_ns % 10**9 == 0
    return 2_100_000_000 if coarse else TICK
