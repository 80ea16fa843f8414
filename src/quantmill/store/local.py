"""The store: objects named by their sha256, and action records that map step keys to them.

Layout below the root (specified in cache/README.md): `cas/<aa>/<sha256>`, `ac/<key>`, `work/<key>/` for the step in
flight, `lock/<key>` held by the process that computes it, `memo/` for digests of files outside the store. An object or
a record is written beside, synced and renamed, so a name that exists is whole. A process that dies leaves at most a
`work/` folder, which the next run of the same key takes over, and small `.tmp` files.

Release folders hold hard links of objects, so that a careless program may write to one. Every object is therefore
sealed: its modification time is its change time, which only the kernel sets, less AGE. Whatever touches it breaks the
seal, also where it puts the modification time back. An object without seal is hashed before it is used. One that is
damaged counts as gone; if its modification time was kept, nobody knows since when it is wrong, and what was made of it
goes with it.
"""

import errno
import hashlib
import json
import os
import shutil
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from quantmill.artifact import Artifact, ByteRange, silent
from quantmill.disk import (
    AGE,
    hold,
    is_digest,
    is_sealed,
    link_or_copy,
    locked,
    make_way,
    parse_json,
    read_json,
    read_small,
    seal,
    sha256_file,
    sync_folder,
    write_own,
)
from quantmill.errors import QuantmillError
from quantmill.store.key import StepKey
from quantmill.store.proof import prove, proven
from quantmill.store.record import decode, encode, has_outputs
from quantmill.store.shared import Gone, Remote, SharedRecord

TICK = 50_000_000  # two changes of a file that are closer together, in nanoseconds, may leave it the same times

_read: set[tuple[int, int, str]] = set()  # device, inode and digest of objects that this process has hashed


def wrong_digest(path: Path, expected: str, found: str) -> QuantmillError:
    """A file is not the one that was asked for."""
    return QuantmillError(
        f"{path}: sha256 is {found[:16]}…, expected {expected[:16]}…; restore that file or lock the recipe again"
    )


class Broken(QuantmillError):
    """An output is not what its key promises."""


NOTHING: Mapping[str, str] = MappingProxyType({})


def unheard(holder: str) -> None:
    """Whom nobody tells for whom they wait."""


@dataclass(frozen=True)
class Hit:
    """The step has been run before: output name → object, which may still be at the shared store (`Store.bring`).
    `address` says whose record it is: empty for one of this store, else the shared store's URL."""

    outputs: Mapping[str, Artifact]
    address: str = ""


@dataclass(frozen=True)
class Miss:
    """The step must be run, by the holder of `slot` alone."""

    slot: "Slot"


class Slot(Protocol):
    """The right to run one step: write outputs into `folder`, then commit them."""

    folder: Path

    def commit(
        self, references: Mapping[str, Artifact], promised: Mapping[str, str] = NOTHING
    ) -> Mapping[str, Artifact]:
        """Take every file below `folder`, and `references` to objects the store has, as the step's outputs. Broken for
        one that has not the sha256 that is `promised` by name; it is removed."""


