"""What is read of a server of one's own, by requests that obstore signs and this module makes.

obstore reads the whole body of an answer that is an error, however long it is. Whoever owns the server could fill the
memory of all readers with one. Here nothing is read that is not asked for, and a request ends in time.
"""

import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

import obstore
from obstore.exceptions import GenericError, PermissionDeniedError

ERROR = 4096  # bytes that are read of an answer that is an error
REDIRECTS = 5
PIECE = 256 << 10
ASTRAY = "unsupported scheme socks5h"  # obstore's words for another host


class Found:
    """An answer whose body is to be read, until it is `late`. `version`: what tells that the object is another by
    now, and its size where a range was asked for."""

    def __init__(self, answer: http.client.HTTPResponse, late: threading.Event) -> None:
        self._answer, self._late = answer, late
        self.version: dict[str, Any] = {
            "e_tag": answer.headers.get("ETag"),
            "version": answer.headers.get("x-amz-version-id"),
        }
        if size := re.search(r"/(\d{1,18})$", answer.headers.get("Content-Range", "")):
            self.version["size"] = int(size[1])

    def pieces(self) -> Iterator[bytes]:
        """The body as it comes. ConnectionError where that breaks."""
        while True:
            try:
                piece = self._answer.read1(PIECE)
            except (OSError, ValueError, http.client.HTTPException):
                raise ConnectionError("it ended early") from None
            if not piece and (self._answer.length or self._late.is_set()):
                raise ConnectionError("it ended early")
            if not piece:
                return
            yield piece


class PlainGet:
    """Reads objects of an S3 store at an endpoint. A request takes at most so many seconds and stays at that host.
    Safe for several threads."""

    def __init__(self, store: Any, endpoint: str, seconds: float) -> None:
        self._store, self._host, self._seconds = store, urlsplit(endpoint).hostname, seconds
        self._tls: ssl.SSLContext | None = None

    @contextmanager
    def get(self, name: str, span: tuple[int, int] | None = None) -> Iterator[Found]:
        """An object, or bytes of it, from the first of `span` to before the other. Raises as obstore does."""
        url = obstore.sign(self._store, "GET", name, timedelta(hours=1))
        headers = {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
        for _ in range(REDIRECTS):
            with self._asked(url, headers) as (answer, late):
                place = answer.headers.get("Location")
                if answer.status not in (301, 302, 303, 307, 308) or not place:
                    _heed(answer, span)
                    if late.is_set() or (answer.length is None and not answer.chunked):
                        raise ConnectionError("it ended early")
                    yield Found(answer, late)
                    return
                url = self._next(url, place)
        raise GenericError("it leads on for ever")

    def _next(self, url: str, place: str) -> str:
        try:
            scheme, url = urlsplit(url).scheme, urljoin(url, place)
            parts = urlsplit(url)
            if parts.hostname == self._host and parts.scheme in {scheme, "https"} and parts.port != 0:
                return url
        except ValueError:
            raise GenericError("it leads on to what is no address") from None
        raise GenericError(ASTRAY)

    @contextmanager
    def _asked(self, url: str, headers: dict[str, str]) -> Iterator[tuple[http.client.HTTPResponse, threading.Event]]:
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=min(10, self._seconds))
        try:
            http.client.HTTPConnection.connect(connection)
        except OSError:
            raise GenericError("no connection: connect") from None
        connection.sock.settimeout(self._seconds)
        if parts.scheme == "https":  # the handshake too may trickle
            connection.sock = self._wrapped(connection.sock)
        late = threading.Event()
        watch = threading.Timer(self._seconds, _end, (connection.sock, late))
        watch.daemon = True
        watch.start()
        try:
            try:
                if isinstance(connection.sock, ssl.SSLSocket):
                    connection.sock.do_handshake()
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise ConnectionError(f"error sending request: {type(error).__name__}") from None
            with answer:
                yield answer, late
        finally:
            watch.cancel()
            connection.close()

    def _wrapped(self, connection: socket.socket) -> ssl.SSLSocket:
        self._tls = self._tls or ssl.create_default_context()
        return self._tls.wrap_socket(connection, server_hostname=self._host, do_handshake_on_connect=False)


def _heed(answer: http.client.HTTPResponse, span: tuple[int, int] | None) -> None:
    """Raise what obstore does for an answer that is no success."""
    if span is None and answer.status == 200:
        return
    if span is not None and answer.status == 206:
        said = re.match(r"bytes (\d{1,18})-(\d{1,18})/", answer.headers.get("Content-Range", ""))
        if said and int(said[1]) == span[0] and int(said[2]) < span[1]:
            return
        raise GenericError("another range is served than was asked for")
    if answer.status == 404:
        raise FileNotFoundError
    text = ""
    with suppress(OSError, ValueError, http.client.HTTPException):
        text = answer.read1(ERROR).decode("ascii", "replace")
    reason = re.sub("[^A-Za-z ]", "", http.client.responses.get(answer.status, ""))
    what = f"status code: {answer.status} {reason}: {text}"
    raise (PermissionDeniedError if answer.status in (401, 403) else GenericError)(what)


def _end(connection: socket.socket | None, late: threading.Event) -> None:
    late.set()  # what came until now may look whole
    if connection is not None:
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # below TLS, which a reader may be about to use
