"""A bucket or a network folder as this program uses it: small and large objects, created once, retried, paced.

Errors are sentences without a URL's query, a header or a body: a server may repeat credentials in any of them.
"""

import configparser
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, from_url

from quantmill.errors import QuantmillError
from quantmill.store.remote.plain_get import ASTRAY, PlainGet
from quantmill.store.remote.settings import Settings
from quantmill.store.remote.throttle import Throttle

PART = 8 << 20  # bytes of one request of an upload
PIECE = 1 << 20  # bytes of a small object that are taken at a time
RANGE = 16 << 20  # bytes of one request of a download
LISTED = 2_000_000  # objects, at most
ASKING = 30.0  # seconds of one request that uploads nothing large
NOWHERE = "socks5h://127.0.0.1:1"  # a proxy of a kind that obstore has not: what is sent by it goes nowhere
SHORT = "status code: 416|range was invalid"  # what is said of an object that ends before the range that is asked for
THERE = (AlreadyExistsError, PreconditionError)
UNABLE = (NotSupportedError, NotImplementedError)
T = TypeVar("T")


class StoreError(QuantmillError):
    """The shared store did not do what it was asked. `denied`: it refuses us, and would again."""

    def __init__(self, address: str, what: str, denied: bool = False) -> None:
        super().__init__(f"{address}: {what}")
        self.denied = denied


