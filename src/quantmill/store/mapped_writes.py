"""Whether a file system moves a file's times when it is written through a mapping: tmpfs does not, so that there no
time tells who touched a file."""

import json
import os
from contextlib import suppress
from pathlib import Path

from quantmill.disk import read_table, write_own


class MappedWrites:
    """What a probe of each file system has told, remembered below the store at `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[int, bool] = {}

    def move_times(self, folder: Path, device: int) -> bool:
        """Of the files of that device in a folder: asked of the device once. True where it cannot be asked."""
        if device not in self._known:
            self._known[device] = self._ask(folder, device)
        return self._known[device]

    def _ask(self, folder: Path, device: int) -> bool:
        path = self.root / "mapped"
        told = read_table(path)
        try:
            here = os.stat(self.root)
            own = f"{here.st_dev} {here.st_ino}"  # devices may be numbered anew, and the store be copied
            devices = told["devices"] if told.get("root") == own and isinstance(told.get("devices"), dict) else {}
            if isinstance(known := devices.get(str(device)), bool):
                return known
            found = moves_times(folder)
        except OSError:
            return True
        with suppress(OSError):
            write_own(path, json.dumps({"root": own, "devices": {**devices, str(device): found}}).encode(), sync=False)
        return found


def moves_times(folder: Path) -> bool:
    """Write to a nameless file in the folder through a mapping, and see whether its time has moved."""
    import mmap  # a no-op remembers what was found
    import tempfile

    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(mmap.PAGESIZE))
        file.flush()
        os.utime(file.fileno(), ns=(0, 0))
        with mmap.mmap(file.fileno(), 0) as mapped:
            mapped[0] ^= 1  # read before: where a page is mapped by a read, the write that follows may go unnoticed
            mapped.flush()
        return os.fstat(file.fileno()).st_mtime_ns != 0
