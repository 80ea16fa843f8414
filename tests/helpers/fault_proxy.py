"""An HTTP proxy before a server that does to requests and replies what networks and servers do."""

import http.client
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EXPIRED = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>AKIASECRET is expired</Message></Error>"
FAULTS = (
    "cut request",  # the connection ends when half of the request's body has arrived
    "cut reply",  # it ends within the reply's body
    "lost reply",  # the server did it, and nobody hears of that
    "500",  # refused, for now
    "500 after",  # done, and reported as failed
    "drip",  # the reply comes a few bytes at a time, and then ends
    "truncated",  # a reply that is whole by its header, and short
    "flipped",  # a bit of the reply is wrong
    "flipped request",  # a bit of the request's body is wrong
    "expired",  # the credentials have expired
)
Choose = Callable[[str, str], str | None]


class Loopback:
    """A server of HTTP on loopback, each request in a thread, until `stop`."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        self._server.handle_error = lambda *request: None  # type: ignore[method-assign]  # clients are killed in tests
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class FaultProxy(Loopback):
    """Listens on `port` of loopback; `choose(method, path)` names the fault of a request, None for none. `count` are
    the faults that were done, `received` and `sent` the bytes of requests' and replies' bodies."""

    def __init__(self, port: int, choose: Choose) -> None:
        self.choose, self.count, self.received, self.sent = choose, 0, 0, 0
        self.lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            upstream, owner = port, proxy

        super().__init__(Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: int
    owner: FaultProxy

    def _handle(self) -> None:
        with suppress(OSError, http.client.HTTPException):
            self._serve()
            return
        self._cut()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _handle

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""

    def _serve(self) -> None:
        fault = self.owner.choose(self.command, self.path)
        if fault:
            with self.owner.lock:
                self.owner.count += 1
        length = int(self.headers.get("Content-Length") or 0)
        body = self._read(length // 2 if fault == "cut request" else length)
        if fault == "cut request":
            return self._cut()
        if fault == "500":
            return self._reply(500, {}, b"<Error><Code>InternalError</Code></Error>")
        if fault == "expired":
            return self._reply(403, {}, EXPIRED)
        if fault == "flipped request":
            body = _flip(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            data, headers = answer.read(), dict(answer.getheaders())
        finally:
            connection.close()
        if fault == "lost reply":
            return self._cut()
        if fault == "500 after":
            return self._reply(500, {}, b"")
        if fault == "flipped":
            data = _flip(data)
        if fault == "truncated":
            data = data[: len(data) // 2]
        return self._reply(answer.status, headers, data, fault)

    def _read(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length and (piece := self.rfile.read1(min(1 << 18, length - len(data)))):
            data += piece
            with self.owner.lock:
                self.owner.received += len(piece)
        return bytes(data)

    def _reply(self, status: int, headers: dict[str, str], data: bytes, fault: str | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if fault == "cut reply":
            self.wfile.write(data[: len(data) // 2])
            return self._cut()
        if fault == "drip":
            for at in range(0, min(len(data), 12), 4):
                self.wfile.write(data[at : at + 4])
                self.wfile.flush()
                time.sleep(0.02)
            return self._cut()
        with self.owner.lock:
            self.owner.sent += len(data)
        self.wfile.write(data)
        return None

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :] if data else data
