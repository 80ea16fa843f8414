"""The Hub, through huggingface_hub: what a repository holds at a commit, and its files.

Everything honours huggingface_hub's own settings (HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE). Downloads into a
folder are resumed here: since 2.4 hf_hub_download begins a broken file again, under another name each time.
"""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from quantmill.errors import QuantmillError, UsageError, nearest, way

ATTEMPTS = 4  # to reach the Hub at all
PATIENCE = 9  # attempts without a single new byte when some have arrived: a minute, as a network takes to come back
PAUSE = 0.25  # seconds before the second attempt, doubled for each that follows
CHUNK = 1 << 20
COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
T = TypeVar("T")
SMALL = 100_000_000  # bytes of a file that is no weights; the largest known tokenizer.json has 35 MB
HTTP_LIMIT = 50_000_000_000  # bytes; the Hub serves larger files through Xet alone


class HubError(QuantmillError):
    """The Hub did not answer, or not as it should."""

    def __init__(self, repo: str, revision: str, problem: str) -> None:
        super().__init__(f"{repo} at {revision}: {problem}")


def wrong_size(repo: str, revision: str, name: str, found: str, size: int) -> HubError:
    """A file of the Hub is longer or shorter than the lock says."""
    return HubError(
        repo,
        revision,
        f"{name} comes with {found} bytes, the lock says {size}; run 'quantmill lock' to accept it as it is",
    )


class NoSuchRepository(UsageError):
    """The Hub shows no such model to this user."""

    def __init__(self, repo: str, revision: str) -> None:
        super().__init__(
            f"{repo} at {revision}: the Hub shows no such model; check {way('base.repo', '', 'its name')}, or set "
            "HF_TOKEN to the token of an account that may read it"
        )


class NoSuchRevision(UsageError):
    """The model is there, the branch, tag or commit is not."""

    def __init__(self, repo: str, revision: str, known: list[str]) -> None:
        self.known = known
        there = f", it has {', '.join(known[:8])}" if known else ""
        super().__init__(
            f"{repo} at {revision}: the model has no such branch, tag or commit{nearest(revision, known)}{there}; "
            f"check {way('base.revision', '', 'its name')}"
        )


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub lists it. `sha256` is None for one that is not in LFS; `blob` is its git object id, of the
    content itself when it is not in LFS."""

    size: int
    sha256: str | None
    blob: str

    def describes(self, path: Path) -> bool:
        """Whether the file at `path` has this content."""
        size = path.stat().st_size
        digest = hashlib.sha256() if self.sha256 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        if size != self.size:
            return False
        with open(path, "rb") as file:
            hashlib.file_digest(file, lambda: digest)
        return digest.hexdigest() == (self.sha256 or self.blob)


def list_files(repo: str, revision: str, recursive: bool = False) -> tuple[str, dict[str, HubFile]]:
    """The commit that `revision` names, and the files at the top of the repository at that commit, or all of them.

    a UsageError when they are not to be had, HubError when the Hub does not answer.
    """
    from huggingface_hub import HfApi, RepoFile

    with named(repo, revision):
        commit = str(patiently(lambda: HfApi().model_info(repo, revision=revision)).sha)
        if not COMMIT.fullmatch(commit):
            raise HubError(repo, revision, f"the Hub answers with {commit!r}, which is no commit; check HF_ENDPOINT")
        tree = patiently(lambda: list(HfApi().list_repo_tree(repo, revision=commit, recursive=recursive)))
        return commit, {
            file.path: HubFile(file.lfs.size, file.lfs.sha256, file.blob_id)
            if file.lfs
            else HubFile(file.size, None, file.blob_id)
            for file in tree
            if isinstance(file, RepoFile)
        }


def fetch_small(repo: str, name: str, commit: str, listed: HubFile) -> Path:
    """A file in the Hub's own cache, downloaded when it is not there, or not with the content `listed` gives it.
    HubError before that for one of more than SMALL bytes."""
    from huggingface_hub import hf_hub_download

    if listed.size > SMALL:
        raise HubError(repo, commit, f"{name} has {listed.size:,} bytes; beside the weights at most {SMALL:,} are read")
    with named(repo, commit, name):
        for force in (False, True):  # power loss can leave a broken file in that cache
            path = Path(hf_hub_download(repo, name, revision=commit, force_download=force))
            if listed.describes(path):
                return path
    raise HubError(repo, commit, f"{name} arrives with other content than the Hub lists for it; try again later")


def cached(repo: str, name: str, commit: str) -> Path | None:
    """The file in the Hub's own cache, None when it is not there. Its content is not checked."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, name, revision=commit)
    return Path(path) if isinstance(path, str) else None


