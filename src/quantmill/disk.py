"""Files written so that a name that exists is whole, and locks that go with the process."""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Any, BinaryIO, TypeGuard

CHUNK = 4 << 20
SMALL = 64 << 10
AGE = 40 * 365 * 86_400 * 10**9  # ns by which objects look older than they are; archive formats begin with 1980
SEAL, SLOW_SEAL = 500_000, 10_000_000  # ns between a seal's making and the change time that it leaves, at most
SLOW = 7  # the microseconds' last digit in the time of a seal that a slow file server made
HELD = 1.0  # seconds until it is told for whom we wait
UNFINISHED = re.compile(r"\..+\.[0-9a-f]+\.tmp")  # names of files that are written, before they have their own
_NO_NAME = re.compile(r"[\0\ud800-\udfff]")  # characters that no file's name has


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


def below(name: object) -> TypeGuard[str]:
    """Whether a name that a stranger may have written can only be that of something below a folder: parts that are
    neither empty, `.` nor `..`, of characters that a file's name can have."""
    return isinstance(name, str) and not _NO_NAME.search(name) and not {"", ".", ".."} & set(name.split("/"))


def is_sealed(stat: os.stat_result) -> bool:
    """Whether a file's times are a store's seal (store/local.py): nobody touched it since."""
    slow = stat.st_mtime_ns // 1000 % 10 == SLOW
    return abs(stat.st_ctime_ns - AGE - stat.st_mtime_ns) <= (SLOW_SEAL if slow else SEAL)


def seal(path: Path) -> os.stat_result:
    """Give a file a seal, and return what it looks like then. Where the file server is too slow for a close one, a wide
    one; where it is too slow for that, none: then it is hashed whenever it is used."""
    moment = time.time_ns()
    for slow in (False,) * 5 + (True,) * 4:
        digit = moment // 1000 % 10
        moment += 1000 * (SLOW - digit if slow else int(digit == SLOW))
        os.utime(path, ns=(moment - AGE, moment - AGE))
        stat = os.stat(path)
        if is_sealed(stat):
            break
        moment = stat.st_ctime_ns  # by the file server's clock
    return stat


def is_digest(text: object) -> TypeGuard[str]:
    """Whether something is a sha256 as it is written here: 64 lower-case hex digits."""
    return isinstance(text, str) and len(text) == 64 and not text.strip("0123456789abcdef")


def parse_json(data: bytes) -> Any:
    """What JSON says; None for what is none, or nested deeper than Python goes."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def read_json(path: Path | str) -> Any:
    """The same of a file that may be damaged, or no file at all: None also where it cannot be read."""
    try:
        return parse_json(read_small(os.fspath(path)))
    except (OSError, ValueError):
        return None


def read_table(path: Path | str) -> dict[str, Any]:
    """The same of a file that holds a JSON object: an empty one for anything else."""
    found = read_json(path)
    return found if isinstance(found, dict) else {}


def names_in(folder: Path) -> list[str]:
    """The names in a folder that are not hidden, sorted; none where there is no folder."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def files_below(folder: Path, ending: str = "") -> list[Path]:
    """The files below a folder whose names end so, sorted, and no links; none where there is no folder. Unlike rglob it
    takes no folder that cannot be read for an empty one."""

    def told(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    found = (Path(place, name) for place, _, names in os.walk(folder, onerror=told) for name in names)
    return sorted(path for path in found if path.name.endswith(ending) and path.is_file() and not path.is_symlink())


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


def write_own(path: Path, data: bytes, sync: bool = True) -> None:
    """`write_atomic` within a folder of ours, where whatever else stands at the name, or in its way, goes."""
    try:
        write_atomic(path, data, sync)
    except (IsADirectoryError, NotADirectoryError, FileExistsError):
        make_way(path)
        write_atomic(path, data, sync)


def make_way(path: Path) -> None:
    """Remove a folder or a link that stands where a file of ours belongs, and a file where a folder ought to be."""
    for folder in reversed(path.parents):
        if folder.is_file():
            folder.unlink()
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink():
        path.unlink()


def link_or_copy(source: Path, target: Path) -> None:
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


@contextmanager
def locked(path: Path, shared: bool = False, waits: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock of that name, which goes with the process. Waits for whoever holds it, thread or process; `shared`
    holders do not wait for each other. With `waits` the holder writes into the file who it is, and `waits` is told of
    it after HELD seconds, from another thread."""
    while True:
        with _opened(path) as file:
            try:
                _flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, path, waits)
            except OSError as error:  # a file server that knows no locks, say; flock does not name the file
                error.filename = error.filename or os.fspath(path)
                raise
            if _names(path, file.fileno()):
                if waits:
                    with suppress(OSError):  # no room: others wait for somebody without a name
                        file.truncate(0)
                        file.write(f"process {os.getpid()} of {os.uname().nodename}".encode())
                        file.flush()
                yield
                return


def _flock(file: BinaryIO, kind: int, path: Path, waits: Callable[[str], None] | None) -> None:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        timer = Timer(HELD, lambda: waits and waits(_holder(path)))
        timer.daemon = True
        timer.start()
        try:
            fcntl.flock(file, kind)
        finally:
            timer.cancel()


def _holder(path: Path) -> str:
    try:
        return read_small(str(path)).decode("ascii", "replace")[:200] or "another process"
    except OSError:
        return "another process"


def _opened(path: Path) -> BinaryIO:
    """A lock's file; what else stands there is none of ours and goes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "ab")
    except (IsADirectoryError, NotADirectoryError, FileExistsError):
        make_way(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "ab")


@contextmanager
def unless_locked(path: Path) -> Iterator[bool]:
    """Hold the lock when nobody else does: True; False at once otherwise. The holder may remove the file: whoever waits
    for it notices and takes the next of that name."""
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield _names(path, file.fileno())


def hold(path: Path) -> int:
    """Make a file that nobody else has, locked until its descriptor, which is returned, is closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if _names(path, descriptor):
            return descriptor
        os.close(descriptor)


def _names(path: Path, descriptor: int) -> bool:
    """Whether `path` still is the open file: somebody may have removed it while we waited."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def sync_folder(path: Path) -> None:
    """Put a folder's names on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
