"""The store: objects named by their sha256, and action records that map step keys to them.

Layout below the root (specified in cache/README.md): `cas/<aa>/<sha256>`, `ac/<key>`, `work/<key>/` for the step in
flight, `lock/<key>` held by the process that computes it, `memo/` for digests of files outside the store. An object or
a record is written beside, synced and renamed, so a name that exists is whole. A process that dies leaves at most a
`work/` folder, which the next run of the same key takes over, and small `.tmp` files.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from quantmill.artifact import Artifact, silent
from quantmill.disk import (
    files_below,
    locked,
    make_way,
    parse_json,
    read_json,
    read_small,
    sha256_file,
    sync_folder,
    write_own,
)
from quantmill.errors import QuantmillError
from quantmill.store.hints import Hints
from quantmill.store.key import StepKey
from quantmill.store.objects import Objects
from quantmill.store.proof import prove, proven
from quantmill.store.record import decode, encode, has_outputs
from quantmill.store.shared import Gone, Remote, SharedRecord, Worth, unknown


def store_folder(root: Path, given: Path | None = None) -> Path:
    """Where the store of a project is: QUANTMILL_CACHE, else as `given`, else the project's `cache`."""
    return Path(os.environ.get("QUANTMILL_CACHE") or given or root / "cache")


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


def any_names(names: Collection[str]) -> bool:
    """Of a step that does not tell what its outputs are called."""
    return True


class Hit(NamedTuple):
    """The step has been run before: output name → object, which may still be at the shared store (`Store.bring`).
    `address` says whose record it is: empty for one of this store, else the shared store's URL."""

    outputs: Mapping[str, Artifact]
    address: str = ""


class Miss(NamedTuple):
    """The step must be run, by the holder of `slot` alone."""

    slot: "Slot"


class Slot(Protocol):
    """The right to run one step: write outputs into `folder`, then commit them."""

    folder: Path

    def commit(
        self, references: Mapping[str, Artifact], promised: Mapping[str, str] = NOTHING
    ) -> Mapping[str, Artifact]:
        """Take every file below `folder`, and `references` to objects the store has, as the step's outputs. Broken for
        one that has not the sha256 that is `promised` by name, and for a .json that a step wrote and that is none; it
        is removed."""


