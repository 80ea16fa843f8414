"""publish: a release's tree to a repository of the Hub, whole or, after whatever broke, whole the next time.

The Hub is asked what it has, what differs is sent, and it is asked again, until nothing differs; then the commit is
tagged. So a broken connection, a lost answer and a killed process are one case: what has arrived is not sent again.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.errors import QuantmillError, UsageError
from quantmill.listing import LISTING, LISTING_LIMIT, parse_strangers
from quantmill.network.hub import HubError, HubFile, NoSuchRepository, fetch_head, list_files, named, passing, patiently
from quantmill.store.remote.signature import NAME as SIGNATURE

ATTEMPTS = 8  # without anything new at the Hub
PAUSE = 0.5  # seconds after the first of them, doubled for each that follows
BRANCH = "main"
ENDINGS = (".gguf", ".imatrix")  # what is sent before the page and what goes with it


def different(path: Path) -> QuantmillError:
    """A file of the release is not what its listing says."""
    return QuantmillError(f"{path}: this is not the file that {LISTING} lists; build the release again")


@dataclass(frozen=True)
class File:
    """One file to be published; its sha256 is that of the release's listing."""

    name: str
    path: Path
    size: int
    sha256: str


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


def files_of(tree: Path, digest: Callable[[Path], str]) -> list[File]:
    """Every file of the release in `tree`, each compared with its listing. `digest(path)` is a file's sha256."""
    listed = {entry["name"]: entry["sha256"] for entry in json.loads((tree / LISTING).read_bytes())["files"]}
    found = []
    for path in sorted(path for path in tree.rglob("*") if path.is_file() and not path.name.startswith(".")):
        name = path.relative_to(tree).as_posix()
        sha256 = digest(path)
        if listed.pop(name, sha256) != sha256:
            raise different(path)
        found.append(File(name, path, path.stat().st_size, sha256))
    if listed:
        raise different(tree / min(listed))
    return found


def prepare(repo: str, tag: str, files: Sequence[File]) -> Upload:
    """Ask the Hub what it has. Raises UsageError where the tag is taken, and a HubError when it does not answer."""
    try:
        commit, there = list_files(repo, BRANCH, recursive=True)
    except NoSuchRepository:
        return Upload(repo, tag, _commits(files), (), "", 0, True, False)
    tags = _tags(repo)
    if tag in tags:
        commit, at = list_files(repo, tag, recursive=True)
        for file in files:
            if file.name != SIGNATURE and not _same(file, at.get(file.name)):
                raise UsageError(
                    f"{repo}: the tag {tag} is there already, where {file.name} is another file; a tag is never "
                    "moved: remove it at the Hub, or find out who made other files of the same recipe and lock"
                )
        return Upload(repo, tag, (), (), commit, len(files), False, True)
    wanted = [file for file in files if not _same(file, there.get(file.name))]
    removed = sorted(_left(repo, commit, there) - {file.name for file in files})
    return Upload(repo, tag, _commits(wanted), tuple(removed), commit, len(files) - len(wanted), False, False)


def unasked(repo: str, tag: str, files: Sequence[File]) -> Upload:
    """What is to be done if the Hub has nothing yet, for a look without it."""
    return Upload(repo, tag, _commits(files), (), "", 0, False, False)


def send(files: Sequence[File], upload: Upload, tell: Callable[[str], None], private: bool = False) -> str:
    """Do it; the commit that is tagged at the end. `tell` hears a line for each commit; `private`: of a repository that
    is created. Raises a HubError when the Hub keeps failing: what has arrived stays, and the next call goes on from
    it."""
    repo, failures, before = upload.repo, 0, -1
    while True:
        try:
            upload = prepare(repo, upload.tag, files)
            left = sum(map(len, upload.commits)) + len(upload.removed)
            failures, before = (0 if left != before else failures), left
            if upload.has_tag:
                return upload.at
            _step(upload, tell, private)
        except Exception as error:
            if not _comes_back(error) or failures >= ATTEMPTS:
                with named(repo, BRANCH):
                    raise
            time.sleep(min(PAUSE * 2**failures, 30))
            failures += 1


def _step(upload: Upload, tell: Callable[[str], None], private: bool) -> None:
    """The next thing to do at the Hub."""
    from huggingface_hub import HfApi

    api, repo = HfApi(), upload.repo
    if upload.new:
        tell(f"create {repo}")
        with named(repo, BRANCH):
            api.create_repo(repo, exist_ok=True, private=private or None)
        return
    if upload.commits or upload.removed:
        _commit(upload, tell)
        return
    tell(f"tag {upload.tag}")
    with named(repo, BRANCH):
        api.create_tag(repo, tag=upload.tag, revision=upload.at, exist_ok=True)


def _commit(upload: Upload, tell: Callable[[str], None]) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    group = upload.commits[0] if upload.commits else ()
    operations: list[Any] = []
    for file in group:
        operations.append(CommitOperationAdd(file.name, str(file.path)))
        if operations[-1].upload_info.sha256.hex() != file.sha256:
            raise different(file.path)
    if len(upload.commits) <= 1:
        operations += [CommitOperationDelete(name) for name in upload.removed]
    title = _title(group, upload.removed)
    tell(title)
    HfApi().create_commit(upload.repo, operations, commit_message=title, commit_description=f"Release {upload.tag}")


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


def _same(file: File, there: HubFile | None) -> bool:
    """Whether the Hub has the file: by sha256 where it keeps it in LFS, else by git's digest of the content."""
    if there is None or there.size != file.size:
        return False
    return there.sha256 == file.sha256 if there.sha256 else there.describes(file.path)


def _tags(repo: str) -> set[str]:
    from huggingface_hub import HfApi

    with named(repo, BRANCH):
        return {ref.name for ref in patiently(lambda: HfApi().list_repo_refs(repo)).tags}


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


def _comes_back(error: BaseException | None) -> bool:
    """Whether the network or the Hub failed as it does now and then. Errors come wrapped, by us and by the library."""
    import httpx2

    for cause in _causes(error):
        if isinstance(cause, httpx2.TransportError) or (isinstance(cause, Exception) and passing(cause)):
            return True
    return False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


__all__ = ["File", "HubError", "Upload", "files_of", "prepare", "send"]
