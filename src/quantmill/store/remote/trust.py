"""Signatures (Ed25519, in DSSE envelopes), and what they are for first: records of the shared store, bound to their
key, believed from listed keys only.

A record's payload is canonical JSON `{"key": the step key's fields, "outputs": {name: {"sha256", "size"}}, "task",
"time", "quantmill"}`. Because it holds the key itself, a record that is copied to another key's place is found out.
"""

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quantmill import __version__
from quantmill.disk import below
from quantmill.errors import QuantmillError, UsageError
from quantmill.store.key import StepKey, canonical
from quantmill.store.remote.settings import PublicKey
from quantmill.store.shared import SharedRecord

PAYLOAD_TYPE = "application/vnd.quantmill.record+json"
LIMIT = 16 << 20  # bytes of an envelope
EARLY = 86_400  # seconds that a signer's clock may be ahead of ours


class Refused(QuantmillError):
    """A record that is not believed; `why` names no key of a step, so that equal reasons can be told once."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Signer:
    """A signing key: a PEM file of `quantmill key new`, or a URI that securesystemslib knows (`gcpkms:…`,
    `hsm:…`, …), whose public half is among `keys`."""

    def __init__(self, source: str, keys: Sequence[PublicKey]) -> None:
        _library()
        self._signer = _from_file(Path(source)) if ":" not in source else _from_uri(source, keys)
        public = bytes.fromhex(self._signer.public_key.keyval["public"])
        self._public = PublicKey("own", public)
        if not any(public == key.public for key in keys):
            raise UsageError(
                f"the signing key {source} is not among the keys of quantmill.toml, so nobody would believe what it "
                "signs; list its public half there"
            )

    @property
    def id(self) -> str:
        """The id of our public key."""
        return self._public.id

    def seal(self, key: StepKey, outputs: Mapping[str, tuple[str, int]], task: str) -> bytes:
        """The record, signed."""
        listed = {name: {"sha256": sha256, "size": count} for name, (sha256, count) in outputs.items()}
        payload: dict[str, Any] = {"key": key.fields(), "outputs": listed, "task": task}
        payload |= {"time": int(time.time()), "quantmill": __version__}
        return self.sign(canonical(payload).encode(), PAYLOAD_TYPE)

    def sign(self, payload: bytes, kind: str) -> bytes:
        """A DSSE envelope of that payload and payloadType. Ed25519 signs the same bytes with the same signature."""
        from securesystemslib.dsse import Envelope

        envelope = Envelope(payload, kind, {})
        envelope.sign(self._signer)
        return json.dumps(envelope.to_dict()).encode()

    def signed(self, data: bytes) -> bool:
        """Whether our signature, and not our key's name alone, is on an envelope of a record."""
        try:
            opened(data, PAYLOAD_TYPE, [self._public], time.time())
        except Refused:
            return False
        return True

    def also(self, data: bytes) -> bytes:
        """An envelope with our signature beside those it has."""
        from securesystemslib.dsse import Envelope

        envelope = Envelope.from_dict(json.loads(data))
        envelope.sign(self._signer)
        return json.dumps(envelope.to_dict()).encode()


def unseal(
    data: bytes, digest: str, keys: Sequence[PublicKey], now: float, max_age: float | None = None
) -> tuple[Mapping[str, Any], SharedRecord]:
    """The payload of an envelope and what it says of the key of that digest; Refused unless one of `keys`, not
    expired, signed it, no more than `max_age` seconds ago."""
    content, by = opened(data, PAYLOAD_TYPE, keys, now)
    try:
        payload = json.loads(content)
        if StepKey(**payload["key"]).digest() != digest:
            raise Refused("they are of other keys than their places say")
        signed = int(payload["time"])
        if signed > now + EARLY:
            raise Refused("their time is in the future")
        if max_age is not None and signed < now - max_age:
            raise Refused("they are older than max_age of quantmill.toml")
        outputs = {str(name): _output(name, entry) for name, entry in payload["outputs"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused("their content is not a record's") from None
    return payload, SharedRecord(outputs, {"key": by.id, "time": str(signed)})


def opened(
    data: bytes, kind: str, keys: Sequence[PublicKey], now: float, are: str = "they are"
) -> tuple[bytes, PublicKey]:
    """The payload of an envelope of payloadType `kind`, and which of `keys`, not expired, signed it; else Refused, in a
    sentence that begins with `are`."""
    _library()
    from securesystemslib.dsse import Envelope

    try:
        envelope = Envelope.from_dict(json.loads(data))
        signed = set(envelope.signatures)
        if not all(isinstance(text, str) for text in (envelope.payload_type, *signed)):
            raise TypeError
    except Exception:  # whatever a stranger's bytes provoke in the parsers
        raise Refused(f"{are} not what a DSSE signer writes") from None
    if envelope.payload_type != kind:
        raise Refused(f"{are} of the type {envelope.payload_type[:80]!r}")
    return envelope.payload, _signer_of(envelope, signed, keys, now, are)


def _signer_of(envelope: Any, signed: set[str], keys: Sequence[PublicKey], now: float, are: str) -> PublicKey:
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    if not signed:
        raise Refused(f"{are} not signed")
    listed = [key for key in keys if key.id in signed]
    if not listed:
        named = re.sub("[^0-9a-z]", "?", min(signed)[:16])
        raise Refused(f"{are} signed by no key of quantmill.toml ({named}…)")
    valid = [key for key in listed if not key.expired(now)]
    if not valid:
        raise Refused(f"{are} signed by the key {listed[0].name!r}, which has expired")
    for key in valid:
        try:
            envelope.verify([SSlibKey(key.id, "ed25519", "ed25519", {"public": key.public.hex()})], 1)
            return key
        except (VerificationError, ValueError):
            continue
    raise Refused(f"the signature by the key {valid[0].name!r} is wrong")


def _output(name: str, entry: Mapping[str, Any]) -> tuple[str, int]:
    if not below(name):
        raise ValueError(name)
    sha256, size = entry["sha256"], entry["size"]
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not isinstance(size, int) or size < 0:
        raise ValueError(sha256)
    return sha256, size


def new_key(path: Path) -> bytes:
    """Write a new signing key to `path`, for its owner alone to read; returns the 32 bytes of the public key. An
    existing file is not overwritten: FileExistsError."""
    _library()
    from securesystemslib.signer import CryptoSigner

    signer = CryptoSigner.generate_ed25519()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(signer.private_bytes)
    return bytes.fromhex(signer.public_key.keyval["public"])


def _library() -> None:
    try:
        import cryptography  # noqa: F401 -- only whether it is there
        import securesystemslib  # noqa: F401 -- likewise
    except ImportError:
        raise UsageError("signatures need securesystemslib: pip install 'quantmill[sign]'") from None


def _from_file(path: Path) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner, SSlibKey

    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: this is no Ed25519 key without a password; `quantmill key new FILE` makes one")
    public = SSlibKey.from_crypto(key.public_key())
    return CryptoSigner(
        key, SSlibKey.from_crypto(key.public_key(), PublicKey("", bytes.fromhex(public.keyval["public"])).id)
    )


def _from_uri(uri: str, keys: Sequence[PublicKey]) -> Any:
    from securesystemslib.signer import Signer as Generic
    from securesystemslib.signer import SSlibKey

    for key in keys:
        try:
            return Generic.from_priv_key_uri(uri, SSlibKey(key.id, "ed25519", "ed25519", {"public": key.public.hex()}))
        except Exception:  # each kind of signer has errors of its own for a key that is not its
            continue
    raise UsageError(f"{uri}: no key of quantmill.toml is the public half of this signing key, or it cannot be used")
