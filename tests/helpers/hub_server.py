"""A Hub on loopback: olah over a git repository made here, behind a front that does what the Hub's own network does.

The front sends large files from another host, in ranges, and counts their bytes; it can also cut, hold and falsify.
"""

import fcntl
import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

OLAH = "olah==0.5.4"
LARGE = 1 << 20
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
CLOSED = "http://127.0.0.1:9"  # the discard port: nobody listens


def olah_program(cache: Path) -> Path:
    """The server's program: QUANTMILL_OLAH, or one installed below `cache`, in an environment of its own because it
    pins many packages."""
    if given := os.environ.get("QUANTMILL_OLAH"):
        return Path(given)
    folder = cache / f"{OLAH}-{sys.version_info.major}.{sys.version_info.minor}"
    whole = folder / "installed"
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of the tests may be installing it
        if not whole.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            subprocess.run([folder / "bin" / "pip", "install", "-q", OLAH], check=True)
            whole.touch()
    return folder / "bin" / "olah-cli"


class Repository:
    """A model's git repository as olah serves it: large files are LFS pointers, their content is beside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._git("init", "-q", "-b", "main")

    def commit(self, files: Mapping[str, bytes], lfs: Callable[[str], bool] = lambda name: False) -> str:
        """Write files and commit them; those larger than LARGE, and those that `lfs` says, go to LFS."""
        for name, data in files.items():
            if len(data) > LARGE or lfs(name):
                digest = hashlib.sha256(data).hexdigest()
                content = self.folder / ".git" / "lfs" / "objects" / digest[:2] / digest[2:4] / digest
                content.parent.mkdir(parents=True, exist_ok=True)
                content.write_bytes(data)
                data = POINTER.format(digest, len(data)).encode()
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(data)
        self._git("add", "-A")
        self._git("commit", "-q", "--allow-empty", "-m", "files")
        return self._git("rev-parse", "HEAD").strip()

    def tag(self, name: str) -> None:
        self._git("tag", name)

    def _git(self, *arguments: str) -> str:
        who = ("-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", *who, *arguments], cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout


@contextmanager
def olah(program: Path, folder: Path) -> Iterator[int]:
    """The port of a running server over the repositories in `folder`/mirrors/models."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "olah.toml").write_text(
        f'[basic]\nhost = "127.0.0.1"\nport = {port}\nrepos-path = {json.dumps(str(folder / "cache"))}\n'
        f"mirrors-path = [{json.dumps(str(folder / 'mirrors'))}]\n[accessibility]\noffline = true\n"
    )
    with open(folder / "olah.out", "w") as out:
        command = [program, "-c", folder / "olah.toml", "--log-path", folder / "logs"]
        server = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
    try:
        for _ in range(600):
            assert server.poll() is None, (folder / "olah.out").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait()


class Front:
    """What stands between the client and olah. Files come by name; `sent` counts the bytes of each that left here.

    `ranges`: whether parts of files can be asked for. `cuts`: after how many bytes of an answer the next connections
    break. `hold`: after how many bytes an answer waits until `go` is set; `holding` is set then. `instead`: contents
    that replace olah's. `answers`: (method and path pattern, status, headers, body) given without asking olah.
    """

    def __init__(self, olah_port: int) -> None:
        self.olah_port = olah_port
        self.known: dict[tuple[str, str], tuple[int, dict[str, str], bytes]] = {}
        self.reset()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"front": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def reset(self) -> None:
        """Behave, and count from nothing."""
        self.ranges = True
        self.cuts: list[int] = []
        self.hold: int | None = None
        self.holding, self.go = threading.Event(), threading.Event()
        self.instead: dict[str, bytes] = {}
        self.answers: list[tuple[str, int, dict[str, str], bytes]] = []
        self.sent: dict[str, int] = {}
        self.asked: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    front: Front

    def log_message(self, format: str, *arguments: object) -> None: ...

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        front = self.front
        front.asked.append((self.command, self.path, self.headers.get("Authorization")))
        for pattern, status, headers, body in front.answers:
            if re.search(pattern, f"{self.command} {self.path}"):
                self._send(status, {**headers, "Content-Length": str(len(body))}, body)
                return
        file = re.fullmatch(r"/(?:cdn/)?[\w.-]+/[\w.-]+/resolve/[^/]+/(.+)", self.path)
        path = self.path.removeprefix("/cdn")
        key = (self.command, path)
        status, headers, body = front.known[key] if file and key in front.known else self._olah(path)
        if file is None or status != 200:
            self._send(status, headers, body)
            return
        front.known[key] = status, headers, body  # a commit's file does not change, and olah is slow
        name = file[1]
        body = front.instead.get(name, body)
        size = len(body) if body or name in front.instead else int(headers.get("content-length", 0))
        headers = {key: headers[key] for key in ("etag", "x-repo-commit") if key in headers}
        if size > LARGE and not self.path.startswith("/cdn/"):  # as the Hub does: its files are elsewhere
            headers |= {"X-Linked-Size": str(size), "X-Linked-Etag": headers.get("etag", '"none"')}
            self._send(302, {**headers, "Location": f"http://localhost:{front.port}/cdn{self.path}"}, b"")
            return
        self._file(name, headers, body, size)

    def _file(self, name: str, headers: dict[str, str], body: bytes, size: int) -> None:
        start, end, status = 0, size, 200
        if (asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))) and self.front.ranges:
            start, end, status = int(asked[1]), min(size, int(asked[2] or size) + 1), 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._send(status, {**headers, "Content-Length": str(end - start)}, body[start:end], name)

    def _olah(self, path: str) -> tuple[int, dict[str, str], bytes]:
        asking = http.client.HTTPConnection("127.0.0.1", self.front.olah_port, timeout=30)
        try:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kept = {key: self.headers[key] for key in ("Content-Type", "Accept") if key in self.headers}
            asking.request(self.command, path, content, kept)
            answer = asking.getresponse()
            headers = {key.lower(): value for key, value in answer.getheaders()}
            headers.pop("transfer-encoding", None)
            body = answer.read()
        finally:
            asking.close()
        if "location" in headers:
            headers["location"] = headers["location"].replace(f":{self.front.olah_port}", f":{self.front.port}")
        if self.command != "HEAD":
            headers["content-length"] = str(len(body))
        return answer.status, headers, body

    def _send(self, status: int, headers: Mapping[str, str], body: bytes, name: str = "") -> None:
        front = self.front
        self.close_connection = True
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        sent, done = front.sent, 0  # a later reset() counts in another
        cut = front.cuts.pop(0) if front.cuts and name and len(body) > LARGE // 8 else None
        try:
            for begin in range(0, len(body if cut is None else body[:cut]), 1 << 16):
                chunk = body[begin : min(begin + (1 << 16), len(body) if cut is None else cut)]
                if name and front.hold is not None and done >= front.hold:
                    self.wfile.flush()
                    front.holding.set()
                    front.go.wait()
                self.wfile.write(chunk)
                done += len(chunk)
        except OSError:  # the client is gone
            pass
        finally:
            if name:
                sent[name] = sent.get(name, 0) + done
