"""publish: a release's tree to a repository of the Hub, whole or, after whatever broke, whole the next time.

The Hub is asked what it has, what differs is sent, and it is asked again, until nothing differs; then the commit is
tagged. So a broken connection, a lost answer and a killed process are one case: what has arrived is not sent again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantmill.errors import QuantmillError
from quantmill.listing import LISTING, LISTING_LIMIT, parse_strangers
from quantmill.network.hub import HubError, HubFile, NoSuchRepository, fetch_head, list_files, named
from quantmill.network.uploading import BRANCH, File, create, persistently, send_files, tagged, tags
from quantmill.store.remote.signature import NAME as SIGNATURE

ENDINGS = (".gguf", ".imatrix")  # what is sent before the page and what goes with it
NOTHING: Mapping[str, str] = {}


def different(path: Path) -> QuantmillError:
    """A file of the release is not what its listing says."""
    return QuantmillError(f"{path}: this is not the file that {LISTING} lists; build the release again")


class Lost(QuantmillError):
    """Files of a release that are not here any more, for they were published, and not at the Hub."""

    def __init__(self, repo: str, files: Sequence[File]) -> None:
        more = f" and {len(files) - 1} more files" if len(files) > 1 else ""
        super().__init__(f"{repo}: it has {files[0].name}{more} no more, nor has this machine; build the release again")
        self.files = files


@dataclass(frozen=True)
class Upload:
    """What is to be done.

    `commits`: groups of files, in order
    `removed`: files of an earlier release to be removed
    `at`: the commit that was looked at
    `there`: how many files the Hub has already
    `new`: whether the repository has to be created
    `has_tag`: whether the tag is already where it belongs
    """

    repo: str
    tag: str
    commits: tuple[tuple[File, ...], ...]
    removed: tuple[str, ...]
    at: str
    there: int
    new: bool
    has_tag: bool

    @property
    def bytes(self) -> int:
        """Of all that is sent."""
        return sum(file.size for commit in self.commits for file in commit)


def files_of(
    tree: Path, digest: Callable[[Path], str], let_go: Callable[[str], bool] = lambda sha256: False
) -> list[File]:
    """Every file of the release in `tree`, each compared with its listing. `digest(path)` is a file's sha256;
    `let_go(sha256)`: whether one that is not there is known to be published."""
    listed = {entry["name"]: entry for entry in json.loads((tree / LISTING).read_bytes())["files"]}
    found = []
    for path in sorted(path for path in tree.rglob("*") if path.is_file() and not path.name.startswith(".")):
        name = path.relative_to(tree).as_posix()
        sha256 = digest(path)
        if listed.pop(name, {"sha256": sha256})["sha256"] != sha256:
            raise different(path)
        found.append(File(name, path, path.stat().st_size, sha256))
    for name, entry in sorted(listed.items()):
        if not let_go(entry["sha256"]):
            raise different(tree / name)
        found.append(File(name, tree / name, entry["size"], entry["sha256"]))
    return found


def prepare(repo: str, tag: str, files: Sequence[File], sent: Mapping[str, str] = NOTHING) -> Upload:
    """Ask the Hub what it has. `sent`: digests by name of what was sent there for a release that never came, which goes
    as an earlier one's files do. Raises UsageError where the tag is taken, and a HubError when it does not answer."""
    try:
        commit, there = list_files(repo, BRANCH, recursive=True)
    except NoSuchRepository:
        return Upload(repo, tag, _commits(files), (), "", 0, True, False)
    if tag in tags(repo):
        commit = tagged(repo, tag, [file for file in files if file.name != SIGNATURE])
        return Upload(repo, tag, (), (), commit, len(files), False, True)
    wanted = [file for file in files if not file.same(there.get(file.name))]
    left = {name for name, sha256 in sent.items() if name in there and there[name].sha256 == sha256}
    removed = sorted((_left(repo, commit, there) | left) - {file.name for file in files})
    return Upload(repo, tag, _commits(wanted), tuple(removed), commit, len(files) - len(wanted), False, False)


def unasked(repo: str, tag: str, files: Sequence[File]) -> Upload:
    """What is to be done if the Hub has nothing yet, for a look without it."""
    return Upload(repo, tag, _commits(files), (), "", 0, False, False)


def send(
    files: Sequence[File],
    upload: Upload,
    tell: Callable[[str], None],
    private: bool = False,
    sent: Mapping[str, str] = NOTHING,
) -> str:
    """Do it; the commit that is tagged at the end. `tell` hears a line for each commit; `private`: of a repository that
    is created; `sent`: as of `prepare`. Raises a HubError when the Hub keeps failing: what has arrived stays, and the
    next call goes on from it."""
    at = ""

    def look() -> tuple[int, Callable[[], None] | None]:
        nonlocal at
        found = prepare(upload.repo, upload.tag, files, sent)
        if lost := [file for group in found.commits for file in group if not file.path.is_file()]:
            raise Lost(upload.repo, lost)
        at = found.at
        left = sum(map(len, found.commits)) + len(found.removed)
        return left, None if found.has_tag else lambda: _step(found, tell, private)

    persistently(upload.repo, look)
    return at


def _step(upload: Upload, tell: Callable[[str], None], private: bool) -> None:
    """The next thing to do at the Hub."""
    from huggingface_hub import HfApi

    repo = upload.repo
    if upload.new:
        tell(f"create {repo}")
        create(repo, private)
        return
    if upload.commits or upload.removed:
        group = upload.commits[0] if upload.commits else ()
        tell(title := _title(group, upload.removed))
        removed = upload.removed if len(upload.commits) <= 1 else ()
        send_files(repo, group, title, f"Release {upload.tag}", different, removed)
        return
    tell(f"tag {upload.tag}")
    with named(repo, BRANCH):
        HfApi().create_tag(repo, tag=upload.tag, revision=upload.at, exist_ok=True)


def _title(group: Sequence[File], removed: Sequence[str]) -> str:
    if not group:
        return f"Remove {len(removed)} files of an earlier release"
    if len(group) == 1:
        return f"Add {group[0].name}"
    folder = group[0].name.partition("/")[0]
    shards = all(file.name.startswith(f"{folder}/") for file in group)
    return f"Add {folder}/" if shards else f"Add the page and {len(group) - 1} files beside the weights"


def _commits(files: Sequence[File]) -> tuple[tuple[File, ...], ...]:
    """A commit for each file of weights or folder of shards, small ones first, and one for the rest with the page, so
    that no page tells of files that are not there."""
    groups: dict[str, list[File]] = {}
    last: list[File] = []
    for file in files:
        if file.name.endswith(ENDINGS):
            groups.setdefault(file.name.partition("/")[0], []).append(file)
        else:
            last.append(file)
    ordered = sorted(groups.values(), key=lambda group: (sum(file.size for file in group), group[0].name))
    return tuple(tuple(group) for group in [*ordered, last] if group)


def _left(repo: str, commit: str, there: Mapping[str, HubFile]) -> set[str]:
    """What an earlier release of ours put there, by its listing; nothing else at the Hub is touched."""
    listing = there.get(LISTING)
    if listing is None or listing.size > LISTING_LIMIT:
        return set()
    try:
        data = parse_strangers(fetch_head(repo, LISTING, commit, listing.size))
        return {SIGNATURE, *(str(entry["name"]) for entry in data["files"])} & there.keys()
    except (KeyError, TypeError):
        return set()


__all__ = ["File", "HubError", "Upload", "files_of", "prepare", "send"]
