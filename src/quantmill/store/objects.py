"""Objects of a store: files named by their sha256, each with a seal.

Release folders hold hard links of objects, so that a careless program may write to one. Every object is therefore
sealed: its modification time is its change time, which only the kernel sets, less AGE. Whatever touches it breaks the
seal, also where it puts the modification time back. An object without seal is hashed before it is used. One that is
damaged counts as gone; if its modification time was kept, nobody knows since when it is wrong, and what was made of it
goes with it.

On a file system where a mapped write moves no time (store/mapped_writes.py) no seal says anything: an object is hashed
once in each process that uses it, and once more by a build's last look.
"""

import os
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from quantmill.artifact import Artifact
from quantmill.disk import (
    AGE,
    hold,
    is_sealed,
    link_or_copy,
    locked,
    make_way,
    read_small,
    seal,
    sha256_file,
    sync_folder,
    write_own,
)
from quantmill.store.mapped_writes import MappedWrites
from quantmill.store.proof import prove, proven
from quantmill.store.shared import Gone

_read: set[tuple[int, int, str]] = set()  # device, inode and digest of objects that this process has hashed


def object_name(root: Path, sha256: str) -> str:
    """Where the object of that digest is in the store at `root`, or would be. As text, which takes a tenth of the time
    where there are thousands."""
    return f"{root}/cas/{sha256[:2]}/{sha256}"


class Objects:
    """The objects below `root`, and what `cache gc` has to know of a process that uses them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mapped = MappedWrites(root)
        self._alive = False
        self._since = 0, Path()  # when we began, in ns by the store's clock, and the file that says so

    def object_path(self, sha256: str) -> Path:
        """Where the object of that digest is, or would be."""
        return Path(self.object_name(sha256))

    def object_name(self, sha256: str) -> str:
        """`object_path` as text."""
        return object_name(self.root, sha256)

    def has(self, artifact: Artifact) -> bool:
        """Whether the object is here and whole. It was hashed when it entered; again only when somebody touched it."""
        return self._holds(artifact.sha256, artifact.size)

    def _holds(self, sha256: str, size: int) -> bool:
        try:
            stat = os.stat(self.object_name(sha256))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return stat.st_size == size and (self._untouched(stat, sha256) or self.check(self._artifact(sha256, size)))

    def _untouched(self, stat: os.stat_result, sha256: str) -> bool:
        return is_sealed(stat) and (self._sealing(stat.st_dev) or (stat.st_dev, stat.st_ino, sha256) in _read)

    def _sealing(self, device: int) -> bool:
        """Whether whoever touches an object breaks its seal."""
        return self.mapped.move_times(self.root / "cas", device)

    def notes(self) -> list[str]:
        """What a build's person ought to know of this store."""
        try:
            sealing = self._sealing(os.stat(self.root / "cas").st_dev)
        except OSError:
            return []
        said = "mapped writes move no time on this file system, so that each build hashes again what it uses"
        return [] if sealing else [f"{self.root}: {said}"]

    def look_anew(self) -> None:
        """Hash again, where no seal can be trusted, what this process has hashed."""
        if self.notes():
            _read.clear()

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
        """Make `target` the object: a link or a copy. Gone where it is not here, or damaged."""
        if not self.has(artifact):
            raise Gone(artifact, "it was damaged")
        link_or_copy(artifact.path, target)
        with suppress(OSError):  # it is another person's
            self.seal(artifact)  # a link more moves its change time

    def let_go(self, artifact: Artifact) -> None:
        """Remove an object that is whole elsewhere, or can be made again: records of it go on counting, and whatever
        reads it has it brought back."""
        write_own(self._mark(artifact.sha256), prove(artifact.sha256, b'{"size": %d}' % artifact.size))
        with locked(self.root / "lock" / "gc"):
            artifact.path.unlink(missing_ok=True)

    def is_let_go(self, sha256: str) -> bool:
        """Whether an object is not here because it was let go."""
        return self._let_go(sha256) and not self.object_path(sha256).exists()

    def lose(self, sha256: str) -> None:
        """An object that was let go can be had nowhere: records of it count no more until it is made again."""
        self._mark(sha256).unlink(missing_ok=True)

    def _let_go(self, sha256: str) -> bool:
        try:
            return proven(sha256, read_small(f"{self.root}/away/{sha256}")) is not None
        except OSError:
            return False

    def _mark(self, sha256: str) -> Path:
        return self.root / "away" / sha256

    def condemn(self, sha256: str) -> None:
        """Remove an object that is damaged, and undo what was made of it."""
        self.undo(sha256)
        self.object_path(sha256).unlink(missing_ok=True)

    def undo(self, sha256: str) -> list[str]:
        """Where nobody knows since when an object is damaged, remove what was made of it: records, their outputs'
        records in turn, and spans. Returns the names of the records."""
        from quantmill.store.descent import forget, note

        try:
            stat = os.stat(self.object_path(sha256))
        except FileNotFoundError:
            return []
        if stat.st_mtime_ns > stat.st_ctime_ns - AGE // 2:  # a writer's: the seal was broken since
            return []
        gone = forget(self.root, [sha256])
        if gone:
            note(self.root, sha256)
            self._undone(gone)
        return gone

    def _undone(self, records: list[str]) -> None:
        """Hears which records are removed."""

    def damages(self) -> int:
        """A number that moves when something was found damaged or revoked, and records went with it."""
        try:
            return os.stat(self.root / "damaged").st_ctime_ns
        except FileNotFoundError:
            return 0

    def keep(self, artifacts: Iterable[Artifact]) -> None:
        """Mark objects that are here as used now, for a record that is about to name them."""
        self._live()
        with suppress(OSError), locked(self.root / "lock" / "gc", shared=True):
            for artifact in artifacts:
                if self.has(artifact):
                    with suppress(OSError):
                        self.seal(artifact)  # its change time moves

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
            self.lose(artifact.sha256)  # a mark of old would say of one that is lost that it was let go
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


def _leave(path: Path, descriptor: int) -> None:
    with suppress(OSError):  # gc removes what is left of the dead
        path.unlink(missing_ok=True)
    with suppress(OSError):
        os.close(descriptor)
