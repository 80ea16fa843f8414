"""The workspace below a folder, with the stores that its environment and settings name."""

from pathlib import Path

from quantmill.build.workspace import Report, Workspace, silent
from quantmill.host import usable_threads
from quantmill.store.local import Store, store_folder
from quantmill.store.remote import named_by
from quantmill.store.remote.signature import Seal


def open_workspace(
    root: Path, threads: int | None = None, cache: Path | None = None, report: Report = silent
) -> Workspace:
    """The workspace below `root`, with its store at `cache`; QUANTMILL_CACHE names another folder for the store.
    `quantmill.toml`, upward from `root`, names the shared store and the key that signs releases. A store that is not
    there is not made by being asked for digests."""
    folder = store_folder(root, cache)
    remote, seal = None, Seal()
    if any(named_by(root)):
        from quantmill.store.remote.client import connect
        from quantmill.store.remote.settings import signing

        remote, known = connect(root, folder, report), signing(root)
        seal = Seal(known.sign, known.keys)
    store = Store(folder, remote)
    store.hints.remembers = folder.is_dir()
    return Workspace(store, root / "build", root / "release", threads or usable_threads(), report, seal=seal)
