"""What a person does to a shared store now and then: send everything, sign again."""

import time
from pathlib import Path

from quantmill.disk import names_in
from quantmill.errors import UsageError
from quantmill.store.remote.client import Report, SharedStore, connect


def push(root: Path, report: Report) -> int:
    """Send every result of the local store at `root` that was computed there; how many are there afterwards."""
    shared = _writer(root, report)
    return sum(shared.send_now(digest) for digest in names_in(root / "ac"))


def sign_all(root: Path, report: Report) -> int:
    """Put our signature beside the accepted ones on every record that is believed today; how many have it by now."""
    from quantmill.store.remote.trust import LIMIT, Refused, unseal

    shared = _writer(root, report)
    signer, bucket, keys = shared.signer, shared.bucket, shared.settings.keys
    assert signer is not None
    signed = 0
    for name, _ in bucket.list("ac"):
        digest = name.rpartition("/")[2]
        for _ in range(3):  # another machine may sign it at the same moment
            found = bucket.get_versioned(name, LIMIT)
            if found is None:
                break
            try:
                unseal(found[0], digest, keys, time.time())
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
