"""The signature beside a release's statement: `provenance.dsse.json`, an in-toto DSSE envelope of `provenance.json`.

It belongs to whoever signed, not to the release: no tag, listing or digest knows of it, and two signers of one release
differ in nothing else. The envelope is specified by https://github.com/secure-systems-lab/dsse; its payload is the
statement, byte for byte.
"""

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quantmill.disk import write_atomic
from quantmill.errors import QuantmillError

if TYPE_CHECKING:
    from quantmill.store.remote.settings import PublicKey

STATEMENT, NAME = "provenance.json", "provenance.dsse.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
LIMIT = 64 << 20  # bytes of an envelope or a statement that is read
SHOWN = 16  # hex digits of a key's name


class WrongSignature(QuantmillError):
    """A release's signature is not what an accepted key made of its statement."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path}: {why}; fetch it from those who signed the release, or remove it and sign your own build"
        )


@dataclass(frozen=True)
class Seal:
    """Our signature on releases: `sign` as remote.settings has it, whose public half is among `keys`. What was signed
    is kept beside the build (`kept`), so that it is known without a look at the key and put back without one."""

    sign: str | None = None
    keys: "tuple[PublicKey, ...]" = ()

    def holds(self, tree: Path, kept: Path) -> bool:
        """Whether the release in `tree` is signed as it should be: where we sign, by one of the keys; else no worse
        than it was. An envelope is checked once, and kept."""
        found, own = _read(tree / NAME), _read(kept)
        if not found and not own:
            return not self.sign
        statement = _read(tree / STATEMENT)
        if not _covers(found, statement):
            return not found and not self.sign and not _covers(own, statement)
        if self.sign and not {key.id for key in self.keys} & set(key_names(found)):
            return False
        if found == own or not self.keys:
            return True
        try:
            check(tree, self.keys)
        except WrongSignature:
            return not self.sign and not _covers(own, statement)  # a stranger's; we have no better one
        write_atomic(kept, found)
        return True

    def put(self, tree: Path, kept: Path) -> None:
        """Sign the statement in `tree` or, without a key, have there what is kept, and no signature of another
        statement. Raises UsageError for a key that cannot be used."""
        own, statement = _read(kept), _read(tree / STATEMENT)
        if self.sign:
            from quantmill.store.remote.trust import Signer

            own = Signer(self.sign, self.keys).sign(statement, PAYLOAD_TYPE) + b"\n"
        if _covers(own, statement):
            write_atomic(kept, own)
            write_atomic(tree / NAME, own)
        elif not _covers(_read(tree / NAME), statement):
            (tree / NAME).unlink(missing_ok=True)


def check(tree: Path, keys: "Sequence[PublicKey]", needed: bool = False) -> str:
    """Who signed the release in `tree`, in words for its reader: by one of `keys`, or, where none are given, by whom
    it says; or that nobody did. Raises WrongSignature for a signature that none of `keys` made, or that is of another
    statement; and when one is `needed` and there is none."""
    path = tree / NAME
    if not path.is_file():
        if needed:
            raise WrongSignature(path, "there is no such file, the release is not signed")
        return "it is not signed"
    envelope = _read(path)
    names = [_shown(name) for name in key_names(envelope)]
    if not names:
        raise WrongSignature(path, "this is no DSSE envelope with a signature")
    if not _covers(envelope, _read(tree / STATEMENT)):
        raise WrongSignature(path, f"it signs another statement than the {STATEMENT} beside it")
    if not keys:
        return f"it names the key {names[0]} as its signer's; give that key in quantmill.toml or by --key to check it"
    from quantmill.store.remote.trust import Refused, opened

    try:
        _, by = opened(envelope, PAYLOAD_TYPE, keys, time.time(), "it is")
    except Refused as refused:
        raise WrongSignature(path, refused.why) from None
    return f"it is signed by the key {by.name!r} ({by.id[:SHOWN]}…)"


def _read(path: Path) -> bytes:
    """The bytes of an envelope or a statement, none where there is none that can be read."""
    try:
        return path.read_bytes() if path.stat().st_size <= LIMIT else b""
    except OSError:
        return b""


def _covers(envelope: bytes, statement: bytes) -> bool:
    """Whether the envelope is of the statement, by whomever."""
    try:
        return base64.b64decode(json.loads(envelope)["payload"], validate=True) == statement
    except (KeyError, TypeError, ValueError, RecursionError):
        return False


def key_names(envelope: bytes) -> list[str]:
    """The names of the keys that an envelope says signed it."""
    try:
        return [str(entry["keyid"]) for entry in json.loads(envelope)["signatures"]]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []


def _shown(name: str) -> str:
    return f"{''.join(c if c in '0123456789abcdef' else '?' for c in name[:SHOWN])}…"
