"""A proxy before an S3 server that answers as the owner of a bucket, or of the server, may: `Answer` by `Answer`."""

import gzip
import http.client
import json
import random
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from fault_proxy import Loopback

Headers = dict[str, str]
DEEP = b"[" * 100_000
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 1e300, 10**30, "", "x" * 100_000, "../../etc/passwd", "/", "a\0b", "\ud800", "A" * 64),
    *([], {}, [[]], [None] * 1000, {"a": {"b": []}}, "0" * 63, "0" * 64, "f" * 65, "\x1b]0;x\x07", "é", "2027-01-01"),
)
STATUSES = (
    204,
    206,
    300,
    304,
    400,
    401,
    403,
    404,
    405,
    409,
    410,
    411,
    412,
    416,
    418,
    429,
    500,
    501,
    502,
    503,
    504,
    599,
)
BOMB = gzip.compress(bytes(50_000_000))


@dataclass
class Answer:
    """What a server was about to say, which a mutation changes. `tail` is what it does when the body is out."""

    status: int
    headers: Headers
    body: bytes
    path: str
    raw: bytes | None = None  # in the place of all that
    tail: Callable[[socket.socket], None] | None = None
    asked: Mapping[str, str] = field(default_factory=dict)


Mutation = Callable[[random.Random, Answer, Mapping[str, bytes]], None]


