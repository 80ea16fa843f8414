"""The tags that a project's team admitted: in the file beside its `quantmill.toml`, and signed at its shared store."""

from functools import cache
from pathlib import Path

from quantmill.errors import UsageError
from quantmill.reference.admissions import Admission, of_folder, parse_rows
from quantmill.reference.reference import Reference
from quantmill.reference.spans import of_tag
from quantmill.store.remote import named_by


def reference_of(tag: str, folder: Path) -> Reference:
    """The reference of a tag in a project; its shared store is asked only where the tag is not known without.
    UsageError where it is not known then."""
    return of_tag(tag, of_folder(folder), lambda: _shared(folder, tag))


@cache
def _shared(folder: Path, tag: str) -> tuple[Admission, ...]:
    if not any(named_by(folder)):
        return ()
    from quantmill.store.local import store_folder
    from quantmill.store.remote.admitted import admitted
    from quantmill.store.remote.bucket import StoreError

    try:
        rows = admitted(folder, store_folder(folder))
    except StoreError as error:
        raise UsageError(f"llama.cpp {tag} is admitted by nobody here, and others cannot be asked: {error}") from None
    return tuple(admission for row in rows for admission in parse_rows([row]) or ())