class Store:
    """A store on a local file system, before one that machines share (`remote`) where there is one. Safe for several
    processes and threads at once."""

    def __init__(self, root: Path, remote: Remote | None = None) -> None:
        self.root, self.remote = root, remote
        self._alive = False
        self._since = 0, Path()  # when we began, in ns by the store's clock, and the file that says so

    def object_path(self, sha256: str) -> Path:
        """Where the object of that digest is, or would be."""
        return Path(self.object_name(sha256))

    def object_name(self, sha256: str) -> str:
        """`object_path` as text, which takes a tenth of the time where there are thousands."""
        return f"{self.root}/cas/{sha256[:2]}/{sha256}"

    def has(self, artifact: Artifact) -> bool:
        """Whether the object is here and whole. It was hashed when it entered; again only when somebody touched it."""
        return self._holds(artifact.sha256, artifact.size)

    def _holds(self, sha256: str, size: int) -> bool:
        try:
            stat = os.stat(self.object_name(sha256))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return stat.st_size == size and (is_sealed(stat) or self.check(self._artifact(sha256, size)))

    def intact(self, artifact: Artifact) -> bool:
        """Whether the object is here and whole, by its bytes: it was hashed in this process, and not touched since."""
        try:
            stat = os.stat(artifact.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return ((stat.st_dev, stat.st_ino, artifact.sha256) in _read and is_sealed(stat)) or self.check(artifact)

    def check(self, artifact: Artifact) -> bool:
        """Hash the object; whether it is what its name says. If so, it is sealed again; if not, it is removed."""
        path = self.object_path(artifact.sha256)
        try:
            before = os.stat(path)
            if sha256_file(path) != artifact.sha256:
                self.condemn(artifact.sha256)
                return False
            after = os.stat(path)
        except (FileNotFoundError, IsADirectoryError):
            return False
        if after.st_ctime_ns == before.st_ctime_ns and after.st_ino == before.st_ino:
            with suppress(OSError):  # it is another person's: hashed again next time
                if not is_sealed(after):
                    self.seal(artifact)
                _read.add((after.st_dev, after.st_ino, artifact.sha256))
        return True

    def seal(self, artifact: Artifact) -> None:
        """Set the times of an object that is whole and that we have touched."""
        self._witness(seal(artifact.path).st_ctime_ns)

    def link(self, artifact: Artifact, target: Path) -> None:
        """Make `target` the object: a link or a copy."""
        whole = self.has(artifact)
        link_or_copy(artifact.path, target)
        if whole:  # a link more moves its change time
            with suppress(OSError):
                self.seal(artifact)

    def drop(self, key: StepKey) -> None:
        """Remove the record of a step, which others cannot read."""
        (self.root / "ac" / key.digest()).unlink(missing_ok=True)

    def condemn(self, sha256: str) -> None:
        """Remove an object that is damaged, and undo what was made of it."""
        self.undo(sha256)
        self.object_path(sha256).unlink(missing_ok=True)

    def undo(self, sha256: str) -> list[str]:
        """Where nobody knows since when an object is damaged, remove what was made of it: records, their outputs'
        records in turn, and spans. Returns the names of the records."""
        from quantmill.store.descent import forget

        try:
            stat = os.stat(self.object_path(sha256))
        except FileNotFoundError:
            return []
        if stat.st_mtime_ns > stat.st_ctime_ns - AGE // 2:  # a writer's: the seal was broken since
            return []
        gone = forget(self.root, sha256)
        if gone:
            write_own(self.root / "damaged", f"{time.time_ns()} {sha256}\n".encode())
            if self.remote:
                self.remote.withdraw(gone)
        return gone

    def damages(self) -> int:
        """A number that moves when something was found damaged and records went with it."""
        try:
            return os.stat(self.root / "damaged").st_ctime_ns
        except FileNotFoundError:
            return 0

    def record(self, key: StepKey, whole: bool = False) -> Mapping[str, Artifact] | None:
        """The recorded outputs of a step, or None. Every object is here or, unless they are to be `whole`, at the
        shared store that the record was taken from."""
        facts = self.facts(key, whole=whole)
        return None if facts is None else {name: self._artifact(**fact) for name, fact in facts.items()}

    def facts(
        self, key: StepKey, pointer: bytes | None = None, whole: bool = False
    ) -> Mapping[str, Mapping[str, Any]] | None:
        """`record` as it is written, {output: {sha256, size}}: what a build with nothing to do asks of every task. None
        too where it is not what `pointer`, JSON, says, if one is given."""
        name = key.digest()
        try:
            data = read_small(f"{self.root}/ac/{name}")
            if pointer is not None and (text := proven(name, data)) and has_outputs(text, pointer):
                # so that only the shorter one has to be parsed
                outputs: Mapping[str, Mapping[str, Any]] | None = parse_json(pointer)
                if outputs is None:  # it ends with a space that JSON does not know
                    return None
                origin = None
            else:
                found = decode(name, data)
                if found is None or (pointer is not None and found["outputs"] != parse_json(pointer)):
                    return None  # a record that cannot be believed is no record: the step runs again and replaces it
                outputs, origin = found["outputs"], found.get("origin")
            if origin is not None:
                if not (self.remote and self.remote.vouches(origin)):
                    return None  # taken from a store, or signed with a key, that is not believed here any more
                if not whole:
                    return outputs
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        if not all(self._holds(fact["sha256"], fact["size"]) for fact in outputs.values()):
            return None
        if b'\n "digest": ' not in data:  # of a version whose records had no proof
            with suppress(OSError):
                write_own(Path(f"{self.root}/ac/{name}"), prove(name, data))
        return outputs

    @contextmanager
    def lookup(
        self,
        key: StepKey,
        resume: bool = False,
        whole: bool = False,
        task: str = "",
        waits: Callable[[str], None] = unheard,
    ) -> Iterator[Hit | Miss]:
        """A Hit at once; or, after waiting for anyone who is computing this key, a Hit or the Miss that lets the
        caller compute it. `resume` keeps what a killed run left in the slot's folder; `whole` takes only what is here,
        for what the shared store has is gone; `task` is what the record is told to be of; `waits` is told, after a
        while, for whom the caller waits."""
        lock_path = self.root / "lock" / key.digest()
        folder = self.root / "work" / key.digest()
        if outputs := self._use(key, whole):
            if folder.exists():  # of a process that was killed when it had written the record
                shutil.rmtree(folder, ignore_errors=True)
            self._note("hit", task)
            yield Hit(outputs)
            return
        with _no_space(self.root), locked(lock_path, waits=waits), ExitStack() as stack:
            if outputs := self._use(key, whole):  # whoever held the lock has just finished it
                self._note("hit", task)
                yield Hit(outputs)
                return
            if self.remote and not whole and (found := stack.enter_context(self.remote.claim(key, task))):
                outputs = self._take(key, found, task)
                self._note("shared", task)
                yield Hit(outputs, self.remote.address)
                return
            self._note("run", task)
            if not resume:
                shutil.rmtree(folder, ignore_errors=True)
            if folder.is_symlink() or not folder.is_dir():  # whatever stands there is none of ours
                make_way(folder)
                folder.unlink(missing_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.rglob("*"):  # one that was killed while it was taken in cannot be written to
                if path.is_file() and not path.is_symlink():
                    path.chmod(0o644)
            try:
                yield Miss(_Slot(self, key, folder, task))
            except BaseException:
                if not resume:
                    shutil.rmtree(folder, ignore_errors=True)
                raise
            shutil.rmtree(folder, ignore_errors=True)

    def add_root(self, build: Path, release: Path) -> None:
        """Let `cache gc` know of a build whose pointers and release folders need this store's objects."""
        name = hashlib.sha256(os.fsencode(build.absolute())).hexdigest()[:32]
        path, places = self.root / "roots" / name, {"build": str(build.absolute()), "release": str(release.absolute())}
        with suppress(OSError):
            if read_json(path) != places:
                write_own(path, json.dumps(places).encode())

    def _note(self, what: str, task: str) -> None:
        """A line for `cache stat`: the time, what a lookup came to, and the task."""
        month = time.strftime("%Y-%m", time.gmtime())
        with suppress(OSError):
            (self.root / "log").mkdir(parents=True, exist_ok=True)
            with open(self.root / "log" / month, "a", encoding="utf-8") as file:
                file.write(f"{int(time.time())} {what} {task}\n")

    def _use(self, key: StepKey, whole: bool) -> Mapping[str, Artifact] | None:
        """`record`, and the mark that it was used now, by which `cache gc` leaves it to a build that is running."""
        self._live()
        try:
            with locked(self.root / "lock" / "gc", shared=True):
                if outputs := self.record(key, whole):
                    path = self.root / "ac" / key.digest()
                    os.utime(path)
                    self._witness(os.stat(path).st_mtime_ns)
                return outputs
        except OSError:  # a store that cannot be written to: nobody collects it either
            return self.record(key, whole)

    def _take(self, key: StepKey, found: SharedRecord, task: str) -> Mapping[str, Artifact]:
        outputs = {name: self._artifact(sha256, size) for name, (sha256, size) in sorted(found.outputs.items())}
        self.keep(outputs.values())
        self._write_record(key, outputs, {"task": task, "origin": dict(found.origin)})
        return outputs

    def _write_record(self, key: StepKey, outputs: Mapping[str, Artifact], more: Mapping[str, Any]) -> None:
        listed = {name: {"sha256": a.sha256, "size": a.size} for name, a in sorted(outputs.items())}
        name = key.digest()
        write_own(self.root / "ac" / name, encode(name, key.fields(), listed, **more))
        sync_folder(self.root / "ac")
        self._witness(os.stat(self.root / "ac" / name).st_mtime_ns)

    def _live(self) -> None:
        """Be known to `cache gc` as a process that uses this store, from now until it ends."""
        if not self._alive:
            self._alive = True
            path = self.root / "live" / f"{os.getpid()}-{os.urandom(6).hex()}"
            with suppress(OSError):
                weakref.finalize(self, _leave, path, hold(path))
                self._since = os.stat(path).st_mtime_ns, path

    def _witness(self, moment: int) -> None:
        """We touched something at that moment. Where the clock was set back it is before we began: then we began so
        early, for `cache gc`."""
        since, path = self._since
        if moment < since:
            with suppress(OSError):
                os.utime(path, ns=(moment, moment))
                self._since = moment, path

    def keep(self, artifacts: Iterable[Artifact]) -> None:
        """Mark objects that are here as used now, for a record that is about to name them."""
        self._live()
        with suppress(OSError), locked(self.root / "lock" / "gc", shared=True):
            for artifact in artifacts:
                if self.has(artifact):
                    with suppress(OSError):
                        self.seal(artifact)  # its change time moves

    def bring(self, artifacts: Iterable[Artifact], progress: Callable[[int, int], None] = silent) -> None:
        """Have the objects here, fetched from the shared store where they are not. `progress(done, total)` is called
        with bytes. Gone for one that can be had nowhere."""
        missing = {artifact.sha256: artifact for artifact in artifacts if not self.has(artifact)}
        total, done = sum(artifact.size for artifact in missing.values()), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        gone: list[Gone] = []
        for artifact in missing.values():
            if self.remote is None:
                raise Gone(artifact, "no shared store is named")
            self._live()
            with _no_space(self.root), locked(self.root / "lock" / artifact.sha256):
                if not self.has(artifact):  # another task may just have fetched it
                    part = self.root / "part" / artifact.sha256
                    try:
                        self.remote.fetch(artifact, part, advance)
                        self._enter(part, artifact)
                    except Gone as error:  # the others are looked at too, so that all that is damaged is sent again
                        gone.append(error)
        if gone:
            raise gone[0]

    def digest_of(self, path: Path) -> str:
        """sha256 of a file outside the store, remembered until its (device, inode, size, mtime_ns, ctime_ns) moves."""
        import xxhash

        stat = path.stat()
        if 0 <= (age := time.time_ns() - stat.st_ctime_ns) < TICK:
            time.sleep((TICK - age) / 1e9)
            stat = path.stat()
        seen = _times(stat)
        memo = self.root / "memo" / xxhash.xxh3_128_hexdigest(os.fsencode(path.absolute()))
        known = self._hint(memo)
        if known.get("stat") == seen and is_digest(found := known.get("sha256")):
            return found
        # As git does with entries that are racy: one that was changed so lately, by its own file system's clock, that
        # another change might leave the same times, or that comes from the future, is hashed again next time.
        settled = time.time_ns() - max(stat.st_ctime_ns, stat.st_mtime_ns) >= _grain(stat)
        digest = sha256_file(path)
        if settled and _times(path.stat()) == seen:
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
        return ByteRange(self.object_path(entry["object"]), entry["offset"], entry["size"], entry["sha256"])

    def add_spans(self, artifact: Artifact, spans: Mapping[str, Mapping[str, Any]]) -> None:
        """Remember parts of an object by key: `spans` maps keys to offset, size and sha256. Where there is no room to
        remember, they are computed again."""
        with suppress(OSError):
            for key, span in spans.items():
                known = self.find_span(key)
                if known is None or not known.path.exists():
                    entry = prove(key, json.dumps({"object": artifact.sha256, **span}).encode())
                    write_own(self.root / "span" / key[:2] / key, entry, sync=False)

    def adopt(self, path: Path, digest: str | None = None) -> Artifact:
        """Move a finished file into the store, which is hashed unless its `digest` is given; returns the object."""
        artifact = self._artifact(digest or sha256_file(path), path.stat().st_size)
        self._enter(path, artifact)
        return artifact

    def _enter(self, path: Path, artifact: Artifact) -> None:
        """Move a file that has just been hashed to its object's name."""
        self._live()
        if not artifact.path.parent.is_dir():
            make_way(artifact.path)
            artifact.path.parent.mkdir(parents=True, exist_ok=True)
            sync_folder(artifact.path.parent.parent)
        os.chmod(path, 0o444)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        self.check(artifact)  # one that is there and damaged goes
        with locked(self.root / "lock" / "gc", shared=True):
            if self.has(artifact):
                self.seal(artifact)
                path.unlink()
                return
            make_way(artifact.path)
            os.replace(path, artifact.path)
            self.seal(artifact)
        stat = os.stat(artifact.path)
        _read.add((stat.st_dev, stat.st_ino, artifact.sha256))
        sync_folder(artifact.path.parent)

    def _artifact(self, sha256: str, size: int) -> Artifact:
        return Artifact(self.object_path(sha256), sha256, size)


class _Slot:
    def __init__(self, store: Store, key: StepKey, folder: Path, task: str) -> None:
        self.folder = folder
        self._store, self._key, self._task = store, key, task

    def commit(
        self, references: Mapping[str, Artifact], promised: Mapping[str, str] = NOTHING
    ) -> Mapping[str, Artifact]:
        self._store.keep(references.values())
        outputs = dict(references)
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()):
            name = path.relative_to(self.folder).as_posix()
            if (digest := sha256_file(path)) != promised.get(name, digest):
                path.unlink()
                raise Broken(f"{name}: its sha256 is {digest[:16]}… once it is written; look after the disk")
            outputs[name] = self._store.adopt(path, digest)
        self._store._write_record(self._key, outputs, {"task": self._task} if self._task else {})
        if self._store.remote:
            self._store.remote.send(self._key, self._task)
        return outputs


def _leave(path: Path, descriptor: int) -> None:
    path.unlink(missing_ok=True)
    os.close(descriptor)


def _times(stat: os.stat_result) -> list[int]:
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _grain(stat: os.stat_result) -> int:
    """How far apart two changes of a file are, in ns, that its times surely tell apart: FAT counts in two seconds."""
    coarse = stat.st_ctime_ns % 10**9 == 0 and stat.st_mtime_ns % 10**9 == 0
    return 2_100_000_000 if coarse else TICK


@contextmanager
def _no_space(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise QuantmillError(
            f"{root}: no space left on the device; free some and run again, finished steps are kept"
        ) from error