def fetch(repo: str, name: str, commit: str, part: Path, size: int, advance: Callable[[int], None]) -> None:
    """Download a file of `size` bytes to `part`, after the bytes that are already there.

    A broken connection is taken up again where it broke, on the spot and, when that does not help, by the next call.
    `advance(n)` is called for every n bytes that arrive (n < 0 when a server begins again from the first byte).
    """
    if size > HTTP_LIMIT:
        _fetch_whole(repo, name, commit, part, advance)
        return
    part.touch()
    failures, patience = 0, ATTEMPTS
    with named(repo, commit, name):
        while (before := part.stat().st_size) < size:
            try:
                _request(repo, name, commit, part, before, size, advance)
            except Exception as error:
                if not passing(error):
                    raise
                failures += 1
                if part.stat().st_size > before:
                    failures, patience = 1, PATIENCE
                if failures == patience:
                    raise
                time.sleep(PAUSE * 2 ** (failures - 1))


def _request(
    repo: str, name: str, commit: str, part: Path, start: int, size: int, advance: Callable[[int], None]
) -> None:
    """One request for what follows the first `start` bytes; those that arrive are in `part`, whatever happens."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.constants import HF_HUB_DOWNLOAD_TIMEOUT
    from huggingface_hub.utils._headers import build_hf_headers
    from huggingface_hub.utils._http import hf_raise_for_status, http_stream_backoff

    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    stream = http_stream_backoff(
        "GET",
        hf_hub_url(repo, name, revision=commit),
        headers=headers,
        timeout=HF_HUB_DOWNLOAD_TIMEOUT,
        retry_on_exceptions=(),  # fetch() does that, from where it broke
        retry_on_status_codes=(408, 429),  # it waits as long as the Hub asks for
    )
    with stream as response, open(part, "ab") as file:
        hf_raise_for_status(response)
        if start and response.status_code != 206:  # a server without ranges
            file.truncate(0)
            advance(-start)
            start = 0
        elif start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise HubError(repo, commit, f"{name}: the Hub sends another range of it than asked for; try again later")
        for chunk in response.iter_bytes(CHUNK):
            start += len(chunk)
            if start > size:
                part.unlink()
                raise wrong_size(repo, commit, name, f"more than {size}", size)
            file.write(chunk)
            advance(len(chunk))
    if start < size:
        part.unlink()
        raise wrong_size(repo, commit, name, str(start), size)


def fetch_head(repo: str, name: str, commit: str, count: int) -> bytes:
    """The first `count` bytes of a file, fewer when it has fewer."""
    return fetch_range(repo, name, commit, 0, count)


def fetch_range(repo: str, name: str, commit: str, start: int, count: int) -> bytes:
    """`count` bytes of a file from byte `start` on, fewer when it has fewer. Raises HubError as `fetch` does."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.constants import HF_HUB_DOWNLOAD_TIMEOUT
    from huggingface_hub.utils._headers import build_hf_headers
    from huggingface_hub.utils._http import hf_raise_for_status, http_stream_backoff

    headers = {**build_hf_headers(), "Accept-Encoding": "identity", "Range": f"bytes={start}-{start + count - 1}"}

    def ask() -> bytes:
        found = bytearray()
        url = hf_hub_url(repo, name, revision=commit)
        with http_stream_backoff("GET", url, headers=headers, timeout=HF_HUB_DOWNLOAD_TIMEOUT) as response:
            hf_raise_for_status(response)
            if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise HubError(repo, commit, f"{name}: the Hub does not send the range asked for; try again later")
            for chunk in response.iter_bytes(CHUNK):  # a server without ranges sends it all
                found += chunk
                if len(found) >= count:
                    break
        return bytes(found[:count])

    with named(repo, commit, name):
        return patiently(ask)