class Wrong(QuantmillError):
    """An object is not what its name says: its bytes are others, after several attempts, or not as many."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is damaged there")
        self.name = name


class Bucket:
    """The objects below one URL, by relative names. Safe for several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self.address = settings, settings.address
        self._store, kept = _open(settings, min(ASKING, settings.timeout))
        self._plain: PlainGet | None = None
        if kept and settings.endpoint:
            self._plain = PlainGet(self._store, settings.endpoint, min(ASKING, settings.timeout))
        self.sending, self.receiving = Throttle(settings.bandwidth), Throttle(settings.bandwidth)
        self.stop = threading.Event()  # set: transfers end with StoreError at the next piece

    @cached_property
    def _uploads(self) -> Any:
        return _open(self._settings, self._settings.timeout)[0]

    @contextmanager
    def _reading(
        self, name: str, span: tuple[int, int] | None, least: int
    ) -> Iterator[tuple[Mapping[str, Any], Iterator[Any]]]:
        """An object's version, and its bytes or those of `span`, in pieces of `least` where that matters."""
        if self._plain:
            with self._plain.get(name, span) as found:
                yield found.version, found.pieces()
            return
        result = obstore.get(self._store, name, options={"range": span} if span else None)
        yield result.meta, result.stream(min_chunk_size=least)

    def get(self, name: str, limit: int) -> bytes | None:
        """A small object's bytes, None when there is none."""
        found = self.get_versioned(name, limit)
        return found[0] if found else None

    def get_versioned(self, name: str, limit: int) -> tuple[bytes, Mapping[str, str]] | None:
        """A small object's bytes, and the version that `replace` takes. One of more than `limit` bytes, whatever its
        headers say, is nothing that we wrote and counts as empty."""

        def read() -> tuple[bytes, Mapping[str, str]]:
            data = bytearray()
            with self._reading(name, None, min(limit, PIECE)) as (meta, pieces):
                version = {key: meta.get(key) for key in ("e_tag", "version")}
                for piece in pieces:
                    data += memoryview(piece)
                    if len(data) > limit:
                        data.clear()
                        break
            return bytes(data), {key: value for key, value in version.items() if isinstance(value, str)}

        return self._found(read)

    def size(self, name: str) -> int | None:
        """An object's size in bytes, None when there is none."""
        meta = self._found(lambda: obstore.head(self._store, name))
        return None if meta is None else int(meta["size"])

    def read(
        self,
        name: str,
        start: int,
        end: int,
        sink: Callable[[memoryview], None],
        heed: Callable[[int], None] = lambda count: None,
    ) -> bool:
        """Give bytes `start` to `end` of an object to `sink`, in order and once, whatever breaks in between. False when
        there is no such object, Wrong where it does not have them. `heed` is called with the count of bytes that came,
        also with 0, and may raise."""
        at = start
        # As they come, so that `heed` hears of bytes that trickle; of a folder they come in small pieces, all at once.
        least = 1 << 20 if isinstance(self._store, LocalStore) else 1

        def piece_of(until: int) -> None:
            nonlocal at
            with self._reading(name, (at, until), least) as (meta, pieces):
                if meta.get("size", until) < until:
                    raise Wrong(_shown(name))
                for piece in pieces:
                    view = memoryview(piece)
                    if len(view) > until - at:
                        raise Wrong(_shown(name))
                    self._pace(self.receiving, len(view))
                    sink(view)
                    at += len(view)
                    heed(len(view))
            if at < until:
                raise ConnectionError("it ended early")

        def some() -> bool:
            heed(0)
            before = at
            try:
                piece_of(min(end, at + RANGE))
            except (BaseError, ConnectionError) as error:
                if re.search(SHORT, _first_line(error)):
                    raise Wrong(_shown(name)) from None
                if at == before:  # else it goes on where it broke
                    raise
            return True

        while at < end:
            if not self._found(some):
                return False
        return True

    def put(self, name: str, data: bytes) -> None:
        """Write an object, or over it."""
        self._pace(self.sending, len(data))
        store = self._store if len(data) < PIECE else self._uploads
        self._try(lambda: obstore.put(store, name, data, use_multipart=False))

    def put_pieces(self, name: str, size: int, pieces: Callable[[], Iterable[bytes]]) -> None:
        """Write an object of `size` bytes, in parts where it is large. `pieces` is called for each attempt."""
        if size <= PART:
            data = b"".join(pieces())
            self.put(name, data)
            return

        def paced() -> Iterator[bytes]:
            for piece in pieces():
                self._pace(self.sending, len(piece))
                yield piece

        upload = partial(obstore.put, self._uploads, name, chunk_size=PART, max_concurrency=2)
        self._try(lambda: upload(paced()), patience=self._settings.timeout)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one: whether it was written."""
        try:
            self._try(lambda: obstore.put(self._store, name, data, mode="create", use_multipart=False), THERE)
        except THERE:
            return False
        return True

    def replace(self, name: str, data: bytes, version: Mapping[str, str]) -> bool:
        """Write over the version of an object that `get_versioned` returned: False when it is another by now."""
        mode: Any = dict(version)
        try:
            self._try(lambda: obstore.put(self._store, name, data, mode=mode, use_multipart=False), THERE + UNABLE)
        except THERE:
            return False
        except UNABLE:  # a folder: two at once may both believe that they did it
            self.delete(name)
            return self.create(name, data)
        return True

    def delete(self, name: str) -> None:
        """Remove an object, if there is one."""
        self._found(lambda: obstore.delete(self._store, name))

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Name and size of each object below `prefix`. StoreError where they do not end."""

        def pages() -> list[tuple[str, int]]:
            found: list[tuple[str, int]] = []
            for page in obstore.list(self._store, prefix):
                found += [(meta["path"], int(meta["size"])) for meta in page]
                if len(found) > LISTED:
                    raise StoreError(self.address, f"it lists more than {LISTED:,} objects; name another folder")
            return found

        yield from self._try(pages)

    def _pace(self, throttle: Throttle, count: int) -> None:
        if self.stop.is_set():
            raise StoreError(self.address, "the transfer was ended")
        throttle.take(count)

    def _found(self, call: Callable[[], T]) -> T | None:
        try:
            return self._try(call, (FileNotFoundError,))
        except FileNotFoundError:
            return None

    def _try(self, call: Callable[[], T], answers: tuple[type[Exception], ...] = (), patience: float = ASKING) -> T:
        """What `call` returns, or raises of `answers`. It is tried again with growing pauses while the store fails in a
        way that may pass, for about `patience` seconds."""
        _folder(self._settings)
        began, pause = time.monotonic(), 0.05
        for left in reversed(range(self._settings.retries)):
            try:
                return call()
            except answers:
                raise
            except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
                raise StoreError(self.address, f"access is refused ({_code(error)})", denied=True) from None
            except (BaseError, NotImplementedError, ConnectionError, TimeoutError) as error:
                refused = re.search(r"status code: 4(?!08|29)\d\d", _first_line(error)) or ASTRAY in str(error)
                late = time.monotonic() - began > min(patience, self._settings.timeout)
                if refused or not left or self.stop.is_set() or late:
                    raise StoreError(self.address, f"it cannot be used ({_code(error)})") from None
            except OSError as error:  # a network folder's own
                raise StoreError(self.address, error.strerror or "it cannot be used") from None
            self.stop.wait(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 3, 10)
        raise AssertionError("unreachable: the last attempt returns or raises")


