"""Where the shared store is and whose signatures are believed: `quantmill.toml`, or the environment."""

import base64
import binascii
import datetime
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tomli

from quantmill.errors import UsageError, nearest
from quantmill.store.remote import named_by
from quantmill.units import parse_age, parse_size

SCHEMES = ("s3", "gs", "az", "file")
MIB = 1 << 20
KEPT = ("checkpoint", "base", "evaluation", "release")


@dataclass(frozen=True)
class PublicKey:
    """A key whose records are believed until `expires` (seconds since 1970; None: for ever). `public` is the 32 bytes
    of an Ed25519 key."""

    name: str
    public: bytes
    expires: float | None = None

    @property
    def id(self) -> str:
        """sha256 of the public key in hex, by which envelopes name it."""
        return hashlib.sha256(self.public).hexdigest()

    def expired(self, now: float) -> bool:
        """Whether it has expired by then."""
        return self.expires is not None and now >= self.expires


@dataclass(frozen=True)
class Settings:
    """A shared store. Sizes are in bytes, times in seconds."""

    url: str
    keys: tuple[PublicKey, ...] = ()
    sign: str | None = None
    endpoint: str | None = None
    region: str | None = None
    chunk: int = 256 * MIB
    parallel: int = 4
    bandwidth: int | None = None
    timeout: float = 120
    retries: int = 5
    lease: float = 60
    patience: float = 60
    max_age: float | None = None

    @property
    def address(self) -> str:
        """The URL, as messages name it: without what somebody may have put before its host."""
        return _address(self.url)


@dataclass(frozen=True)
class SigningKeys:
    """Whose signatures count, with a shared store or without, and the secret key that signs what is made here."""

    keys: tuple[PublicKey, ...] = ()
    sign: str | None = None


def signing(start: Path, environment: Mapping[str, str] = os.environ) -> SigningKeys:
    """The keys for work below `start`, from where `find` takes them."""
    _, values = _values(start, environment)
    return SigningKeys(values.get("keys", ()), values.get("sign"))


def find(start: Path, environment: Mapping[str, str] = os.environ) -> Settings | None:
    """The settings for work below `start`: those of the nearest `quantmill.toml` above it, with QUANTMILL_STORE and
    QUANTMILL_SIGN before its `url` and `sign`. None when no shared store is named. UsageError for a file that is
    wrong."""
    path, values = _values(start, environment)
    if not values.get("url"):
        return None
    scheme = values["url"].partition("://")[0]
    if "://" not in values["url"] or scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(
            f"{path or 'QUANTMILL_STORE'}: {_address(values['url'])!r} names no store; it begins with {known}"
        )
    if set("?#") & set(values["url"]):
        raise UsageError(
            f"{path or 'QUANTMILL_STORE'}: {_address(values['url'])!r} goes on with ? or #, which no store's address "
            "does; credentials belong in the environment, and in a path these are %3F and %23"
        )
    return Settings(**{name: value for name, value in values.items() if name not in OWN})


class Keeping(NamedTuple):
    """What of a build stays in the local store when nothing reads it any more (None: all of it), and how many bytes
    that store may have (None: any)."""

    keep: tuple[str, ...] | None = None
    max_size: int | None = None


def keeping(start: Path) -> Keeping:
    """The same for the local store of work below `start`."""
    _, values = _values(start, os.environ)
    return Keeping(values.get("keep"), values.get("max_size"))


def _address(url: str) -> str:
    """The URL without a user's name, a password, a query and a fragment."""
    scheme, slashes, rest = re.split("[?#]", url, maxsplit=1)[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"


def _values(start: Path, environment: Mapping[str, str]) -> tuple[Path | None, dict[str, Any]]:
    path, given = named_by(start, environment)
    values = _read(path) if path else {}
    values |= {name: value or None for name, value in given.items()}
    return path, values


def _read(path: Path) -> dict[str, Any]:
    try:
        data = tomli.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error}") from None
    if lost := next((name for name in data if name in KEYS), None):
        raise UsageError(f"{path}: {lost}: this is a key of the table [store]; write it below that line")
    _known(path, data, {"store": None}, "")
    table = data.get("store", {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: store: this must be a table; begin it with [store]")
    _known(path, table, KEYS, "store.")
    values = {}
    for name, value in table.items():
        try:
            values["keys" if name == "key" else name] = KEYS[name](value)
        except (ValueError, TypeError) as error:
            raise UsageError(f"{path}: store.{name}: {error}") from None
    sign = values.get("sign")
    if sign and ":" not in sign:  # a path, from the file's own folder
        values["sign"] = str(path.parent / Path(sign).expanduser())
    return values


def _known(path: Path, table: Mapping[str, Any], keys: Mapping[str, Any], above: str) -> None:
    for name in table:
        if name not in keys:
            raise UsageError(f"{path}: there is no {above}{name}{nearest(name, keys)}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("this must be a text in quotes")
    return value


def _bytes(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or not (found := parse_size(value)):
        raise ValueError("this must be a size such as 256MiB")
    return found


def _kinds(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(word in KEPT for word in value):
        raise ValueError(f"this must be a list of some of {', '.join(KEPT)}, each in quotes")
    return tuple(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 256:
        raise ValueError("this must be a number from 1 to 256")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise ValueError("this must be a number of seconds above 0")
    return float(value)


def _age(value: Any) -> float:
    if not isinstance(value, str) or not (found := parse_age(value)):
        raise ValueError("this must be an age such as 30d or 12h, in quotes")
    return float(found)


def _keys(value: Any) -> tuple[PublicKey, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError("this must be a list of tables; begin each with [[store.key]]")
    return tuple(_key(entry) for entry in value)


def _key(entry: Mapping[str, Any]) -> PublicKey:
    for name in entry:
        if name not in ("name", "public", "expires"):
            raise ValueError(f"a key has no {name}{nearest(name, ('name', 'public', 'expires'))}")
    name, expires = _text(entry.get("name")), entry.get("expires")
    if isinstance(expires, datetime.datetime):
        moment = expires if expires.tzinfo else expires.replace(tzinfo=datetime.UTC)
    elif isinstance(expires, datetime.date):
        moment = datetime.datetime.combine(expires, datetime.time(), datetime.UTC)
    elif expires is None:
        return PublicKey(name, parse_public(_text(entry.get("public"))))
    else:
        raise ValueError(f"{name}: expires must be a date such as 2027-01-31, without quotes")
    return PublicKey(name, parse_public(_text(entry.get("public"))), moment.timestamp())


def parse_public(text: str) -> bytes:
    """The 32 bytes of `ed25519:<base64>`; ValueError otherwise."""
    algorithm, _, encoded = text.partition(":")
    try:
        public = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        public = b""
    if algorithm != "ed25519" or len(public) != 32:
        raise ValueError(f"{text[:60]!r} is no public key; `quantmill key new` prints one, as ed25519:…")
    return public


def format_public(public: bytes) -> str:
    """`ed25519:<base64>` of the 32 bytes of a public key."""
    return f"ed25519:{base64.b64encode(public).decode()}"


# What [store] of quantmill.toml may hold, and how it is read.
KEYS: dict[str, Callable[[Any], Any]] = {
    "url": _text,
    "sign": _text,
    "key": _keys,
    "endpoint": _text,
    "region": _text,
    "chunk": _bytes,
    "parallel": _count,
    "bandwidth": _bytes,
    "timeout": _seconds,
    "retries": _count,
    "lease": _seconds,
    "patience": _seconds,
    "max_age": _age,
    "keep": _kinds,
    "max_size": _bytes,
}
OWN = ("keep", "max_size")  # of those, what is said of the local store