def _fetch_whole(repo: str, name: str, commit: str, part: Path, advance: Callable[[int], None]) -> None:
    from huggingface_hub import hf_hub_download

    class Bar:
        """The part of a tqdm bar that huggingface_hub uses."""

        def __init__(self, **kwargs: Any) -> None: ...

        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *error: object) -> None: ...

        def update(self, count: float | None = 1) -> None:
            advance(int(count or 0))

    folder = part.parent / "whole"
    with named(repo, commit, name):
        Path(hf_hub_download(repo, name, revision=commit, local_dir=folder, tqdm_class=Bar)).replace(part)


def patiently(call: Callable[[], T]) -> T:
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except Exception as error:
            if not passing(error):
                raise
        time.sleep(PAUSE * 2 ** (attempt - 1))
    return call()


def passing(error: Exception) -> bool:
    """Whether the same request may well succeed a moment later."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (500, 502, 503, 504)
    return isinstance(error, httpx2.TimeoutException | httpx2.NetworkError | httpx2.RemoteProtocolError)


@contextmanager
def named(repo: str, revision: str, name: str = "") -> Iterator[None]:
    """Errors of huggingface_hub, and of the network below it, as ours: one sentence that names the repository."""
    from huggingface_hub import errors

    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)  # its warnings say that it tries again, which is not news
    try:
        yield
    except QuantmillError:
        raise
    except errors.GatedRepoError as error:
        raise UsageError(
            f"{repo} at {revision}: the model is gated; accept its terms on its page and set HF_TOKEN to your token"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise _missing(repo, revision) from error
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.HfHubHTTPError):
            raise HubError(repo, revision, f"the Hub has no file {name} there; lock the recipe again") from error
        raise HubError(repo, revision, _unreachable(name)) from error
    except errors.HfHubHTTPError as error:
        code = error.response.status_code
        what = "forbids it; check HF_TOKEN" if code in (401, 403) else f"answers with HTTP {code}; try again later"
        raise HubError(repo, revision, f"{name + ': ' if name else ''}the Hub {what}") from error
    except errors.OfflineModeIsEnabled as error:
        raise HubError(
            repo, revision, f"{name or 'it'} has to be asked of the Hub, which HF_HUB_OFFLINE forbids"
        ) from error
    except OSError as error:
        if error.errno is not None:  # a full disk is not the Hub's doing
            raise
        raise HubError(repo, revision, _first_line(name, error)) from error
    except Exception as error:  # httpx2 and huggingface_hub have no root in common
        import httpx2

        if isinstance(error, httpx2.TransportError):
            raise HubError(repo, revision, _unreachable(name)) from error
        raise HubError(repo, revision, _first_line(name, error)) from error
    finally:
        log.setLevel(level)


def _missing(repo: str, revision: str) -> QuantmillError:
    """Which of the two is missing: some servers answer alike for both."""
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(repo)
    except Exception:  # whatever it is, the repository is not to be seen
        return NoSuchRepository(repo, revision)
    return NoSuchRevision(repo, revision, [ref.name for ref in [*refs.branches, *refs.tags]])


def _unreachable(name: str) -> str:
    from huggingface_hub.constants import ENDPOINT

    place = _without_user(ENDPOINT)
    return (
        f"{name + ': ' if name else ''}{place} cannot be reached or breaks off; check the network and run again, "
        "what has arrived is kept"
    )


def _without_user(text: str) -> str:
    """The text without the name and password that an address in it may hold."""
    return re.sub(r"://[^/?#\s]*@", "://", text)


def _first_line(name: str, error: Exception) -> str:
    first = _without_user((str(error).strip().splitlines() or [""])[0].rstrip(". "))
    return f"{name + ': ' if name else ''}{type(error).__name__}: {first}; try again, what has arrived is kept"
