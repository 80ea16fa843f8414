"""What a server of one's own answers is read as far as it was asked for, whatever it is, and for a bounded time."""

import datetime
import ipaddress
import itertools
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from quantmill.store.remote.bucket import Bucket, StoreError, Wrong
from quantmill.store.remote.settings import Settings

DATA = bytes(range(256)) * 40
KNOWN = 'ETag: "e"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n'
Say = Callable[[socket.socket, str], None]


class Server:
    """Says to each request what `say` does, and hangs up. `heads` are the requests' heads."""

    def __init__(self) -> None:
        self.say: Say = lambda connection, head: None
        self.heads: list[str] = []
        self.wrap: Callable[..., Any] | None = None
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        head = b""
        try:
            if self.wrap:
                connection = self.wrap(connection, server_side=True)
            while not head.endswith(b"\r\n\r\n") and (piece := connection.recv(65536)):
                head += piece
            self.heads.append(head.decode())
            self.say(connection, head.decode())
        except OSError:
            pass
        finally:
            connection.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.setenv(f"AWS_{name}", "x")
    found = Server()
    yield found
    found.stop()


def bucket(server: Server, timeout: float = 20, retries: int = 1) -> Bucket:
    settings = Settings("s3://team/x", endpoint=server.endpoint, region="us-east-1", timeout=timeout, retries=retries)
    return Bucket(settings)


def saying(text: str, body: bytes = b"") -> Say:
    return lambda connection, head: connection.sendall(f"HTTP/1.1 {text}\r\n\r\n".encode() + body)


def pour(status: str) -> Say:
    """More than this machine's memory, unless somebody hangs up."""

    def say(connection: socket.socket, head: str) -> None:
        connection.sendall(f"HTTP/1.1 {status} X\r\n{KNOWN}Transfer-Encoding: chunked\r\n\r\n".encode())
        block = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        for _ in range(1 << 20):
            connection.sendall(block)

    return say


@pytest.mark.parametrize("status", ["200", "206", "301", "400", "403", "404", "429", "500", "503"])
def test_no_answer_fills_the_memory(status: str, server: Server) -> None:
    """obstore reads errors to their end, where it has been left to it."""
    server.say = pour(status)
    tracemalloc.start()
    try:
        for ask in (
            lambda: bucket(server).get("ac/1", 100),
            lambda: bucket(server).read("cas/1", 0, 100, lambda piece: None),
        ):
            with suppress(StoreError):
                assert ask() in (None, b"", False)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_ranges_and_small_objects_are_read_with_signed_requests(server: Server) -> None:
    def say(connection: socket.socket, head: str) -> None:
        found = next((line for line in head.split("\r\n") if line.startswith("Range: ")), None)
        if found is None:
            saying(f"200 OK\r\n{KNOWN}Content-Length: {len(DATA)}", DATA)(connection, head)
            return
        first, last = map(int, found.partition("=")[2].split("-"))
        text = f"206 X\r\n{KNOWN}Content-Range: bytes {first}-{last}/{len(DATA)}\r\nContent-Length: {last - first + 1}"
        saying(text, DATA[first : last + 1])(connection, head)

    server.say = say
    assert bucket(server).get_versioned("ac/1", len(DATA)) == (DATA, {"e_tag": '"e"'})
    assert bucket(server).get("ac/1", len(DATA) - 1) == b""
    got = bytearray()
    assert bucket(server).read("cas/1", 100, 5000, got.extend)
    assert got == DATA[100:5000]
    assert all("X-Amz-Signature=" in head and head.startswith("GET /team/x/") for head in server.heads)


def test_another_range_is_refused(server: Server) -> None:
    for text in ("bytes 1-10/20", "bytes 0-99/100", "bytes 0-9", "pages 0-9/20", "bytes -1-9/20", ""):
        server.say = saying(f"206 X\r\n{KNOWN}Content-Range: {text}\r\nContent-Length: 10", DATA[:10])
        with pytest.raises(StoreError, match="it cannot be used"):
            bucket(server).read("cas/1", 0, 10, lambda piece: None)
    server.say = saying(f"200 OK\r\n{KNOWN}Content-Length: 10", DATA[:10])  # the whole object, say
    with pytest.raises(StoreError, match="it cannot be used"):
        bucket(server).read("cas/1", 0, 10, lambda piece: None)


