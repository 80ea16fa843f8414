"""A shared store whose server leads on to another host: nothing is sent there, and a sentence says so."""

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quantmill.store.remote.bucket import Bucket, StoreError, Wrong
from quantmill.store.remote.settings import Settings

ASKED: dict[str, Callable[[Bucket], object]] = {
    "get": lambda bucket: bucket.get("ac/1", 100),
    "size": lambda bucket: bucket.size("ac/1"),
    "read": lambda bucket: bucket.read("cas/1", 0, 2, lambda piece: None),
    "list": lambda bucket: list(bucket.list("ac")),
}


class Store(http.server.BaseHTTPRequestHandler):
    """Leads on to `target` with `status`; has one small object for whoever is led to it."""

    server: "Server"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, dict(self.headers)))
        self.send_response(self.server.status)
        if self.server.status != 200:
            self.send_header("Location", f"{self.server.target}{self.path}?sig=x")
        self.send_header("Content-Length", "2")
        self.send_header("ETag", "x")
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"hi")

    do_HEAD = do_PUT = do_GET

    def log_message(self, *arguments: object) -> None: ...


class Server(http.server.ThreadingHTTPServer):
    """One on loopback, which goes with its test."""

    def __init__(self, status: int = 200, target: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Store)
        self.status, self.target = status, target
        self.seen: list[tuple[str, dict[str, str]]] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def url(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_address[1]}"


@pytest.fixture(autouse=True)
def session(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"), ("SESSION_TOKEN", "session")):
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture
def other() -> Iterator[Server]:
    with Server() as server:
        yield server
        server.shutdown()


def bucket(server: Server) -> Bucket:
    return Bucket(Settings("s3://team/x", endpoint=server.url(), region="us-east-1", timeout=20, retries=3))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("how", ASKED)
def test_another_host_is_not_asked(how: str, status: int, other: Server) -> None:
    with Server(status, other.url("localhost")) as server:
        with pytest.raises(StoreError) as error:
            ASKED[how](bucket(server))
        server.shutdown()
    assert str(error.value) == "s3://team/x: it cannot be used (it leads on to another host, which is refused)"
    assert other.seen == []
    assert len({command for command, _ in server.seen}) == 1


@pytest.mark.parametrize("status", [300, 304, 400, 405, 409, 412, 416, 418, 501])
@pytest.mark.parametrize("how", [*ASKED, "put"])
def test_an_answer_to_another_question_is_a_sentence(how: str, status: int) -> None:
    """One that tells of a condition, say, which nobody made. That an object is too short is told of it alone."""
    ask = ASKED.get(how) or (lambda bucket: bucket.put("ac/1", b"data"))
    short = (how, status) == ("read", 416)
    with Server(status) as server:
        with pytest.raises(Wrong if short else StoreError, match=r"^s3://team/x: it cannot be used|is damaged there$"):
            ask(bucket(server))
        server.shutdown()


def test_a_write_to_what_is_not_there_is_not_done() -> None:
    with Server(404) as server:
        for write in (lambda: bucket(server).put("ac/1", b"data"), lambda: bucket(server).create("ac/1", b"data")):
            with pytest.raises(StoreError, match="s3://team/x: it cannot be used"):
                write()
        assert bucket(server).get("ac/1", 100) is None
        server.shutdown()


def test_nothing_is_written_by_way_of_another_host(other: Server) -> None:
    with Server(303, other.url("localhost")) as server:  # which asks for a GET instead, as if all were done
        with pytest.raises(StoreError, match="it leads on to another host, which is refused"):
            bucket(server).put("ac/1", b"data")
        server.shutdown()
    assert other.seen == []


def test_the_host_itself_may_lead_on(other: Server) -> None:
    with Server(307, other.url()) as server:
        assert bucket(server).get("ac/1", 100) == b"hi"
        server.shutdown()
    assert [command for command, _ in other.seen] == ["GET"]


def test_a_list_that_does_not_end_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantmill.store.remote.bucket.LISTED", 3)
    folder = Bucket(Settings(f"file://{tmp_path}"))
    for name in "abc":
        folder.put(f"ac/{name}", b"data")
    assert sorted(folder.list("ac")) == [("ac/a", 4), ("ac/b", 4), ("ac/c", 4)]
    folder.put("ac/d", b"data")
    with pytest.raises(StoreError, match="it lists more than 3 objects"):
        list(folder.list("ac"))
