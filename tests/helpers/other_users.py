"""Other users of this machine, who run programs of this Python: for root alone, who may become anyone."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import quantmill

# Within mounts of its own, which go with it, what may lie in a folder of root's is seen where everybody reaches it.
AS = """
for name in python packages quantmill; do mount --bind "$1" "$name" || exit 125; shift; done
cd "$1" && umask "$2" && user=$3 && shift 3
exec setpriv --reuid="$user" --regid="$user" --clear-groups -- "$@"
"""


class Users:
    """`folder` is one that everybody reaches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("python", "packages", "quantmill", "own/bin"):
            (folder / name).mkdir(parents=True)
        library = folder / "own" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        library.mkdir(parents=True)
        (library / "site-packages").symlink_to(folder / "packages")
        (folder / "own" / "pyvenv.cfg").write_text(f"home = {folder}/python/bin\n")
        real = Path(sys.executable).resolve().relative_to(Path(sys.base_prefix).resolve())
        (folder / "own" / "bin" / "python").symlink_to(folder / "python" / real)

    def able(self) -> bool:
        """Whether this process may become another user."""
        programs = all(map(shutil.which, ("setpriv", "unshare", "mount")))
        return programs and not os.geteuid() and not self.run(5001, 0o022, self.folder, "doit", "--version").returncode

    def run(self, user: int, umask: int, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
        """A module with its arguments, as that user, in the folder."""
        places = (sys.base_prefix, sysconfig.get_path("purelib"), str(Path(quantmill.__file__).parents[1]))
        given = (*places, str(folder), f"{umask:03o}", str(user), f"{self.folder}/own/bin/python", "-m", *command)
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", AS, "sh", *given],
            cwd=self.folder,
            env={**os.environ, "HOME": str(folder), "PYTHONPATH": f"{self.folder}/quantmill"},
            capture_output=True,
            text=True,
        )
