"""Tags of llama.cpp that were admitted: `admitted/<id of a key>` in the shared store, a list that this key signed.

Its payload is canonical JSON `{"admissions": [a row each], "time", "quantmill"}`; what a row holds is not known here.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantmill import __version__
from quantmill.disk import write_own
from quantmill.errors import UsageError
from quantmill.store.key import canonical
from quantmill.store.remote.settings import PublicKey, Settings, find

if TYPE_CHECKING:
    from quantmill.store.remote.bucket import Bucket
    from quantmill.store.remote.trust import Signer

PAYLOAD_TYPE = "application/vnd.quantmill.admitted+json"
KNOWN = "admitted"  # the list of each key as it was last seen, in the local store
LIMIT = 1 << 20  # bytes of a list
ATTEMPTS = 10
Row = Mapping[str, Any]


def admitted(folder: Path, root: Path) -> list[Row]:
    """The rows that listed keys signed at the shared store named for `folder`, kept in the local store at `root`, which
    has them where the shared one cannot be asked. StoreError where neither has."""
    settings = find(folder)
    return [row for key in settings.keys for row in _rows(_newest(settings, key, root), key)] if settings else []


def _newest(settings: Settings, key: PublicKey, root: Path) -> bytes | None:
    """The list of a key as it is there, or was."""
    from quantmill.store.remote.bucket import Bucket, StoreError

    kept = root / KNOWN / hashlib.sha256(f"{settings.address}\n{key.id}".encode()).hexdigest()
    try:
        data = Bucket(settings).get(_name(key.id), LIMIT)
    except StoreError:
        if not kept.is_file():
            raise
        return kept.read_bytes()
    with suppress(OSError):
        if data is None:
            kept.unlink(missing_ok=True)
        elif root.is_dir():
            write_own(kept, data)
    return data


def share(folder: Path, row: Row) -> str:
    """Sign a row and put it into the shared store, in place of one of the same tag; the store's address. UsageError as
    from `writer`."""
    from quantmill.store.remote.bucket import Bucket

    settings, signer = writer(folder)
    sign(Bucket(settings), settings, signer, [row])
    return settings.address


def writer(folder: Path) -> tuple[Settings, "Signer"]:
    """The shared store that is named for `folder`, and our key; UsageError where there is none. Asks no network."""
    from quantmill.store.remote.trust import Signer

    settings = find(folder)
    if settings is None:
        raise UsageError("no shared store is named: write its url into quantmill.toml, or set QUANTMILL_STORE")
    if settings.sign is None:
        raise UsageError("this needs a signing key: name it in quantmill.toml (store.sign), or set QUANTMILL_SIGN")
    return settings, Signer(settings.sign, settings.keys)


def sign(
    bucket: "Bucket", settings: Settings, signer: "Signer", more: Iterable[Row] = (), all_keys: bool = False
) -> None:
    """Sign the list of our key anew, with more rows; `all_keys`: with those of the other keys' lists too."""
    from quantmill.store.remote.bucket import StoreError

    added = list(more)
    for key in settings.keys if all_keys else ():
        added = [*_rows(bucket.get(_name(key.id), LIMIT), key), *added]
    own = next(key for key in settings.keys if key.id == signer.id)
    if not added:
        return
    for _ in range(ATTEMPTS):
        there = bucket.get_versioned(_name(own.id), LIMIT)
        rows = {str(row.get("tag")): dict(row) for row in (*_rows(there[0] if there else None, own), *added)}
        payload = {"admissions": list(rows.values()), "time": int(time.time()), "quantmill": __version__}
        data = signer.sign(canonical(payload).encode(), PAYLOAD_TYPE)
        if bucket.replace(_name(own.id), data, there[1]) if there else bucket.create(_name(own.id), data):
            return
    raise StoreError(settings.address, "others keep writing the list of admitted tags; try again")


def _rows(data: bytes | None, key: PublicKey) -> list[Row]:
    """The rows of a list, none unless that key signed it and has not expired."""
    from quantmill.store.remote.trust import EARLY, Refused, opened

    if data is None:
        return []
    now = time.time()
    with suppress(Refused, ValueError, KeyError, TypeError, RecursionError):
        found = json.loads(opened(data, PAYLOAD_TYPE, [key], now)[0])
        if int(found["time"]) <= now + EARLY:
            return [row for row in found["admissions"] if isinstance(row, dict)]
    return []


def _name(key: str) -> str:
    return f"admitted/{key}"
