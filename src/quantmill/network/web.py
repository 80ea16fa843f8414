"""Files by address (http, https), for what is no repository of the Hub: calibration texts.

No token of the Hub is ever sent. A broken connection is taken up again from where it broke.
"""

import errno
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from quantmill.errors import QuantmillError

ATTEMPTS = 4
PAUSE = 0.25  # seconds before the second attempt, doubled for each that follows
TIMEOUT = 30
CHUNK = 1 << 16
LIMIT = 1 << 30  # bytes; no text is larger
FULL = (errno.ENOSPC, errno.EDQUOT)  # which no attempt mends


class WebError(QuantmillError):
    """An address did not answer, or not with the file."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"{url}: {problem}")


def fetch(url: str, part: Path, advance: Callable[[int], None] = lambda count: None) -> None:
    """Download to `part`, after the bytes that are already there; its content is the caller's to check.

    `advance(n)` is called for every n bytes that arrive (n < 0 when the server begins again). WebError when the address
    has no such file or does not answer.
    """
    part.touch()
    for attempt in range(ATTEMPTS):
        try:
            _request(url, part, advance)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416 and part.stat().st_size:  # nothing follows what is there
                return
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


def _request(url: str, part: Path, advance: Callable[[int], None]) -> None:
    start = part.stat().st_size
    headers = {"User-Agent": "quantmill", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
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
