"""What auditors say of a release's files, beside them: SLSA verification summaries, as in-toto statements.

`NAME.vsa.json` is the statement of `NAME.json`, an audit's record, and `NAME.vsa.dsse.json` its signed envelope. Fields
have the meaning that https://slsa.dev/spec/v1.1/verification_summary gives them. The time is the one thing in it that
another run says otherwise; SOURCE_DATE_EPOCH sets it.
"""

import base64
import datetime
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from quantmill.disk import below, write_atomic
from quantmill.errors import QuantmillError, UsageError, listed
from quantmill.gguf.errors import shown
from quantmill.listing import strangers_json
from quantmill.store.remote.signature import PAYLOAD_TYPE, key_names

if TYPE_CHECKING:
    from quantmill.store.remote.settings import PublicKey, SigningKeys

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/verification_summary/v1"
VERIFIER, POLICY = "urn:quantmill:audit", "urn:quantmill:audit:v1"
ENDING, SEALED = ".vsa.json", ".vsa.dsse.json"
LIMIT = 1_000_000  # bytes of a statement or envelope that is read
MOST_READ, MOST_SUBJECTS = 8, 2000  # statements beside a release that are told of, files that one names
PASSING = ("same", "other tag", "within rounding")


class WrongStatement(QuantmillError):
    """What lies beside a release as an audit's statement is none, or not of its files."""


@dataclass(frozen=True)
class Audited:
    """A file that was audited: its name in the release, its sha256, and the verdict."""

    name: str
    sha256: str
    verdict: str


def summary(files: Sequence[Audited], resource: str, record: tuple[str, bytes], audit: Mapping[str, Any]) -> bytes:
    """The statement. `record` is the name of an audit's record and its bytes, `audit` what it says."""
    words = [file.verdict for file in files]
    is_passed = all(word in PASSING for word in words)
    weakest = max((PASSING.index(word) for word in words), default=0) if is_passed else 0
    level = f"QUANTMILL_{PASSING[weakest].upper().replace(' ', '_')}" if is_passed else "FAILED"
    held = {key: audit[key] for key in ("base", "imatrix", "tag", "sample")}
    policy = {"uri": POLICY, "annotations": held}
    name, data = record
    statement = {
        "_type": STATEMENT,
        "subject": [
            {"name": file.name, "digest": {"sha256": file.sha256}, "annotations": {"verdict": file.verdict}}
            for file in files
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "verifier": {"id": VERIFIER, "version": {"quantmill": audit["quantmill"]}},
            "timeVerified": _moment(),
            "resourceUri": resource,
            "policy": policy,
            "inputAttestations": [{"name": name, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}],
            "verificationResult": "PASSED" if is_passed else "FAILED",
            "verifiedLevels": [level],
            "slsaVersion": "1.1",
        },
    }
    return (json.dumps(statement, indent=1) + "\n").encode()


def resource_uri(repo: str | None, commit: str | None, name: str) -> str:
    """What is audited as a package URL: a repository of the Hub at a commit, or a name."""
    return f"pkg:huggingface/{quote(repo)}@{commit}" if repo and commit else f"pkg:generic/{quote(name, safe='')}"


def put(record: Path, statement: bytes, signing: "SigningKeys") -> Path:
    """Write the statement beside an audit's record, and its envelope where a key signs; returns the last of them. An
    envelope of another statement is not left there. Raises UsageError for a key that cannot be used."""
    plain, sealed = record.with_name(record.stem + ENDING), record.with_name(record.stem + SEALED)
    envelope = b""
    if signing.sign:
        from quantmill.store.remote.trust import Signer

        envelope = Signer(signing.sign, signing.keys).sign(statement, PAYLOAD_TYPE) + b"\n"
    sealed.unlink(missing_ok=True)
    write_atomic(plain, statement)
    if envelope:
        write_atomic(sealed, envelope)
    return sealed if envelope else plain


