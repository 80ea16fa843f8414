"""llama.cpp's sources of a tag: from a folder, an archive or an address, as a tree that nobody writes to."""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from quantmill.disk import sha256_file
from quantmill.errors import QuantmillError, UsageError
from quantmill.network.web import fetch

CONVERTER = "convert_hf_to_gguf.py"
BUILD_FILE = "CMakeLists.txt"
LEFT_OUT = (".git", "__pycache__", ".venv", "node_modules")  # folders that are no sources
_BUILT = re.compile(r"build([-_].*)?")  # folders at the top that cmake made
_TAG = re.compile(r"(?<![0-9A-Za-z])(b[1-9][0-9]{2,8}|v[0-9]+\.[0-9]+\.[0-9]+)(?![0-9A-Za-z])")


def take(source: str, tag: str, tree: Path, work: Path) -> str:
    """Copy the sources of a tag to the new folder `tree`, read-only, and return their digest. `work` is for what comes
    in between. UsageError for what is no llama.cpp, or is known to be of another tag."""
    folder, named = _folder(source, work)
    if folder.is_dir():
        folder = _top(folder)
    for name in (CONVERTER, BUILD_FILE):
        if not (folder / name).is_file():
            raise UsageError(f"{source}: not a llama.cpp: it has no {name}; give its sources, as a folder or archive")
    for clue in (named, folder.name, _described(folder)):
        other = [found for found in _TAG.findall(clue) if found.startswith(tag[0])]
        if other and tag not in other:
            raise UsageError(f"{source}: these are the sources of llama.cpp {other[-1]}, not of {tag}; give those")
    _copy(folder, tree)
    return digest(tree)


def digest(tree: Path) -> str:
    """The identity of a tree: sha256 over the names and sha256 of its files, whatever their times and rights."""
    whole = hashlib.sha256()
    for path in sorted(_files(tree), key=lambda path: path.relative_to(tree).as_posix()):
        whole.update(f"{sha256_file(path)}  {path.relative_to(tree).as_posix()}\n".encode())
    return whole.hexdigest()


def remove(folder: Path) -> None:
    """Remove a folder though what is in it may be read-only."""
    for above, _, _ in os.walk(folder):
        os.chmod(above, 0o755)
    shutil.rmtree(folder, ignore_errors=True)


def _folder(source: str, work: Path) -> tuple[Path, str]:
    """The folder of the sources as they come, and a name that may tell their tag."""
    if re.match(r"https?://", source):
        path = work / PurePosixPath(source.partition("?")[0]).name
        fetch(source, path)
        return _unpacked(path, source, work), source
    path = Path(source)
    if path.is_dir():
        return path.resolve(), ""
    if not path.is_file():
        what = "this is no file" if path.exists() else "there is no such folder or archive"
        raise UsageError(f"{source}: {what}; give the sources of a llama.cpp")
    return _unpacked(path, source, work), path.name


def _unpacked(path: Path, source: str, work: Path) -> Path:
    into = work / "unpacked"
    into.mkdir()
    try:
        if tarfile.is_tarfile(path) and not hasattr(tarfile, "data_filter"):
            raise UsageError(f"{source}: Python before 3.11.4 unpacks no archive safely; give the sources as a folder")
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                archive.extractall(into, filter="data")
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(into)  # it keeps names below the folder
        else:
            raise UsageError(f"{source}: neither a tar nor a zip archive; give the sources as one, or as a folder")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError) as error:
        raise QuantmillError(f"{source}: the archive cannot be unpacked ({error}); fetch it again") from None
    return into


def _top(folder: Path) -> Path:
    """The folder itself, or the only one in it, as archives have it."""
    within = [path for path in folder.iterdir() if path.name != "pax_global_header"]
    if not (folder / CONVERTER).exists() and len(within) == 1 and within[0].is_dir():
        return within[0]
    return folder


def _described(folder: Path) -> str:
    """The tag of the commit that a git checkout stands at, where there is one and git tells."""
    if not (folder / ".git").exists():
        return ""
    try:
        command = ["git", "-C", str(folder), "describe", "--tags", "--exact-match"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _files(tree: Path) -> list[Path]:
    """The regular files below a folder; a link counts as what it leads to, where that is a file of the tree."""
    found = []
    for above, folders, names in os.walk(tree):
        at_top = Path(above) == tree
        folders[:] = [name for name in folders if name not in LEFT_OUT and not (at_top and _BUILT.fullmatch(name))]
        found += [path for name in names if (path := Path(above) / name).is_file()]
    return [path for path in found if not path.is_symlink() or path.resolve().is_relative_to(tree.resolve())]


def _copy(folder: Path, tree: Path) -> None:
    for path in _files(folder):
        target = tree / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o555 if os.access(path, os.X_OK) else 0o444)
    for above, _, _ in os.walk(tree):
        os.chmod(above, 0o555)