class Store(Objects):
    """A store on a local file system, before one that machines share (`remote`) where there is one. Safe for several
    processes and threads at once."""

    def __init__(self, root: Path, remote: Remote | None = None) -> None:
        super().__init__(root)
        self.remote, self.hints = remote, Hints(root, self.mapped)

    def _undone(self, records: list[str]) -> None:
        if self.remote:
            self.remote.withdraw(records)

    def drop(self, key: StepKey) -> None:
        """Remove the record of a step, which others cannot read."""
        (self.root / "ac" / key.digest()).unlink(missing_ok=True)

    def taken(self, key: StepKey) -> bool:
        """Whether the record of a step came from a shared store."""
        try:
            found = decode(key.digest(), read_small(f"{self.root}/ac/{key.digest()}"))
        except OSError:
            return False
        return found is not None and "origin" in found

    def record(self, key: StepKey, whole: bool = False) -> Mapping[str, Artifact] | None:
        """The recorded outputs of a step, or None. Every object is here or, unless they are to be `whole`, was let go
        or is at the shared store that the record was taken from."""
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
        if not all(self._counts(fact["sha256"], fact["size"], whole) for fact in outputs.values()):
            return None
        if b'\n "digest": ' not in data:  # of a version whose records had no proof
            with suppress(OSError):
                write_own(Path(f"{self.root}/ac/{name}"), prove(name, data))
        return outputs

    def _counts(self, sha256: str, size: int, whole: bool) -> bool:
        return self._holds(sha256, size) or (not whole and self.is_let_go(sha256))

    @contextmanager
    def lookup(
        self,
        key: StepKey,
        resume: bool = False,
        whole: bool = False,
        task: str = "",
        waits: Callable[[str], None] = unheard,
        right: Callable[[Collection[str]], bool] = any_names,
        worth: Worth = unknown,
    ) -> Iterator[Hit | Miss]:
        """A Hit at once; or, after waiting for anyone who is computing this key, a Hit or the Miss that lets the
        caller compute it. `resume` keeps what a killed run left in the slot's folder; `whole` takes only what is here,
        for what the shared store has is gone; `task` is what the record is told to be of; `waits` is told, after a
        while, for whom the caller waits; a record of other outputs than those whose names are `right` is none; `worth`:
        what running it would take."""
        lock_path = self.root / "lock" / key.digest()
        folder = self.root / "work" / key.digest()
        if outputs := self._use(key, whole, right):
            if folder.exists():  # of a process that was killed when it had written the record
                shutil.rmtree(folder, ignore_errors=True)
            self._note("hit", task)
            yield Hit(outputs)
            return
        with _no_space(self.root), locked(lock_path, waits=waits), ExitStack() as stack:
            if outputs := self._use(key, whole, right):  # whoever held the lock has just finished it
                self._note("hit", task)
                yield Hit(outputs)
                return
            claim = self.remote.claim(key, task, worth) if self.remote and not whole else None
            found = stack.enter_context(claim) if claim else None
            if self.remote and found and right(found.outputs):
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
            for path in files_below(folder):  # one that was killed while it was taken in cannot be written to
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

    def used(self, key: StepKey) -> Mapping[str, Artifact] | None:
        """`record`, marked as used now, so that `cache gc` leaves it to this process."""
        return self._use(key, False, any_names)

    def _use(
        self, key: StepKey, whole: bool, right: Callable[[Collection[str]], bool]
    ) -> Mapping[str, Artifact] | None:
        """`record`, and the mark that it was used now, by which `cache gc` leaves it to a build that is running."""
        self._live()
        try:
            with locked(self.root / "lock" / "gc", shared=True):
                if (outputs := self.record(key, whole)) and right(outputs):
                    path = self.root / "ac" / key.digest()
                    os.utime(path)
                    self._witness(os.stat(path).st_mtime_ns)
        except OSError:  # a store that cannot be written to: nobody collects it either
            outputs = self.record(key, whole)
        return outputs if outputs is not None and right(outputs) else None

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

    def bring(
        self, artifacts: Iterable[Artifact], progress: Callable[[int, int], None] = silent, worth: Worth = unknown
    ) -> None:
        """Have the objects here, fetched from the shared store where they are not. `progress(done, total)` is called
        with bytes. Gone for one that can be had nowhere, or not much sooner than making them all is `worth`."""
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
                        share = artifact.size / max(total, 1)
                        self.remote.fetch(artifact, part, advance, partial(_share, worth, share))
                        self._enter(part, artifact)
                    except Gone as error:  # the others are looked at too, so that all that is damaged is sent again
                        gone.append(error)
        if gone:
            raise gone[0]

    def deliver(self, artifacts: Iterable[Artifact]) -> None:
        """Have the objects at the shared store before this returns; QuantmillError where it does not take them."""
        if self.remote is None:
            raise QuantmillError(f"{self.root}: there is no shared store that files could go to; name one")
        self.remote.deliver(artifacts)


class _Slot:
    def __init__(self, store: Store, key: StepKey, folder: Path, task: str) -> None:
        self.folder = folder
        self._store, self._key, self._task = store, key, task

    def commit(
        self, references: Mapping[str, Artifact], promised: Mapping[str, str] = NOTHING
    ) -> Mapping[str, Artifact]:
        self._store.keep(references.values())
        outputs = dict(references)
        for path in files_below(self.folder):
            name = path.relative_to(self.folder).as_posix()
            if (digest := sha256_file(path)) != promised.get(name, digest):
                path.unlink()
                raise Broken(f"{name} is not what its key promises, once it is written")
            if name.endswith(".json") and name not in promised and parse_json(path.read_bytes()) is None:
                path.unlink()
                raise Broken(f"{name} is no JSON, once it is written")
            outputs[name] = self._store.adopt(path, digest)
        self._store._write_record(self._key, outputs, {"task": self._task} if self._task else {})
        if self._store.remote:
            self._store.remote.send(self._key, self._task)
        return outputs


def _share(worth: Worth, share: float) -> float | None:
    made = worth()
    return None if made is None else made * share


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