@dataclass(frozen=True)
class FoundAudit:
    """A statement that was found. `files` that it names; `signer`: who signed it, in words; `base` in words."""

    name: str
    files: tuple[Audited, ...]
    result: str
    levels: tuple[str, ...]
    verifier: str
    base: str
    signer: str

    def of(self, digests: Mapping[str, str]) -> str:
        """What it says of files with these digests, in one line. Raises WrongStatement where it names other files."""
        known = set(digests.values())
        names = {PurePosixPath(name).name: name for name in digests}
        same = [file for file in self.files if file.sha256 in known]
        odd = [file.name for file in self.files if file.sha256 not in known and PurePosixPath(file.name).name in names]
        if odd or not same:
            what = f"another {shown(odd[0])} than the one here" if odd else "none of the files here"
            raise WrongStatement(f"{self.name}: its digests are of {what}; it says nothing of these files, fetch anew")
        words = sorted({file.verdict for file in same})
        levels = f" ({listed(self.levels)})" if self.levels else ""
        return (
            f"{self.name}: {self.verifier} says {self.result}{levels} of {len(same)} of {len(digests)} files "
            f"[{', '.join(words)}], against {self.base}; {self.signer}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        files = [vars(file) for file in self.files]
        return {**vars(self), "files": files, "levels": list(self.levels)}


def read_beside(
    names: Iterable[str], fetch: Callable[[str], bytes], keys: "Sequence[PublicKey]"
) -> "list[FoundAudit | WrongStatement]":
    """The statements among a release's files, or what is wrong with each. `fetch` gives a file's first bytes."""
    stems: dict[str, list[str]] = {}
    for name in sorted(names):
        for ending in (SEALED, ENDING):
            if name.endswith(ending):
                stems.setdefault(name.removesuffix(ending), []).append(name)
                break
    found: list[FoundAudit | WrongStatement] = []
    for number, files in enumerate(stems.values()):
        if number == MOST_READ:
            found.append(WrongStatement(f"{len(stems) - number} more statements are not read; {MOST_READ} are"))
            break
        try:
            plain = next((fetch(name) for name in files if not name.endswith(SEALED)), None)
            sealed = next((fetch(name) for name in files if name.endswith(SEALED)), None)
            found.append(_parsed(files[0], plain, sealed, keys))
        except WrongStatement as wrong:
            found.append(wrong)
    return found


def _parsed(name: str, plain: bytes | None, sealed: bytes | None, keys: "Sequence[PublicKey]") -> FoundAudit:
    signer, data = "it is not signed", plain or b""
    if sealed is not None:
        signer, data = _signed(name, sealed, keys)
        if plain is not None and plain != data:
            raise WrongStatement(f"{name}: it signs another statement than the one beside it; fetch both anew")
    try:
        if len(data) > LIMIT:
            raise ValueError("length")
        said = strangers_json(data)
        if said["_type"] != STATEMENT or said["predicateType"] != PREDICATE:
            raise ValueError("type")
        subjects, predicate = said["subject"], said["predicate"]
        if not 0 < len(subjects) <= MOST_SUBJECTS:
            raise ValueError("subjects")
        files = tuple(_subject(subject) for subject in subjects)
        result = predicate["verificationResult"]
        if result not in ("PASSED", "FAILED"):
            raise ValueError(result)
        levels = tuple(_text(level, 60) for level in list(predicate["verifiedLevels"])[:8])
        policy = predicate.get("policy", {})
        base = policy.get("annotations", {}).get("base") or [] if isinstance(policy, dict) else []
        held = [_text(part.get("repo") or part.get("name"), 100) for part in list(base)[:MOST_SUBJECTS]]
        against = listed(list(dict.fromkeys(held))) or "a base it does not name"
        return FoundAudit(name, files, result, levels, _text(predicate["verifier"]["id"], 100), against, signer)
    except (ValueError, KeyError, TypeError, AttributeError):
        what = "this is no statement of an audit (SLSA verification summary)"
        raise WrongStatement(f"{name}: {what}; ask its author for it") from None


def _signed(name: str, sealed: bytes, keys: "Sequence[PublicKey]") -> tuple[str, bytes]:
    """Who signed, and the payload."""
    from quantmill.store.remote.trust import Refused, opened

    by = key_names(sealed)
    try:
        envelope = strangers_json(sealed)
        payload = base64.b64decode(envelope["payload"], validate=True)
        if len(sealed) > LIMIT or not by or envelope["payloadType"] != PAYLOAD_TYPE:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise WrongStatement(f"{name}: this is no DSSE envelope with a signature; fetch it anew") from None
    known = {key.id for key in keys}
    if not known & set(by):
        stranger = re.sub("[^0-9a-f]", "?", by[0][:16])
        return f"it names the key {stranger}… as its signer's, which is none that is known here", payload
    try:
        payload, key = opened(sealed, PAYLOAD_TYPE, keys, time.time(), "it is")
    except Refused as refused:
        raise WrongStatement(f"{name}: {refused.why}; ask its signer for another") from None
    return f"it is signed by the key {key.name!r} ({key.id[:16]}…)", payload


def _subject(subject: Any) -> Audited:
    name, digest = subject["name"], subject["digest"]["sha256"]
    if not below(name) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError(name)
    notes = subject.get("annotations")
    verdict = notes.get("verdict") if isinstance(notes, dict) else None
    return Audited(name, digest, verdict if verdict in (*PASSING, "changed", "cannot tell") else "no verdict")


def _text(value: Any, most: int) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value[:most]


def _moment() -> str:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None and not re.fullmatch(r"\d{1,11}", epoch):
        raise UsageError(f"SOURCE_DATE_EPOCH is {epoch!r}; it is a number of seconds since 1970")
    seconds = int(epoch) if epoch else int(time.time())
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
