"""Two users of one machine, and one store below a folder that both may write to. For root, who may become anyone."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import quantmill
from projects import Project, new_project

FIRST, SECOND = 5001, 5002
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


@pytest.fixture(scope="module")
def users() -> Iterator[Users]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        found = Users(Path(name))
        if not found.able():
            pytest.skip("only root may become another user")
        yield found


class Pair:
    """The projects of both, and their store."""

    def __init__(self, users: Users, umask: int) -> None:
        self._users, self._umask = users, umask
        folder = Path(tempfile.mkdtemp(dir=users.folder))
        folder.chmod(0o755)
        self.store = folder / "cache"
        self.store.mkdir(parents=True)
        self.store.chmod(0o1777)
        self.projects: dict[int, Project] = {}
        for user in (FIRST, SECOND):
            self.projects[user] = new_project(folder / str(user))
            for path in (folder / str(user), *(folder / str(user)).rglob("*")):
                os.chown(path, user, user)

    def run(self, user: int, *command: str, check: int = 0, **environment: str) -> tuple[str, str]:
        """What was said and what was told; the code must be `check`."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ({"QUANTMILL_CACHE": str(self.store)} | environment).items():
                patch.setenv(name, value)
            done = self._users.run(user, self._umask, self.projects[user].folder, *command)
        assert done.returncode == check, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout, done.stderr

    def refused(self, user: int, *command: str) -> str:
        """The one sentence that a command ends in, which names what is the other's."""
        told = self.run(user, *command, check=1)[1]
        assert told.count("\n") == 1, told
        assert told.startswith("quantmill: ")
        assert "Permission denied" in told
        assert str(self.store) in told
        return told


def test_what_one_user_made_another_takes(users: Users) -> None:
    """A umask of 022: all is read, and only what is new cannot be kept in the other's folders."""
    pair = Pair(users, 0o022)
    assert "0 from the store" in pair.run(FIRST, "doit")[0]
    said, told = pair.run(SECOND, "doit")
    assert (said.splitlines()[-1].partition(" in ")[0], told) == ("0 run, 17 from the store, 0 failed", "")
    assert pair.projects[SECOND].release() == pair.projects[FIRST].release()
    for user in (FIRST, SECOND):
        assert pair.run(user, "doit") == ("nothing to do: everything is up to date\n", "")
        assert " 0 damaged" in pair.run(user, "quantmill.cli", "cache", "verify")[0]
    pair.refused(SECOND, "quantmill.cli", "cache", "gc")
    whole = pair.projects[FIRST].release()
    pair.projects[SECOND].edit('"Q2_K"', '"Q6_K"')
    pair.refused(SECOND, "doit")
    pair.run(SECOND, "doit", QUANTMILL_CACHE="own")
    pair.run(FIRST, "quantmill.cli", "cache", "gc", "--keep", "pointers")
    assert pair.run(FIRST, "doit")[0] == "nothing to do: everything is up to date\n"
    assert pair.projects[FIRST].release() == whole


def test_what_another_user_may_not_read_is_a_sentence(users: Users) -> None:
    pair = Pair(users, 0o077)
    pair.run(FIRST, "doit")
    for command in (("doit",), ("quantmill.cli", "build", "small"), ("quantmill.cli", "cache", "verify")):
        pair.refused(SECOND, *command)
    pair.run(SECOND, "doit", QUANTMILL_CACHE="own")
    assert pair.projects[SECOND].release() == pair.projects[FIRST].release()
    assert pair.run(FIRST, "doit")[0] == "nothing to do: everything is up to date\n"


def test_what_is_damaged_and_the_others_is_not_taken(users: Users) -> None:
    pair = Pair(users, 0o022)
    pair.run(FIRST, "doit")
    path = max((pair.store / "cas").glob("*/*"), key=lambda path: path.stat().st_size)
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"scribble")
    pair.refused(SECOND, "doit")
    pair.run(FIRST, "doit")
    pair.run(SECOND, "doit")
    assert pair.projects[SECOND].release() == pair.projects[FIRST].release()
