"""The folder of a site: the releases that it is made of, and its files, of which none is written over but its own."""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from quantmill.disk import is_digest
from quantmill.errors import UsageError
from quantmill.listing import IMATRIX_ENDING, LISTING, read_strangers
from quantmill.output_file import check_output_folder, write_output

INDEX, BELOW = "index.html", "releases"
MARKER = "quantmill-site.json"  # the files that the last call wrote, with their digests
DEEPEST = 2  # folders between one of releases and a release, as of OWNER/NAME
MOST_RELEASES, LONGEST = 2000, 100  # releases of a site, characters of a page's name
_OWN = re.compile(rf"{re.escape(INDEX)}|{BELOW}/[A-Za-z0-9][A-Za-z0-9._-]*\.html")


class Named(NamedTuple):
    """A release: what a site calls it, and where it lies."""

    name: str
    place: str


def releases_in(places: Sequence[str]) -> list[Named]:
    """The releases that a call names, each once, by name. A folder with neither a listing nor a GGUF file is one of
    releases, and those in it are called by their path there. UsageError where there are none."""
    found: dict[str, Named] = {}
    for place in places:
        folder = Path(place)
        if not folder.is_dir():
            found.setdefault(place, Named(place, place))
            continue
        below = [folder] if _is_release(folder) else sorted(_below(folder, DEEPEST))
        if not below:
            raise UsageError(f"{place}: there are no releases in it; name a release's folder, or a folder of such")
        for path in below:
            name = path.relative_to(folder).as_posix() if path != folder else path.resolve().name or "release"
            found.setdefault(str(path.resolve()), Named(name, str(path)))
    if len(found) > MOST_RELEASES:
        raise UsageError(f"{len(found)} releases are too many for one site; name at most {MOST_RELEASES}")
    return sorted(found.values(), key=lambda release: (release.name.lower(), release.name))


def _is_release(folder: Path) -> bool:
    files = (path for path in folder.glob("*.gguf") if not path.name.endswith(IMATRIX_ENDING))
    return (folder / LISTING).is_file() or any(path.is_file() for path in files)


def _below(folder: Path, deep: int) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or not path.is_dir():
            continue
        if _is_release(path):
            yield path
        elif deep > 1:
            yield from _below(path, deep - 1)


def page_names(names: Sequence[str]) -> list[str]:
    """The file of each release's page. Of names that differ in their case or odd characters alone the later ones get a
    number: no file system may take two for one."""
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name.replace("/", "--")).strip("._-")[:LONGEST] or "release"
        number, called = 1, stem
        while called.lower() in taken:
            number += 1
            called = f"{stem}-{number}"
        taken.add(called.lower())
        found.append(f"{BELOW}/{called}.html")
    return found


class SiteFolder:
    """The folder to write a site into. What is in it stays as it is, but for files that an earlier call wrote and
    nobody changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = check_output_folder(folder)
        self._own = self._marked()

    def check(self, names: Collection[str], releases: Collection[Path]) -> None:
        """UsageError where these pages cannot be written: something else is there, or the folder is in a release."""
        here = self.folder.resolve()
        for release in releases:
            if release.is_dir() and here.is_relative_to(release.resolve()):
                raise UsageError(f"{self.folder}: this is in the release {release}; name a folder apart from it")
        below = self.folder / BELOW
        if below.is_symlink() or (below.exists() and not below.is_dir()):
            raise UsageError(f"{below}: this is no folder of a site; name another folder, or move it away")
        for name in (INDEX, *sorted(names)):
            path = self.folder / name
            if (path.exists() or path.is_symlink()) and not self._is_own(name):
                raise UsageError(f"{path}: it is not as quantmill site wrote it, and stays; move it, or name another")

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write the files, and remove those of the last call that are no more. What is interrupted can be called
        again."""
        digests = {name: [hashlib.sha256(data).hexdigest()] for name, data in sorted(files.items())}
        self.folder.mkdir(parents=True, exist_ok=True)
        both = {name: [*digests.get(name, []), *self._own.get(name, [])] for name in sorted({*digests, *self._own})}
        self._mark(both)
        for name, data in files.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            write_output(self.folder / name, data)
        for name in self._own.keys() - files.keys():
            if self._is_own(name):
                (self.folder / name).unlink()
        with suppress(OSError):  # there are pages in it
            (self.folder / BELOW).rmdir()
        self._mark(digests)

    def _mark(self, digests: Mapping[str, Sequence[str]]) -> None:
        text = json.dumps({"made_by": "quantmill site", "files": digests}, indent=1) + "\n"
        write_output(self.folder / MARKER, text.encode())

    def _marked(self) -> dict[str, list[str]]:
        path = self.folder / MARKER
        if not path.exists() and not path.is_symlink():
            return {}
        try:
            if path.is_symlink() or not path.is_file():
                raise ValueError
            found = read_strangers(path)["files"]
            if not all(_OWN.fullmatch(name) and all(map(is_digest, digests)) for name, digests in found.items()):
                raise ValueError
            return {name: list(digests) for name, digests in found.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            what = "this is no list of a site's files"
            raise UsageError(f"{path}: {what}; move it away, or name another folder") from None

    def _is_own(self, name: str) -> bool:
        path = self.folder / name
        if path.is_symlink() or not path.is_file():
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() in self._own.get(name, [])