def _open(settings: Settings, seconds: float) -> tuple[Any, bool]:
    """The store at the URL, and whether it is kept to one host; a request takes at most so many seconds."""
    if folder := _folder(settings):
        return LocalStore(folder), False
    client: dict[str, Any] = {
        "timeout": timedelta(seconds=seconds),
        "read_timeout": timedelta(seconds=min(30, seconds)),
        "connect_timeout": timedelta(seconds=min(10, seconds)),
        "allow_http": bool(settings.endpoint and settings.endpoint.startswith("http://")),
    }
    backoff = {"init_backoff": timedelta(milliseconds=20), "max_backoff": timedelta(seconds=2), "base": 2}
    retry: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=seconds / 3), "backoff": backoff}
    options: dict[str, Any] = {}
    kept: dict[str, str] = {}
    if settings.url.startswith("s3://"):
        options = _aws(os.environ)
        if settings.endpoint:
            options["config"]["endpoint"] = settings.endpoint
            options["config"]["virtual_hosted_style_request"] = False
        if settings.region:
            options["config"]["region"] = settings.region
        client |= (kept := _kept_to_endpoint(settings, options, os.environ))
    elif settings.endpoint:
        options = {"config": {"endpoint": settings.endpoint}}
    open_any: Any = from_url  # its types know each kind of store; which one this is, only the URL says
    return open_any(settings.url, client_options=client, retry_config=retry, **options), bool(kept)


def _folder(settings: Settings) -> Path | None:
    """The folder that the URL names, if it names one. StoreError where there is none: a folder that is not mounted just
    now must not be begun anew below its mount point."""
    parts = urlsplit(settings.url)
    if parts.scheme != "file":
        return None
    if parts.netloc not in ("", "localhost"):
        raise StoreError(settings.address, f"this names the host {parts.netloc}; a folder has three slashes: file:///…")
    path = Path(unquote(parts.path))
    if os.path.isdir(path):
        return path
    if os.path.lexists(path):
        raise StoreError(settings.address, "this is no folder; name one")
    raise StoreError(settings.address, "there is no such folder; mount it, or make it where the store is new")


def _kept_to_endpoint(settings: Settings, options: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """Client options by which nothing is sent to other hosts than the endpoint's, wherever that leads: obstore follows
    redirects, with the session's token.

    Nothing where others have to be asked: a proxy, AWS's own hosts, those that give credentials.
    """
    known = "credential_provider" in options or "access_key_id" in options["config"]
    others = getproxies().keys() - {"no"} or any(name.startswith("AWS_ENDPOINT") for name in environment)
    host = urlsplit(settings.endpoint or "").hostname
    if not host or not host.isascii() or others or not (known or "AWS_ACCESS_KEY_ID" in environment):
        return {}
    return {"proxy_url": NOWHERE, "proxy_excludes": host}


def _aws(environment: Mapping[str, str]) -> dict[str, Any]:
    """What obstore does not look for itself of AWS's credential chain: the shared files, and boto3 (SSO and the like)
    where it is installed. Environment and instance roles are obstore's own."""
    if "AWS_ACCESS_KEY_ID" in environment:
        return {"config": {}}
    files = [
        environment.get(f"AWS_{name}_FILE") or str(Path(f"~/.aws/{path}").expanduser())
        for name, path in (("CONFIG", "config"), ("SHARED_CREDENTIALS", "credentials"))
    ]
    parser = configparser.RawConfigParser()
    try:
        parser.read(files)
    except configparser.Error:
        return {"config": {}}
    profile = environment.get("AWS_PROFILE", "default")
    values: dict[str, str] = {}
    for section in (profile, f"profile {profile}"):
        if parser.has_section(section):
            values |= dict(parser.items(section))
    names = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
        "region": "region",
    }
    config = {name: values[key] for key, name in names.items() if key in values}
    if "access_key_id" in config or not values:
        return {"config": config}
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return {"config": config}
    return {"config": config, "credential_provider": Boto3CredentialProvider()}


def _shown(name: str) -> str:
    """An object's name, its digest cut."""
    folder, _, digest = name.rpartition("/")
    return f"{folder}/{digest[:16]}…"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _code(error: BaseException) -> str:
    """The little of an error that is safe to print: the HTTP status, the service's code, or its kind."""
    text = str(error)
    status = re.search(r"status code: (\d{3}[A-Za-z ]*)", text)
    service = re.search(r"<Code>(\w{1,60})</Code>", text)
    if status or service:
        return ", ".join(found.group(1).strip() for found in (status, service) if found)
    for words, meaning in (
        (ASTRAY, "it leads on to another host, which is refused"),
        ("timed out", "it does not answer in time"),
        ("operation timeout", "it does not answer in time"),
        ("connect", "no connection"),
        ("error sending request", "no connection"),
        ("dns", "no such host"),
        ("ended early", "the connection broke"),
        ("decoding response body", "the connection broke"),
    ):
        if words in text.lower():
            return meaning
    return type(error).__name__
