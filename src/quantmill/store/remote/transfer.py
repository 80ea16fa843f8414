"""Objects to and from the shared store: `cas/<sha256>` whole, or large ones as a list of chunks.

A list is `chunks/<sha256>`, JSON `{"size", "chunk", "chunks": [sha256 of each]}`; the chunks are objects of `cas`. A
chunk that is there is not sent again, and one that was received is not asked for again, after a restart either. Nobody
signs a list: it is parsed only where it is no larger than its object's size, which a signed record tells, can need.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.disk import CHUNK, is_digest, parse_json, sha256_file
from quantmill.store.remote.bucket import Bucket, Wrong
from quantmill.store.remote.waiting import Meter
from quantmill.store.shared import Worth, unknown

SMALLEST = 8 << 20  # bytes of a chunk, unless the setting is smaller
LEAST = 64 << 10  # bytes of a chunk, whatever the setting
SHARE = 256  # a chunk is as large as may be without being more than this part of its object
LIMIT = 64 << 20  # bytes of a list
HEAD, ENTRY = 200, 72  # bytes that a list takes, and each of its entries
ATTEMPTS = 3
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Listing:
    """The chunks of a large object, in order: each of `chunk` bytes but the last."""

    size: int
    chunk: int
    chunks: tuple[str, ...]

    def parts(self) -> Iterator[tuple[int, str, int, int]]:
        """Index, sha256, offset and size of each chunk."""
        for index, sha256 in enumerate(self.chunks):
            offset = index * self.chunk
            yield index, sha256, offset, min(self.chunk, self.size - offset)


def unit(size: int, largest: int) -> int:
    """The size of the chunks of an object of `size` bytes; one of at most that size is not cut."""
    chunk = min(SMALLEST, largest)
    while chunk < largest and size > chunk * SHARE:
        chunk *= 2
    return min(chunk, largest)


def send(bucket: Bucket, path: Path, sha256: str, chunk: int, parallel: int, again: bool, advance: Advance) -> None:
    """Put the object at `path` into the shared store, in chunks of at most `chunk` bytes. What is there with its size
    is left, unless `again`. Wrong when the file is not the object (any more)."""
    size = path.stat().st_size
    if size <= (step := unit(size, max(chunk, LEAST))):
        _send_blob(bucket, path, sha256, 0, size, again)
        if again:  # the list of another client's chunks may be what is damaged
            bucket.delete(f"chunks/{sha256}")
        advance(size)
        return
    if not again and bucket.size(f"chunks/{sha256}") is not None:
        advance(size)
        return
    whole, found = hashlib.sha256(), []
    with ThreadPoolExecutor(parallel) as pool, closing(_Window(pool, parallel)) as window, open(path, "rb") as file:
        for offset in range(0, size, step):
            count, digest = min(step, size - offset), hashlib.sha256()
            for piece in _pieces(file, count):
                digest.update(piece)
                whole.update(piece)
            found.append(digest.hexdigest())
            window.run(_send_chunk, bucket, path, found[-1], offset, count, again, advance)
    if whole.hexdigest() != sha256:
        raise Wrong(str(path))
    listing = {"size": size, "chunk": step, "chunks": found}
    bucket.put(f"chunks/{sha256}", json.dumps(listing).encode())


def fetch(
    bucket: Bucket,
    sha256: str,
    size: int,
    part: Path,
    chunk: int,
    parallel: int,
    advance: Advance,
    worth: Worth = unknown,
) -> bool:
    """Leave the object's bytes, hashed, at `part`, going on with what an earlier call left there. False when the shared
    store does not have it; Wrong when what it has is something else; Slow when it takes longer than it is `worth`."""
    meter = Meter(size, worth)
    part.parent.mkdir(parents=True, exist_ok=True)
    whole = size <= unit(size, max(chunk, LEAST))
    if whole and _fetch_whole(bucket, sha256, size, part, advance, meter):
        return True
    data = bucket.get(f"chunks/{sha256}", _longest(size))
    if data is None:
        return not whole and _fetch_whole(bucket, sha256, size, part, advance, meter)
    _fetch_chunks(bucket, _parse(data, sha256, size), part, parallel, advance, meter)
    if sha256_file(part) != sha256:  # each chunk is what the list says: the list is another object's
        part.unlink()
        _journal(part).unlink(missing_ok=True)
        raise Wrong(f"chunks/{sha256[:16]}…")
    _journal(part).unlink(missing_ok=True)
    return True


def _send_blob(bucket: Bucket, path: Path, sha256: str, offset: int, size: int, again: bool) -> None:
    if not again and bucket.size(f"cas/{sha256}") == size:
        return

    def pieces() -> Iterator[bytes]:
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            file.seek(offset)
            for piece in _pieces(file, size):
                digest.update(piece)
                yield piece
        if digest.hexdigest() != sha256:
            raise Wrong(str(path))

    bucket.put_pieces(f"cas/{sha256}", size, pieces)


def _send_chunk(bucket: Bucket, path: Path, sha256: str, offset: int, size: int, again: bool, advance: Advance) -> None:
    _send_blob(bucket, path, sha256, offset, size, again)
    advance(size)


def _fetch_whole(bucket: Bucket, sha256: str, size: int, part: Path, advance: Advance, meter: Meter) -> bool:
    with open(part, "wb") as file:
        return _fetch_blob(bucket, sha256, size, file.fileno(), 0, advance, meter)


def _fetch_blob(
    bucket: Bucket, sha256: str, size: int, descriptor: int, offset: int, advance: Advance, meter: Meter
) -> bool:
    for _ in range(ATTEMPTS):
        digest, at = hashlib.sha256(), 0

        def take(piece: memoryview, digest: Any = digest) -> None:
            nonlocal at
            digest.update(piece)
            written = 0
            while written < len(piece):
                written += os.pwrite(descriptor, piece[written:], offset + at + written)
            at += len(piece)
            advance(len(piece))

        if size and not bucket.read(f"cas/{sha256}", 0, size, take, meter.take):
            return False
        if digest.hexdigest() == sha256:
            return True
        advance(-at)
    raise Wrong(f"cas/{sha256[:16]}…")


def _fetch_chunks(bucket: Bucket, listing: Listing, part: Path, parallel: int, advance: Advance, meter: Meter) -> None:
    journal, lock = _journal(part), threading.Lock()
    done = _read_journal(journal, listing) if part.is_file() else set()
    with open(part, "r+b" if done else "wb") as file, open(journal, "a") as log:
        if not done:
            log.truncate(0)
            log.write(f"{_identity(listing)}\n")
        file.truncate(listing.size)

        def one(index: int, sha256: str, offset: int, size: int) -> None:
            if not _fetch_blob(bucket, sha256, size, file.fileno(), offset, advance, meter):
                raise Wrong(f"cas/{sha256[:16]}…")
            with lock:
                log.write(f"{index}\n")
                log.flush()

        with ThreadPoolExecutor(parallel) as pool, closing(_Window(pool, parallel)) as window:
            for index, sha256, offset, size in listing.parts():
                if index in done:
                    meter.skip(size)
                    advance(size)
                else:
                    window.run(one, index, sha256, offset, size)


class _Window:
    """Runs calls in a pool, a few ahead at a time; `close` waits for the last ones. The first error is raised."""

    def __init__(self, pool: ThreadPoolExecutor, width: int) -> None:
        self._pool, self._width = pool, width
        self._running: list[Future[None]] = []

    def run(self, call: Callable[..., None], *arguments: Any) -> None:
        if len(self._running) >= self._width * 2:
            self._running.pop(0).result()
        self._running.append(self._pool.submit(call, *arguments))

    def close(self) -> None:
        try:
            for future in self._running:
                future.result()
        finally:
            for future in self._running:
                future.cancel()


def _journal(part: Path) -> Path:
    return part.with_name(part.name + ".done")


def _identity(listing: Listing) -> str:
    return hashlib.sha256(repr(listing).encode()).hexdigest()


def _read_journal(journal: Path, listing: Listing) -> set[int]:
    """The chunks that are at their places already; what is torn or of another list counts for nothing."""
    try:
        first, *lines = journal.read_text().split("\n")
    except (OSError, UnicodeDecodeError):
        return set()
    if first != _identity(listing):
        return set()
    known = {str(index): index for index in range(len(listing.chunks))}
    return {known[line] for line in lines[:-1] if line in known}


def _longest(size: int) -> int:
    """Bytes of the longest list that an object of `size` bytes can need."""
    return min(HEAD + ENTRY * _most(size), LIMIT)


def _most(size: int) -> int:
    return max(1, -(-size // LEAST))


def _parse(data: bytes, sha256: str, size: int) -> Listing:
    # One object with one list of few entries: what else JSON may hold, and how deep, is not looked at.
    plain = data.count(b"[") == data.count(b"{") == 1 and data.count(b",") <= _most(size) + 1
    found = parse_json(data) if plain and len(data) <= _longest(size) else None
    match found:
        case {"size": int(told), "chunk": int(chunk), "chunks": list(chunks)}:
            right = told == size and chunk >= min(size, LEAST) > 0 and len(chunks) == -(-size // chunk)
            if right and all(map(is_digest, chunks)):
                return Listing(size, chunk, tuple(chunks))
    raise Wrong(f"chunks/{sha256[:16]}…")


def _pieces(file: Any, count: int) -> Iterator[bytes]:
    while count and (piece := file.read(min(CHUNK, count))):
        count -= len(piece)
        yield piece