def test_an_object_that_has_not_the_bytes_is_wrong_and_not_the_store(server: Server) -> None:
    """Nothing else is given up for it."""
    took = bytearray()
    for text, body in (
        ("416 Range Not Satisfiable\r\nContent-Length: 0", b""),
        (f"206 X\r\n{KNOWN}Content-Range: bytes 0-9/10\r\nContent-Length: 10", DATA[:10]),
        (f"206 X\r\n{KNOWN}Content-Range: bytes 0-99/100\r\nTransfer-Encoding: chunked", b"c8\r\n" + bytes(200)),
    ):
        server.say, before = saying(text, body), len(server.heads)
        with pytest.raises(Wrong, match="cas/1… is damaged there"):
            bucket(server, retries=3).read("cas/1", 0, 100, took.extend)
        assert len(server.heads) == before + 1
    assert not took


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "\0",
            "200 OK\r\nContent-Length: 100",
            "200 OK\r\nTransfer-Encoding: chunked",
            "99999 X",
            "200 OK\r\nContent-Length: x",
        ),
        "302 X\r\nLocation: http://[::1",
        "302 X\r\nLocation: /x",
        "302 X\r\nLocation: file:///etc/passwd",
        "200 OK\r\n" + "\r\n".join(f"X-{at}: x" for at in range(500)),
        "200 OK\r\nX: " + "x" * 100_000,
    ],
)
def test_what_is_no_answer_is_a_sentence(text: str, server: Server) -> None:
    server.say = saying(text, b"short")
    with pytest.raises(StoreError, match=r"^s3://team/x: it cannot be used \("):
        bucket(server, retries=2).get("ac/1", 1000)


@pytest.mark.parametrize("where", ["line", "headers", "length", "body", "go on"])
def test_a_request_ends_though_bytes_trickle(where: str, server: Server) -> None:
    before = {
        "line": b"",
        "headers": b"HTTP/1.1 200 OK\r\nX: ",
        "length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        "go on": b"",
    }[where]

    def say(connection: socket.socket, head: str) -> None:
        connection.sendall(before)
        waits = threading.Event()
        for _ in itertools.count():
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" if where == "go on" else b"0")
            waits.wait(0.05)

    server.say = say
    with pytest.raises(StoreError, match="s3://team/x: it cannot be used"):
        bucket(server, timeout=0.5).get("ac/1", 1000)


def test_a_piece_that_breaks_is_gone_on_with(server: Server) -> None:
    def say(connection: socket.socket, head: str) -> None:
        found = next(line for line in head.split("\r\n") if line.startswith("Range: "))
        first, last = map(int, found.partition("=")[2].split("-"))
        text = f"206 X\r\n{KNOWN}Content-Range: bytes {first}-{last}/{len(DATA)}\r\nContent-Length: {last - first + 1}"
        saying(text, DATA[first : last + 1][:1000])(connection, head)

    server.say, got = say, bytearray()
    assert bucket(server).read("cas/1", 0, len(DATA), got.extend)
    assert got == DATA
    assert len(server.heads) == -(-len(DATA) // 1000)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = made.add_extension(here, False).add_extension(x509.BasicConstraints(True, None), True)
    (folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(secret)
    return folder / "cert.pem", folder / "key.pem"


def test_tls_is_checked_and_its_handshake_ends(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.wrap, server.endpoint = context.wrap_socket, server.endpoint.replace("http:", "https:")
    server.say = saying(f"200 OK\r\n{KNOWN}Content-Length: {len(DATA)}", DATA)
    with pytest.raises(StoreError, match="no connection"):
        bucket(server).get("ac/1", len(DATA))
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    assert bucket(server).get("ac/1", len(DATA)) == DATA
    server.say = saying(f"302 X\r\nLocation: {server.endpoint.replace('https:', 'http:')}/x")
    with pytest.raises(StoreError, match="it leads on to another host"):
        bucket(server).get("ac/1", len(DATA))

    def nothing(connection: socket.socket, server_side: bool) -> socket.socket:
        waits = threading.Event()
        for byte in b"\x16\x03\x03\x40\x00" + bytes(10_000):
            connection.sendall(bytes([byte]))
            waits.wait(0.05)
        return connection

    server.wrap = nothing
    with pytest.raises(StoreError, match="s3://team/x: it cannot be used"):
        bucket(server, timeout=0.5).get("ac/1", len(DATA))
