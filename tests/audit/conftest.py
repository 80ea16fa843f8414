"""A folder served by HTTP on loopback, in ranges, with a count of the bytes that were sent."""

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class RangeServer(http.server.ThreadingHTTPServer):
    """`sent`: bytes of files; `ranges`: whether ranges are heeded; `lies`: what is told of a file's size."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.sent, self.ranges, self.lies = folder, 0, True, 0

    def handle_error(self, request: Any, client_address: Any) -> None: ...  # a client that has enough leaves

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: RangeServer

    def do_GET(self) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data, size = path.read_bytes(), path.stat().st_size + self.server.lies
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if self.server.ranges else None
        if match:
            data = data[int(match[1]) : int(match[2]) + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {match[1]}-{int(match[1]) + len(data) - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for at in range(0, len(data), 1 << 16):
            self.wfile.write(data[at : at + (1 << 16)])
            self.server.sent += len(data[at : at + (1 << 16)])

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def served(tmp_path: Path) -> Iterator[RangeServer]:
    """The server of the test's own folder."""
    with RangeServer(tmp_path) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
