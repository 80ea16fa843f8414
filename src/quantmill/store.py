"""The store: objects named by their sha256, and action records that map step keys to them.

Layout below the root (specified in cache/README.md): `cas/<aa>/<sha256>`, `ac/<key>`, `work/<key>/` for the step in
flight, `lock/<key>` held by the process that computes it, `memo/` for digests of files outside the store. An object or
a record is written beside, synced and renamed, so a name that exists is whole. A process that dies leaves at most a
`work/` folder, which the next run of the same key takes over, and small `.tmp` files.

Release folders hold hard links of objects, so that a careless program may write to one. Every object therefore has the
one modification time `SEALED`, which no writer leaves in place: an object with another is hashed before it is used, and
one that is damaged counts as gone.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from quantmill.artifact import Artifact, Span
from quantmill.errors import QuantmillError
from quantmill.key import StepKey

CHUNK = 4 << 20
SMALL = 64 << 10
FACT = {"sha256", "size"}
SEALED = 315_532_800 * 10**9  # 1980-01-01 UTC, the earliest day that every archive format can hold, in nanoseconds
TICK = 50_000_000  # two changes of a file that are closer together, in nanoseconds, may leave it the same times


class StoreFull(QuantmillError):
    """The file system of the store has no room left."""

    def __init__(self, root: Path) -> None:
        super().__init__(f"{root}: no space left on the device; free some and run again, finished steps are kept")


class WrongDigest(QuantmillError):
    """A file is not the one that was asked for."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(
            f"{path}: sha256 is {found[:16]}…, expected {expected[:16]}…; restore that file or lock the recipe again"
        )
        self.path, self.expected, self.found = path, expected, found


@dataclass(frozen=True)
class Hit:
    """The step has been run before: output name → object."""

    outputs: Mapping[str, Artifact]


@dataclass(frozen=True)
class Miss:
    """The step must be run, by the holder of `slot` alone."""

    slot: "Slot"


class Slot(Protocol):
    """The right to run one step: write outputs into `folder`, then commit them."""

    folder: Path

    def commit(self, references: Mapping[str, Artifact]) -> Mapping[str, Artifact]:
        """Take every file below `folder`, and `references` to objects the store has, as the step's outputs."""


