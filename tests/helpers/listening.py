"""What a process and its children listen on, and what another user of this machine gets there."""

import ipaddress
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

# As user 65534 where this one may become that, else without the key, which is as good.
KNOCK = """
import encodings.idna, json, os, socket, ssl, sys  # all now: that user may not see this Python

def context(version, *own):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.minimum_version = made.maximum_version = version
    if own:
        made.load_cert_chain(*own)
    return made

def answer(port, how):
    heard = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as bare:
            if how is None:
                bare.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                while more := bare.recv(4096):
                    heard += more
                return heard.hex()
            with how.wrap_socket(bare) as secure:
                return "heard " + secure.recv(4096).hex()
    except ssl.SSLError as error:
        return error.reason
    except ConnectionError:
        return heard.hex()

v12, v13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
ways = {"plain": None, "tls 1.2": context(v12), "tls 1.3": context(v13), "a stranger": context(v13, *sys.argv[1:3])}
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
print(json.dumps([{name: answer(int(port), way) for name, way in ways.items()} for port in sys.argv[3:]]))
"""


def family(pid: int) -> list[int]:
    """The process and all below it."""
    pids = [pid]
    for one in pids:
        for thread in Path(f"/proc/{one}/task").iterdir():
            pids += map(int, (thread / "children").read_text().split())
    return pids


def listening(pid: int) -> list[tuple[str, int]]:
    """Address and port of each socket that the process listens on; those of its own machine have the path and -1."""
    held = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            held.add(os.readlink(file))
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            columns = line.split()
            host, _, port = columns[1].partition(":")
            if columns[3] == "0A" and f"socket:[{columns[9]}]" in held:
                words = (int(host[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(host), 8))
                found.append((str(ipaddress.ip_address(b"".join(words))), int(port, 16)))
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        columns = line.split()
        if int(columns[3], 16) & 0x10000 and f"socket:[{columns[6]}]" in held:
            found.append((" ".join(columns[7:]), -1))
    return found


def knock(ports: list[int], certificate: Path, key: Path) -> list[dict[str, str]]:
    """What each port answers to plain text, to TLS without a certificate, and to a stranger's."""
    command = [sys.executable, "-c", KNOCK, str(certificate), str(key), *map(str, ports)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
