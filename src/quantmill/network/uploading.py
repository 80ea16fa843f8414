"""Files to a repository of the Hub: what it has is not sent again, and what broke is taken up where it broke."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.errors import QuantmillError, UsageError
from quantmill.network.hub import HubFile, NoSuchRepository, list_files, named, passing, patiently

ATTEMPTS = 8  # without anything new at the Hub
PAUSE = 0.5  # seconds after the first of them, doubled for each that follows
BRANCH = "main"


@dataclass(frozen=True)
class File:
    """One file to be published; its sha256 is that of the release's listing."""

    name: str
    path: Path
    size: int
    sha256: str

    def same(self, there: HubFile | None) -> bool:
        """Whether the Hub has the file: by sha256 where it keeps it in LFS, else by git's digest of the content."""
        if there is None or there.size != self.size:
            return False
        return there.sha256 == self.sha256 if there.sha256 else self.path.is_file() and there.describes(self.path)


def persistently(repo: str, look: Callable[[], tuple[int, Callable[[], None] | None]]) -> None:
    """Do what is left to do at the Hub. `look()` asks how much that is, and for the next of it, until it answers None.
    Raises a HubError when the Hub keeps failing: what has arrived stays."""
    failures, before = 0, -1
    while True:
        try:
            left, act = look()
            failures, before = (0 if left != before else failures), left
            if act is None:
                return
            act()
        except Exception as error:
            if not _comes_back(error) or failures >= ATTEMPTS:
                with named(repo, BRANCH):
                    raise
            time.sleep(min(PAUSE * 2**failures, 30))
            failures += 1


def create(repo: str, private: bool) -> None:
    """Make the repository, where there is none yet."""
    from huggingface_hub import HfApi

    with named(repo, BRANCH):
        HfApi().create_repo(repo, exist_ok=True, private=private or None)


def listed(repo: str) -> Mapping[str, HubFile] | None:
    """The files on the main branch; None where there is no such repository."""
    try:
        return list_files(repo, BRANCH, recursive=True)[1]
    except NoSuchRepository:
        return None


def tags(repo: str) -> set[str]:
    """The repository's tags."""
    from huggingface_hub import HfApi

    with named(repo, BRANCH):
        return {ref.name for ref in patiently(lambda: HfApi().list_repo_refs(repo)).tags}


def tagged(repo: str, tag: str, files: Sequence[File]) -> str:
    """The commit of a tag that is there; UsageError where one of the files is another one at it."""
    commit, at = list_files(repo, tag, recursive=True)
    for file in files:
        if not file.same(at.get(file.name)):
            raise UsageError(
                f"{repo}: the tag {tag} is there already, where {file.name} is another file; a tag is never "
                "moved: remove it at the Hub, or find out who made other files of the same recipe and lock"
            )
    return commit


def send_files(
    repo: str,
    files: Sequence[File],
    title: str,
    description: str,
    wrong: Callable[[Path], QuantmillError],
    removed: Sequence[str] = (),
) -> None:
    """Send files, and remove others, in one commit. `wrong`: the error of a file that has another digest by now."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    operations: list[Any] = []
    for file in files:
        operations.append(CommitOperationAdd(file.name, str(file.path)))
        if operations[-1].upload_info.sha256.hex() != file.sha256:
            raise wrong(file.path)
    operations += [CommitOperationDelete(name) for name in removed]
    HfApi().create_commit(repo, operations, commit_message=title, commit_description=description)


def have_there(
    repo: str,
    files: Sequence[File],
    title: str,
    description: str,
    wrong: Callable[[Path], QuantmillError],
    tag: str,
    private: bool = False,
) -> None:
    """Have files on the main branch of a repository, each as it is here by the Hub's own listing. Where the release's
    tag is there, they have to be at it, and nothing is sent: the branch is a later release's. `private`: of a
    repository that is created."""

    def look() -> tuple[int, Callable[[], None] | None]:
        there = listed(repo)
        if there is None:
            return len(files) + 1, lambda: create(repo, private)
        if tag in tags(repo):
            tagged(repo, tag, files)
            return 0, None
        left = [file for file in files if not file.same(there.get(file.name))]
        return len(left), (lambda: send_files(repo, left, title, description, wrong)) if left else None

    persistently(repo, look)


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
