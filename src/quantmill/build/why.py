"""Why a task is not up to date, by the note beside its pointer."""

from pathlib import Path

from quantmill.build.node_key import Outputs, facts_of
from quantmill.build.release_folder import Tree
from quantmill.disk import read_json
from quantmill.store.key import StepKey, difference
from quantmill.store.local import Store

FIRST = "not built here yet"


def why(
    note: Path, key: StepKey, outputs: Outputs | None, recorded: Outputs | None, store: Store, tree: Tree | None
) -> str:
    """Why a task is not up to date; empty when it is. `note` is the file beside its pointer, which names `outputs`;
    `recorded` is what the store has for the key; `tree` is the folder, of a task that lays one out."""
    old = read_json(note)
    if old is None:
        return FIRST
    try:
        moved = difference(old, key.fields())
    except (AttributeError, TypeError, RecursionError):
        moved = "its note cannot be read"
    if moved:
        return moved
    if outputs is None:
        return "its pointer is gone"
    if recorded is None:
        missing = sorted(n for n, a in outputs.items() if not (store.has(a) or store.is_let_go(a.sha256)))
        if not missing:
            return "its record is gone from the store"
        return f"{missing[0]} is gone from the store, or was changed"
    if outputs != recorded:  # a pointer and its note are two files: a power cut may keep the one and not the other
        return "its pointer is not what the store has"
    if tree is not None and not tree.laid_out(facts_of(outputs)):
        return "files of the release folder are gone or changed"
    if tree is not None and not tree.sealed():
        return "its signature is missing or wrong"
    return ""