def flip(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    data = bytearray(answer.body or b"\0")
    for _ in range(rng.choice((1, 1, 3, 50))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    answer.body = bytes(data)


def cut(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    answer.body = answer.body[: rng.randrange(len(answer.body) + 1)]


def grow(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    answer.body += rng.choice((b" ", b"\0", answer.body, rng.randbytes(1000), b" " * (20 << 20), b"{}"))


def swap(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    answer.body = others[rng.choice(sorted(others))]


def nonsense(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    odd = (b"", b"null", b"[]", b"{}", b"1", b'""', b"\xff\xfe", b"<html>", rng.randbytes(300), bytes(5000), b"NaN")
    bombs = (DEEP, DEEP.replace(b"[", b'{"a":'), b"[" + b"[]," * 1_000_000 + b"1]", b"9" * 100_000)
    answer.body = rng.choice((*odd, *bombs, answer.body.decode("latin-1").encode("utf-16")))


def edit(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    """One value of its JSON is another, is gone, or is there twice."""
    try:
        found = json.loads(answer.body)
    except ValueError:
        return flip(rng, answer, others)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((value, key))
            walk(value[key])

    walk(found)
    if places:
        inside, key = rng.choice(places)
        if rng.random() < 0.2:
            del inside[key]
        else:
            inside[key] = rng.choice((*ODD, [inside[key]] * 3, {"x": inside[key]}))
    text = json.dumps(found)
    answer.body = (text[:-1] + ", " + text[1:] if rng.random() < 0.1 else text).encode("utf-8", "surrogatepass")
    return None


def status(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    answer.status = rng.choice(STATUSES)
    code = rng.choice((b"AccessDenied", b"NoSuchKey", b"SlowDown", b"\x1b[31mred", b"<" * 1000))
    answer.body = rng.choice((answer.body, b"", b"<Error><Code>" + code + b"</Code></Error>", DEEP))
    answer.headers |= rng.choice(({}, {"Retry-After": "86400"}, {"WWW-Authenticate": "Basic"}))


def lead_on(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    answer.status = rng.choice((301, 302, 303, 307, 308))
    places = ("http://localhost:9/x", answer.path, "file:///etc/passwd", "http://[::1", "", "//", "\x00", "gopher://x/")
    answer.headers["Location"] = rng.choice(places)
    answer.body = b""


def odd_headers(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    for _ in range(rng.choice((1, 2, 4))):
        name = rng.choice(("ETag", "Last-Modified", "Content-Range", "Content-Type", "x-amz-version-id", "Age", "Date"))
        values = ("", "x", '"', "bytes 7-9/999999999999999", "bytes */*", "bytes 0-0/1", "é", "9" * 5000, "text/html")
        answer.headers[name] = rng.choice(values)
        if rng.random() < 0.3:
            answer.headers.pop(name)


def lengths(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    count = len(answer.body)
    said = rng.choice((0, count // 2, count + 1, count * 2 + 9, 1 << 40, 1 << 63, -1))
    answer.headers["Content-Length"] = str(said)
    if rng.random() < 0.3:
        answer.headers["Transfer-Encoding"] = "chunked"
    answer.tail = hang_up


def other_range(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    answer.status = rng.choice((200, 206))
    at = rng.randrange(1, 1000)
    answer.headers["Content-Range"] = f"bytes {at}-{at + len(answer.body) - 1}/{at + len(answer.body)}"
    answer.body = rng.choice((answer.body, answer.body * 2, answer.body[1:], b""))


def packed(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    answer.headers["Content-Encoding"] = rng.choice(("gzip", "br", "deflate", "zstd", "x"))
    answer.body = rng.choice((BOMB, gzip.compress(answer.body), answer.body))


def garbage(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    many = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (at, b"a" * 8000) for at in range(200)) + b"\r\n"
    answer.raw = rng.choice(
        (b"", b"\0", b"hello\r\n\r\n", b"HTTP/9.9 200\r\n\r\n", b"HTTP/1.1 99999 X\r\n\r\n", many, rng.randbytes(5000))
    )
    answer.tail = hang_up


def smuggle(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    """What follows would be the answer to the next request."""
    extra = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: x\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n\r\nevil"
    )
    answer.tail = lambda connection: connection.sendall(extra * 3)


def endless(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    """More than anybody asked for, in pieces or until the connection ends."""
    pieces = rng.random() < 0.5
    answer.status = rng.choice((answer.status, answer.status, 301, 403, 500))
    piece = bytes(1 << 20)
    block = b"%x\r\n%s\r\n" % (len(piece), piece) if pieces else piece
    answer.headers |= {"Transfer-Encoding": "chunked"} if pieces else {"Connection": "close", "Content-Length": ""}
    answer.body = b""

    def pour(connection: socket.socket) -> None:
        for _ in range(300):
            connection.sendall(block)
        hang_up(connection)

    answer.tail = pour


def trickle(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    """A byte at a time, of the body or of the headers."""
    body, pause = answer.body, rng.choice((0.05, 0.2, 1.0))
    if rng.random() < 0.3:
        body, answer.raw = b"HTTP/1.1 200 OK\r\nX-A: " + b"y" * 2000, b""
    else:
        answer.headers["Content-Length"] = str(len(body))
        answer.body = b""

    def drip(connection: socket.socket) -> None:
        for at in range(len(body)):
            connection.sendall(body[at : at + 1])
            time.sleep(pause)

    answer.tail = drip


def stall(rng: random.Random, answer: Answer, others: Mapping[str, bytes]) -> None:
    answer.headers["Content-Length"] = str(len(answer.body))
    answer.body = answer.body[: rng.choice((0, 1, len(answer.body) // 2))]
    answer.raw = rng.choice((None, b""))
    answer.tail = lambda connection: time.sleep(600)


QUICK: tuple[Mutation, ...] = (
    *(flip, cut, grow, swap, nonsense, edit, edit, status, lead_on, odd_headers, lengths, other_range, packed),
    *(garbage, smuggle),
)
SLOW: tuple[Mutation, ...] = (endless, trickle, stall)


def hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class HostileProxy(Loopback):
    """Listens on loopback before the server on `port`. `change(method, answer)` changes what it is about to say."""

    def __init__(self, port: int, change: Callable[[str, Answer], None]) -> None:
        self.change, self.count = change, 0

        class Handler(_Handler):
            upstream, owner = port, self

        super().__init__(Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: int
    owner: HostileProxy

    def _handle(self) -> None:
        try:
            answer = self._ask()
            self.owner.change(self.command, answer)
            self._say(answer)
        except (OSError, http.client.HTTPException):
            hang_up(self.connection)
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _handle

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""

    def _ask(self) -> Answer:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            reply = connection.getresponse()
            data, headers = reply.read(), dict(reply.getheaders())
        finally:
            connection.close()
        for name in ("Transfer-Encoding", "Connection") + (() if self.command == "HEAD" else ("Content-Length",)):
            headers.pop(name, None)
        return Answer(reply.status, headers, data, self.path, asked=dict(self.headers))

    def _say(self, answer: Answer) -> None:
        self.owner.count += 1
        if answer.raw is None:
            headers = {"Content-Length": str(len(answer.body)), **answer.headers}
            if headers.get("Transfer-Encoding") or not headers["Content-Length"]:
                headers.pop("Content-Length")
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            answer.raw = f"HTTP/1.1 {answer.status} X\r\n{lines}\r\n".encode("latin-1", "replace")
            answer.raw += b"" if self.command == "HEAD" else answer.body
        self.connection.sendall(answer.raw)
        if answer.tail:
            answer.tail(self.connection)
