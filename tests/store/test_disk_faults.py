"""Disk errors at any call: each ends in one sentence with a path, and the next build makes the same bytes.

`benchmarks/faults.py` has the many; here are calls of each kind, and those that once ended in a traceback, or in a
release that was not whole.
"""

import shutil
from pathlib import Path

import pytest

from preload.disk_faults import BUILD, BUILT, COMMANDS, Bench, Fault
from quantmill.disk import files_below

GC = next(command for command in COMMANDS if "gc" in command)
FAULTS = [
    Fault(BUILD, "list", "EACCES", 1, True),  # recipes that cannot be listed are not none
    Fault(BUILD, "list", "EACCES", 200, True),  # nor are outputs
    Fault(BUILD, "stat", "ENFILE", 300, True),
    Fault(BUILD, "read", "EIO", 8, False),  # doit's database
    Fault(BUILD, "sync", "ENOSPC", 100, True),
    Fault(BUILD, "close", "EDQUOT", 600, True),  # also as the process ends
    Fault(BUILD, "utime", "EMFILE", 19, False),
    Fault(BUILD, "unlink", "EROFS", 20, True),
    Fault(("quantmill", "cache", "verify"), "lock", "ENOLCK", 1, True),
    Fault(("quantmill", "plan", "small"), "close", "EIO", 5, True),
    Fault(GC, "utime", "EDQUOT", 1, False),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    if not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("needs a C compiler")
    return Bench(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("fault", [*FAULTS, 1004, 1032, 1043, 1063], ids=str)
def test_a_disk_error_is_a_sentence_and_heals(fault: Fault | int, bench: Bench) -> None:
    found = bench.trial(bench.fault(fault) if isinstance(fault, int) else fault)
    assert not found.wrong, found.said


def test_an_error_of_the_disk_is_none_of_use(bench: Bench) -> None:
    """Where a file is to be written is looked at before any work; what the disk says there is no fault of the call."""
    split = next(command for command in COMMANDS if "split" in command)
    hits = [at for at, path in enumerate(bench.paths(split, "stat"), 1) if "/shards" in path]
    assert hits
    for at in hits[:3]:
        found = bench.trial(Fault(split, "stat", "EIO", at, False), heal=False)
        assert not found.wrong, found


PLACES = [("open", "/roots/"), ("open", "/small/release.json"), ("list", "/build/small")]


@pytest.mark.parametrize(("kind", "name"), PLACES)
def test_what_a_collection_cannot_read_is_not_taken_for_nothing(kind: str, name: str, bench: Bench) -> None:
    """It says so, and everything that somebody needs is still there."""
    bench.begin(BUILT)
    bench.project.run(*GC)
    needed = bench.kept()
    hits = [at for at, path in enumerate(bench.paths(GC, kind), 1) if name in path]
    assert hits
    for at in hits[:3]:
        found = bench.trial(Fault(GC, kind, "EIO", at, False), heal=False)
        assert found.said.count("\n") == 1
        assert not found.wrong, found
        assert needed <= bench.kept()


def test_a_folder_that_is_not_there_holds_no_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.json").write_text("")
    (tmp_path / "a" / "c.key").symlink_to("b.json")
    assert files_below(tmp_path / "none") == files_below(tmp_path / "a" / "b.json") == []
    assert files_below(tmp_path) == files_below(tmp_path, ".json") == [tmp_path / "a" / "b.json"]
