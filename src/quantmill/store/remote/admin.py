"""What a person does to a shared store now and then: send everything, sign again, take records back."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from quantmill.disk import is_digest, names_in
from quantmill.errors import UsageError
from quantmill.store.descent import records
from quantmill.store.remote import admitted
from quantmill.store.remote.client import Report, SharedStore, connect
from quantmill.store.remote.outbox import task_hint
from quantmill.store.remote.revocation import Revocation, digest_of

SHORTEST = 8  # hex digits that name a record or an output


class Sent(NamedTuple):
    """How many results are at the shared store, and sentences of those that are others there."""

    there: int
    conflicts: tuple[str, ...]


class Meant(NamedTuple):
    """A record that somebody means: its key's digest, its outputs and its task."""

    digest: str
    outputs: Mapping[str, tuple[str, int]]
    task: str


def push(root: Path, report: Report, replace: bool = False) -> Sent:
    """Send every result of the local store at `root` that was computed there. `replace`: what the shared store has with
    other outputs is revoked, and replaced."""
    shared = _writer(root, report)
    there = sum(shared.send_now(digest, replace) for digest in names_in(root / "ac"))
    if shared.signer:
        shared.registry.renew(shared.signer)
    return Sent(there, tuple(shared.conflicts.values()))


def revoke(root: Path, words: Sequence[str], why: str, report: Report) -> list[Meant]:
    """Take back the records that the words mean, for everyone; what was taken or made of them is forgotten here. A word
    is a step key's digest, an output's, or the first digits of one; or a task's name. UsageError for one that means
    nothing."""
    shared = _writer(root, report)
    assert shared.signer is not None
    found = [meant for word in words for meant in _meant(shared, root, word)]
    now = int(time.time())
    entries = [Revocation(one.digest, digest_of(one.outputs), one.task, why, now) for one in found]
    shared.registry.revoke(shared.signer, entries)
    shared.flush()  # what was made of them is taken back there too
    return found


def _meant(shared: SharedStore, root: Path, word: str) -> list[Meant]:
    """What the shared store has of that name, and what is here where it has nothing of the key."""
    task, digits = word if ":" in word else "", word.rstrip("…")
    if not task and (len(digits) < SHORTEST or digits.strip("0123456789abcdef")):
        raise UsageError(
            f"{word}: give a record's or an output's digest, its first {SHORTEST} digits, or a task's name"
        )

    def named(one: Meant) -> bool:
        shas = (sha256 for sha256, _ in one.outputs.values())
        return one.task == task if task else any(name.startswith(digits) for name in (one.digest, *shas))

    found = [one for one in _there(shared, word) if named(one)]
    known = {one.digest for one in found}  # of these the shared store's outputs are meant
    for name, record in records(root) if not task else ():
        outputs = {output: (fact["sha256"], fact["size"]) for output, fact in record["outputs"].items()}
        if name not in known and named(one := Meant(name, outputs, record.get("task", ""))):
            found.append(one)
    if not found:
        raise UsageError(
            f"{word}: no such record is believed at {shared.address}" + ("" if task else ", and none is here")
        )
    return found


def _there(shared: SharedStore, word: str) -> Iterator[Meant]:
    """The believed records of the shared store that a word may mean."""
    from quantmill.store.remote.trust import LIMIT, Refused

    bucket = shared.bucket
    digest = (bucket.get(task_hint(word), 64) or b"").decode("ascii", "replace") if ":" in word else word
    exact = is_digest(digest) and bucket.size(f"ac/{digest}") is not None
    for name in [f"ac/{digest}"] if exact else [] if ":" in word else [name for name, _ in bucket.list("ac")]:
        data = bucket.get(name, LIMIT)
        try:
            payload, record = shared.registry.believe(data or b"", name.rpartition("/")[2])
        except Refused:
            continue
        yield Meant(name.rpartition("/")[2], record.outputs, str(payload.get("task", "")))


def sign_all(root: Path, report: Report) -> int:
    """Put our signature beside the accepted ones on every record that is believed today, and sign what is revoked anew;
    how many records have it by now."""
    from quantmill.store.remote.trust import LIMIT, Refused

    shared = _writer(root, report)
    signer, bucket = shared.signer, shared.bucket
    assert signer is not None
    shared.registry.sign_list(signer, all_keys=True)
    admitted.sign(bucket, shared.settings, signer, all_keys=True)
    signed = 0
    for name, _ in bucket.list("ac"):
        digest = name.rpartition("/")[2]
        for _ in range(3):  # another machine may sign it at the same moment
            found = bucket.get_versioned(name, LIMIT)
            if found is None:
                break
            try:
                shared.registry.believe(found[0], digest)
            except Refused:
                break
            if signer.signed(found[0]) or bucket.replace(name, signer.also(found[0]), found[1]):
                signed += 1
                break
    return signed


def _writer(root: Path, report: Report) -> SharedStore:
    shared = connect(Path.cwd(), root, report)
    if shared is None:
        raise UsageError("no shared store is named: write its url into quantmill.toml, or set QUANTMILL_STORE")
    if shared.settings.sign is None:
        raise UsageError("this needs a signing key: name it in quantmill.toml (store.sign), or set QUANTMILL_SIGN")
    return shared
