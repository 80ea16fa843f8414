"""The signature beside a release's statement: `provenance.dsse.json`, an in-toto DSSE envelope of `provenance.json`.

It belongs to whoever signed, not to the release: no tag, listing or digest knows of it, and two signers of one release
differ in nothing else. https://github.com/secure-systems-lab/dsse specifies the envelope; its payload is the
statement, byte for byte.
"""

import base64
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.disk import write_atomic
from quantmill.errors import QuantmillError
from quantmill.remote.settings import PublicKey

STATEMENT, NAME = "provenance.json", "provenance.dsse.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
LIMIT = 64 << 20  # bytes of an envelope that is read
SHOWN = 16  # hex digits of a key's name


class WrongSignature(QuantmillError):
    """A release's signature is not what an accepted key made of its statement."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path}: {why}; fetch it from those who signed the release, or remove it and sign your own build"
        )


@dataclass(frozen=True)
class Seal:
    """Our signature on releases: `sign` as remote.settings has it, whose public half is among `keys`."""

    sign: str
    keys: tuple[PublicKey, ...]

    def holds(self, tree: Path) -> bool:
        """Whether the release in `tree` has a signature that names one of the keys. Only `check` looks whether it is
        right; this is asked each time a build looks for work."""
        envelope = _envelope(tree)
        return covers(tree) and bool({key.id for key in self.keys} & set(_signers(envelope)))

    def put(self, tree: Path) -> None:
        """Sign the statement in `tree`. Raises UsageError for a key that cannot be used."""
        from quantmill.remote.trust import Signer

        signed = Signer(self.sign, self.keys).sign((tree / STATEMENT).read_bytes(), PAYLOAD_TYPE)
        write_atomic(tree / NAME, signed + b"\n")


def covers(tree: Path) -> bool:
    """Whether the envelope in `tree` is of the statement there, by whomever."""
    try:
        statement = (tree / STATEMENT).read_bytes()
        return base64.b64decode(_envelope(tree)["payload"], validate=True) == statement
    except (OSError, KeyError, TypeError, ValueError):
        return False


def check(tree: Path, keys: Sequence[PublicKey], needed: bool = False) -> str:
    """Who signed the release in `tree`, in words for its reader: by one of `keys`, or, where none are given, by whom
    it says; or that nobody did. Raises WrongSignature for a signature that none of `keys` made, or that is of another
    statement; and when one is `needed` and there is none."""
    path = tree / NAME
    if not path.is_file():
        if needed:
            raise WrongSignature(path, "there is no such file, the release is not signed")
        return "it is not signed"
    envelope = _envelope(tree)
    names = [_shown(name) for name in _signers(envelope)]
    if not names:
        raise WrongSignature(path, "this is no DSSE envelope with a signature")
    if not covers(tree):
        raise WrongSignature(path, f"it signs another statement than the {STATEMENT} beside it")
    if not keys:
        return f"it names the key {names[0]} as its signer's; give that key in quantmill.toml or by --key to check it"
    from quantmill.remote.trust import Refused, opened

    try:
        _, by = opened(path.read_bytes(), PAYLOAD_TYPE, keys, time.time(), "it is")
    except Refused as refused:
        raise WrongSignature(path, refused.why) from None
    return f"it is signed by the key {by.name!r} ({by.id[:SHOWN]}…)"


def _envelope(tree: Path) -> Any:
    """The envelope's JSON, nothing where there is none that can be read."""
    try:
        path = tree / NAME
        return json.loads(path.read_bytes()) if path.stat().st_size <= LIMIT else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _signers(envelope: Any) -> Iterable[str]:
    """The names of the keys that an envelope says signed it."""
    try:
        return [str(entry["keyid"]) for entry in envelope["signatures"]]
    except (KeyError, TypeError):
        return []


def _shown(name: str) -> str:
    return f"{''.join(c if c in '0123456789abcdef' else '?' for c in name[:SHOWN])}…"