def sha256_file(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """sha256 of a file's bytes in hex; `advance(n)` is called after each chunk of n bytes."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        buffer = memoryview(bytearray(CHUNK))
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            if advance:
                advance(count)
    return digest.hexdigest()


def read_small(path: str) -> bytes:
    """A small file's bytes, in half the time that an open file object takes; OSError as from there."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(handle, SMALL)
        while len(data) % SMALL == 0 and (more := os.read(handle, SMALL)):
            data += more
        return data
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes, sync: bool = True) -> None:
    """Give `path` the content `data`, or leave it as it was: written beside, synced, renamed. Without `sync` a power
    cut may leave it empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path) as beside:
        with open(beside, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, path)


def place(source: Path, target: Path) -> None:
    """Make `target` a file with the bytes of `source`: a reflink where the file system can, else a hard link, else a
    copy. Written beside and renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target) as beside:
        if not _reflink(source, beside):
            try:
                os.link(source, beside)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                    raise
                shutil.copyfile(source, beside)
        os.replace(beside, target)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name beside `path` that no other thread, process or machine uses, gone afterwards. An error tells of `path`."""
    beside = path.with_name(f".{path.name[:100]}.{os.urandom(6).hex()}.tmp")
    try:
        yield beside
    except OSError as error:
        if error.filename is None or os.fspath(error.filename) == str(beside):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)  # rename of two links to one inode leaves both names


def _reflink(source: Path, target: Path) -> bool:
    ficlone = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
    with open(source, "rb") as reader, open(target, "wb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), ficlone, reader.fileno())
        except OSError:
            done = False
        else:
            done = True
    if not done:
        target.unlink()
    return done


class Store:
    """A store on a local file system. Safe for several processes and threads at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def object_path(self, sha256: str) -> Path:
        """Where the object of that digest is, or would be."""
        return Path(self._object_name(sha256))

    def _object_name(self, sha256: str) -> str:
        return f"{self.root}/cas/{sha256[:2]}/{sha256}"

    def has(self, artifact: Artifact) -> bool:
        """Whether the object is here and whole. It was hashed when it entered; again only when somebody touched it."""
        return self._holds(artifact.sha256, artifact.size)

    def _holds(self, sha256: str, size: int) -> bool:
        try:
            stat = os.stat(self._object_name(sha256))
        except FileNotFoundError:
            return False
        if stat.st_size != size:
            return False
        return stat.st_mtime_ns == SEALED or self.check(self._artifact(sha256, size))

    def check(self, artifact: Artifact) -> bool:
        """Hash the object; whether it is what its name says. If so, it is sealed again."""
        path = self.object_path(artifact.sha256)
        with suppress(FileNotFoundError):
            if sha256_file(path) == artifact.sha256:
                with suppress(OSError):  # it is another person's: hashed again next time
                    os.utime(path, ns=(SEALED, SEALED))
                return True
        return False

    def discard(self, artifact: Artifact) -> None:
        """Remove an object that is damaged, so that the next build makes it again."""
        self.object_path(artifact.sha256).unlink(missing_ok=True)

    def record(self, key: StepKey) -> Mapping[str, Artifact] | None:
        """The recorded outputs of a step whose objects are all here, or None."""
        facts = self.facts(key)
        return None if facts is None else {name: self._artifact(**fact) for name, fact in facts.items()}

    def facts(self, key: StepKey) -> Mapping[str, Mapping[str, Any]] | None:
        """`record` as it is written, {output: {sha256, size}}: what a build with nothing to do asks of every task."""
        try:
            outputs = json.loads(read_small(f"{self.root}/ac/{key.digest()}"))["outputs"]
            here = all(fact.keys() == FACT and self._holds(fact["sha256"], fact["size"]) for fact in outputs.values())
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None  # a record that cannot be read is no record: the step runs again and replaces it
        return outputs if here else None

    @contextmanager
    def lookup(self, key: StepKey, resume: bool = False) -> Iterator[Hit | Miss]:
        """A Hit at once; or, after waiting for anyone who is computing this key, a Hit or the Miss that lets the
        caller compute it. `resume` keeps what a killed run left in the slot's folder."""
        lock_path = self.root / "lock" / key.digest()
        folder = self.root / "work" / key.digest()
        if outputs := self.record(key):
            if folder.exists():  # of a process that was killed when it had written the record
                shutil.rmtree(folder, ignore_errors=True)
            yield Hit(outputs)
            return
        with _no_space(self.root), locked(lock_path):
            if outputs := self.record(key):  # whoever held the lock has just finished it
                yield Hit(outputs)
                return
            if not resume:
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            try:
                yield Miss(_Slot(self, key, folder))
            except BaseException:
                if not resume:
                    shutil.rmtree(folder, ignore_errors=True)
                raise
            shutil.rmtree(folder, ignore_errors=True)

    def digest_of(self, path: Path) -> str:
        """sha256 of a file outside the store, remembered until its (device, inode, size, mtime_ns, ctime_ns) moves."""
        import xxhash

        stat = path.stat()
        if 0 <= (age := time.time_ns() - stat.st_ctime_ns) < TICK:
            time.sleep((TICK - age) / 1e9)
            stat = path.stat()
        seen = [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        memo = self.root / "memo" / xxhash.xxh3_128_hexdigest(os.fsencode(path.absolute()))
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(memo.read_bytes())
            if known["stat"] == seen:
                return str(known["sha256"])
        digest = sha256_file(path)
        with suppress(OSError):  # a memo spares work, no more: the store may be full or read-only
            write_atomic(memo, json.dumps({"sha256": digest, "stat": seen}).encode())
        return digest

    def find_span(self, key: str) -> Span | None:
        """Where bytes of a key are that a step listed, None when nobody listed them or the object is gone. Whoever uses
        them hashes them first: this index is only a hint, written without syncing."""
        try:
            entry = json.loads((self.root / "span" / key[:2] / key).read_bytes())
            return Span(self.object_path(entry["object"]), entry["offset"], entry["size"], entry["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def add_spans(self, artifact: Artifact, spans: Mapping[str, Mapping[str, Any]]) -> None:
        """Remember parts of an object by key: `spans` maps keys to offset, size and sha256. Where there is no room to
        remember, they are computed again."""
        with suppress(OSError):
            for key, span in spans.items():
                known = self.find_span(key)
                if known is None or not known.path.exists():
                    entry = json.dumps({"object": artifact.sha256, **span})
                    write_atomic(self.root / "span" / key[:2] / key, entry.encode(), sync=False)

    def adopt(self, path: Path, remove: bool = True) -> Artifact:
        """Move (or copy) a finished file into the store; returns the object."""
        digest = sha256_file(path)
        artifact = self._artifact(digest, path.stat().st_size)
        if not self.has(artifact):
            if not artifact.path.parent.is_dir():
                artifact.path.parent.mkdir(parents=True, exist_ok=True)
                _sync_folder(artifact.path.parent.parent)
            os.chmod(path, 0o444)
            os.utime(path, ns=(SEALED, SEALED))
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            os.replace(path, artifact.path)
            _sync_folder(artifact.path.parent)
        elif remove:
            path.unlink()
        return artifact

    def _artifact(self, sha256: str, size: int) -> Artifact:
        return Artifact(self.object_path(sha256), sha256, size)


class _Slot:
    def __init__(self, store: Store, key: StepKey, folder: Path) -> None:
        self.folder = folder
        self._store, self._key = store, key

    def commit(self, references: Mapping[str, Artifact]) -> Mapping[str, Artifact]:
        outputs = dict(references)
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()):
            outputs[path.relative_to(self.folder).as_posix()] = self._store.adopt(path)
        record: dict[str, Any] = {
            "key": self._key.fields(),
            "outputs": {name: {"sha256": a.sha256, "size": a.size} for name, a in sorted(outputs.items())},
        }
        write_atomic(self._store.root / "ac" / self._key.digest(), json.dumps(record, indent=1).encode())
        _sync_folder(self._store.root / "ac")
        return outputs


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of that name, which goes with the process. Waits for whoever holds it, thread or process."""
    # The file stays: removing it would let two processes lock two different inodes of one name.
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _no_space(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreFull(root) from error


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
