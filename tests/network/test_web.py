"""Addresses that lead on to others: followed within the web, and refused out of TLS or into somebody's network."""

import datetime
import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from quantmill.network.web import WebError, astray, fetch

WEB, TEXT = "https://8.8.8.8/text.txt", b"a text"


@pytest.mark.parametrize(
    ("start", "target", "problem"),
    [
        (WEB, "https://1.1.1.1/other?sig=x", None),
        ("http://8.8.8.8/", "https://8.8.8.8/", None),
        (WEB, "https://no-such-host.invalid/", None),  # whoever connects will see
        (WEB, "http://8.8.8.8/?sig=secret", "it leads on to http://8.8.8.8, where anybody on the way can read and"),
        (WEB, "ftp://8.8.8.8/x", "it leads on to ftp:, which is not the web"),
        (WEB, "https://127.0.0.1:9/", "it leads on to 127.0.0.1, a loopback address"),
        (WEB, "https://localhost/", "it leads on to localhost, a loopback address"),
        (WEB, "https://2130706433/", "it leads on to 2130706433, a loopback address"),
        (WEB, "https://0.0.0.0/", "it leads on to 0.0.0.0, a loopback address"),
        (WEB, "https://[::1]/", "it leads on to ::1, a loopback address"),
        (WEB, "https://[::ffff:127.0.0.1]/", "it leads on to ::ffff:127.0.0.1, a loopback address"),
        (WEB, "https://169.254.169.254/latest/meta-data", "it leads on to 169.254.169.254, a link-local address"),
        (WEB, "https://[fe80::1]/", "it leads on to fe80::1, a link-local address"),
        (WEB, "https://10.1.2.3/", "it leads on to 10.1.2.3, a private address"),
        (WEB, "https://192.168.0.1/", "it leads on to 192.168.0.1, a private address"),
        (WEB, "https://100.64.0.1/", "it leads on to 100.64.0.1, a private address"),
        (WEB, "https://[fd00::1]/", "it leads on to fd00::1, a private address"),
        ("http://10.0.0.1/", "http://10.0.0.2/", None),  # a text of one's own network
        ("http://10.0.0.1/", "http://127.0.0.1/", "it leads on to 127.0.0.1, a loopback address"),
        ("http://10.0.0.1/", "https://8.8.8.8/", None),
        ("http://127.0.0.1/", "http://localhost:8000/", None),
        ("http://127.0.0.1/", "http://169.254.169.254/", "it leads on to 169.254.169.254, a link-local address"),
    ],
)
def test_where_an_address_may_lead(start: str, target: str, problem: str | None) -> None:
    found = astray(start, target)
    assert found == problem if problem is None or found is None else found.startswith(problem)
    assert "secret" not in (found or "")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /text.txt, and leads on from /to?ADDRESS."""

    def do_GET(self) -> None:
        leads, _, target = self.path.partition("?")
        self.send_response(302 if leads == "/to" else 200)
        self.send_header("Location", target)
        self.send_header("Content-Length", str(len(TEXT)))
        self.end_headers()
        self.wfile.write(TEXT)

    def log_message(self, *arguments: object) -> None: ...


def serve(context: ssl.SSLContext | None = None) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def plain() -> Iterator[str]:
    yield from serve()


@pytest.fixture
def other() -> Iterator[str]:
    yield from serve()


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server with TLS, of an authority that this process believes."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    pem, secret = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(pem, secret, serialization.NoEncryption()))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    yield from serve(context)


def test_an_address_that_leads_on_is_followed(plain: str, other: str, tmp_path: Path) -> None:
    fetch(f"{plain}/to?{other}/to?{other.replace('127.0.0.1', 'localhost')}/text.txt", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == TEXT


def test_tls_is_not_left(plain: str, secure: str, tmp_path: Path) -> None:
    fetch(f"{plain}/to?{secure}/text.txt", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == TEXT
    with pytest.raises(WebError) as error:
        fetch(f"{secure}/to?{plain}/text.txt", tmp_path / "other")
    assert str(error.value) == (
        f"{secure}/to?{plain}/text.txt: it leads on to http://127.0.0.1, where anybody on the way can read and change "
        "it; give the address of the text itself"
    )
    assert (tmp_path / "other").read_bytes() == b""


def test_other_networks_and_protocols_are_not_asked(plain: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ftp:
        ftp.settimeout(0.2)
        for target, problem in (
            ("http://169.254.169.254/latest/meta-data", "it leads on to 169.254.169.254, a link-local address"),
            ("http://10.255.255.1/", "it leads on to 10.255.255.1, a private address"),
            (f"ftp://127.0.0.1:{ftp.getsockname()[1]}/x", "it leads on to ftp:, which is not the web"),
            (f"{plain}/to?http://10.255.255.1/", "it leads on to 10.255.255.1, a private address"),
        ):
            with pytest.raises(WebError) as error:
                fetch(f"{plain}/to?{target}", tmp_path / "part")
            assert str(error.value) == f"{plain}/to?{target}: {problem}; give the address of the text itself"
        with pytest.raises(TimeoutError):
            ftp.accept()
