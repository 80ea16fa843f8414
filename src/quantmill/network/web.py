"""Files by address (http, https), for what is no repository of the Hub: calibration texts, headers of models.

No token of the Hub is ever sent. A broken connection is taken up again from where it broke. An address may lead on to
another on the web, but not out of TLS, nor from the web into this machine or its network.
"""

import errno
import http.client
import ipaddress
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from quantmill.errors import QuantmillError

ATTEMPTS = 4
PAUSE = 0.25  # seconds before the second attempt, doubled for each that follows
TIMEOUT = 30
CHUNK = 1 << 16
LIMIT = 1 << 30  # bytes; no text is larger
T = TypeVar("T")
FULL = (errno.ENOSPC, errno.EDQUOT)  # which no attempt mends


class WebError(QuantmillError):
    """An address did not answer, or not with the file."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"{url}: {problem}")


def networks(host: str) -> set[str]:
    """Where a host is: "web", "loopback", "link-local" or "private"; nothing for a name that nobody knows here."""
    try:
        found = {address[4][0] for address in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return set()
    return {_network(ipaddress.ip_address(str(address).partition("%")[0])) for address in found}


def _network(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or address
    if address.is_loopback or address.is_unspecified:
        return "loopback"
    return "link-local" if address.is_link_local else "web" if address.is_global else "private"


def astray(url: str, target: str) -> str | None:
    """Why a redirect from one address to another is not followed, or None. The target's query, which may hold a
    secret, is not told."""
    start, end = urlsplit(url), urlsplit(target)
    if end.scheme not in ("http", "https"):
        return f"it leads on to {end.scheme}:, which is not the web"
    if (start.scheme, end.scheme) == ("https", "http"):
        return f"it leads on to http://{end.hostname}, where anybody on the way can read and change it"
    for network in sorted(networks(end.hostname or "") - networks(start.hostname or "") - {"web"}):
        return f"it leads on to {end.hostname}, a {network} address"
    return None


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, url: str) -> None:
        self._url = url

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if problem := astray(req.full_url, newurl):
            fp.close()
            raise WebError(self._url, f"{problem}; give the address of the text itself")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(url: str, part: Path, advance: Callable[[int], None] = lambda count: None) -> None:
    """Download to `part`, after the bytes that are already there; its content is the caller's to check.

    `advance(n)` is called for every n bytes that arrive (n < 0 when the server begins again). WebError when the address
    has no such file or does not answer.
    """
    part.touch()

    def ask() -> None:
        try:
            _request(url, part, advance)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not part.stat().st_size:  # else nothing follows what is there
                raise

    _patiently(url, ask)


def fetch_range(url: str, start: int, count: int) -> tuple[bytes, int]:
    """`count` bytes of a file from byte `start` on, fewer when it has fewer, and how many it has. Of a server without
    ranges the first ones alone are to be had, and no more of them are taken. WebError as `fetch` raises it."""

    def ask() -> tuple[bytes, int]:
        asked = f"bytes={start}-{start + count - 1}"
        headers = {"User-Agent": "quantmill", "Accept-Encoding": "identity", "Range": asked}
        opener = urllib.request.build_opener(_Redirects(url))
        with opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
            told = response.headers.get("Content-Length") or ""
            if start or response.status == 206:
                place, _, told = (response.headers.get("Content-Range") or "").partition("/")
                if response.status != 206 or not place.startswith(f"bytes {start}-"):
                    raise WebError(url, "the server does not send the range asked for; download it and name the file")
            if not told.isdecimal() or len(told) > 18:
                raise WebError(url, "the server does not say how large it is; download it and name the file")
            wanted = max(0, min(count, int(told) - start))
            found = response.read(wanted)
        if len(found) < wanted:
            raise EOFError(f"{len(found)} of {wanted} bytes")
        return found, int(told)

    return _patiently(url, ask)


def _patiently(url: str, ask: Callable[[], T]) -> T:
    """What `ask` gives, asked again where a network or a server may do better a moment later."""
    for attempt in range(ATTEMPTS):
        try:
            return ask()
        except urllib.error.HTTPError as error:
            if error.code not in (408, 429, 500, 502, 503, 504) or attempt == ATTEMPTS - 1:
                raise WebError(url, f"the server answers with HTTP {error.code}; check the address") from None
        except (http.client.InvalidURL, ValueError) as error:  # of the address, or of one that it leads on to
            raise WebError(
                url, f"it leads to no address ({error}); write it like https://example.org/text.txt"
            ) from None
        except (OSError, EOFError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            if attempt == ATTEMPTS - 1:
                reason = getattr(error, "reason", None) or error
                raise WebError(url, f"it cannot be reached or breaks off ({reason}); check the network") from None
        time.sleep(PAUSE * 2**attempt)
    raise AssertionError  # the last attempt returns or raises


def _request(url: str, part: Path, advance: Callable[[int], None]) -> None:
    start = part.stat().st_size
    headers = {"User-Agent": "quantmill", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    opener = urllib.request.build_opener(_Redirects(url))
    with opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        resumed = response.status == 206
        if start and not resumed:
            advance(-start)
            start = 0
        length = response.headers.get("Content-Length")
        expected = start + int(length) if length and length.isdecimal() else None
        with open(part, "ab" if resumed else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                advance(len(chunk))
                start += len(chunk)
                if start > LIMIT:
                    raise WebError(url, f"it is larger than {LIMIT} bytes; give the address of a text")
    if expected is not None and start < expected:
        raise EOFError(f"{start} of {expected} bytes")
