"""`quantmill cache`: what goes and what stays, beside builds that run and after builds that were killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from projects import RECIPE, Project
from quantmill.store.care.check import verify_store
from quantmill.store.care.collector import DAY, Keep, _choose, collect
from quantmill.store.care.inventory import Marks, Record
from quantmill.store.key import StepKey
from quantmill.store.local import Hit, Miss, Store

NOTHING = Keep(pointers=False, releases=False, age=0)


def make(store: Store, name: str, data: bytes, used_days_ago: float = 0) -> str:
    """A record of one object; the object's digest."""
    key = StepKey(name, 1, 0, {}, {})
    with store.lookup(key, task=f"{name}:r") as found:
        assert isinstance(found, Miss)
        (found.slot.folder / "out").write_bytes(data)
        outputs = found.slot.commit({})
    path = store.root / "ac" / key.digest()
    moment = path.stat().st_mtime_ns - int(used_days_ago * DAY)
    os.utime(path, ns=(moment, moment))
    return outputs["out"].sha256


def ended(root: Path, *made: tuple[str, bytes, float]) -> Store:
    """A store that a process has filled which is no longer."""
    store = Store(root)
    for name, data, days in made:
        make(store, name, data, days)
    del store
    return Store(root)


def left(root: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in (root / "cas").rglob("*") if path.is_file())


def test_what_is_old_goes_with_its_objects(tmp_path: Path) -> None:
    store = ended(tmp_path, ("a", b"old", 40), ("b", b"new", 2), ("c", b"old", 1))
    gone = collect(store, Keep(age=30 * DAY))
    assert (gone.records, gone.objects) == (1, 0)  # another record needs the object
    store = ended(tmp_path, ("d", b"older", 31))
    assert collect(store, Keep(age=30 * DAY), dry=True).objects == 1
    assert left(tmp_path) == [b"new", b"old", b"older"]
    gone = collect(store, Keep(age=30 * DAY))
    assert (gone.records, gone.objects, gone.bytes) == (1, 1, 5)
    assert left(tmp_path) == [b"new", b"old"]


def test_what_was_used_longest_ago_goes_first_until_the_rest_fits(tmp_path: Path) -> None:
    store = ended(tmp_path, *((str(n), bytes([n]) * 100, n) for n in range(1, 6)))
    assert collect(store, Keep(age=None), limit=320).objects == 2
    assert left(tmp_path) == [bytes([n]) * 100 for n in (1, 2, 3)]
    assert collect(store, Keep(age=None), limit=320).records == 0


def test_choosing_among_many_records_is_quick() -> None:
    """Each with an object of its own, so that no two are equal by chance."""
    found = [Record(f"{n:05}", n, "step", "", {str(n): 1}, False) for n in range(20_000)]
    began = time.process_time()
    doomed = _choose(found, Marks(records={record.name for record in found[5_000:15_000]}), 18_000, 4_000, 13_000)
    assert time.process_time() - began < 5  # a search of lists takes half a minute
    assert [record.used for record in doomed] == [*range(5_000), *range(15_000, 17_000)]


def test_what_a_build_makes_stays_when_the_clock_was_set_back_as_it_ran(tmp_path: Path) -> None:
    """A clock that is set back an hour, seen from the other side: the build began an hour from now."""
    running = Store(tmp_path)
    running._live()
    (path,) = (tmp_path / "live").iterdir()
    began = path.stat().st_mtime_ns + 3600 * 10**9
    os.utime(path, ns=(began, began))
    running._since = began, path
    make(running, "a", b"made after")
    (tmp_path / "file").write_bytes(b"not recorded yet")
    running.adopt(tmp_path / "file")
    time.sleep(0.05)
    store = Store(tmp_path)
    # the clock has caught up with the time at which the build said that it began
    now = began + 3600 * 10**9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quantmill.store.care.collector._now", lambda store: now)
        assert collect(store, NOTHING).records == 0
    assert left(tmp_path) == [b"made after", b"not recorded yet"]


def test_what_a_running_build_took_or_made_stays(tmp_path: Path) -> None:
    store = ended(tmp_path, ("a", b"taken", 9), ("b", b"not taken", 9))
    running = Store(tmp_path)
    with running.lookup(StepKey("a", 1, 0, {}, {})) as found:
        assert isinstance(found, Hit)
    with running.lookup(StepKey("c", 1, 0, {}, {})) as found:
        assert isinstance(found, Miss)
        (found.slot.folder / "out").write_bytes(b"not recorded yet")
        running.adopt(found.slot.folder / "out")
        (found.slot.folder / "in work").write_bytes(b"")
        assert collect(store, NOTHING).records == 1
        assert left(tmp_path) == [b"not recorded yet", b"taken"]
        assert (found.slot.folder / "in work").exists()
    del running, found
    assert collect(store, NOTHING).objects == 2
    assert left(tmp_path) == []


def test_an_object_that_a_new_record_names_stays(tmp_path: Path) -> None:
    """It is old and nobody's, until a build that runs makes the same bytes."""
    store = ended(tmp_path, ("a", b"same", 9))
    collect(store, NOTHING, dry=True)
    (tmp_path / "ac" / StepKey("a", 1, 0, {}, {}).digest()).unlink()
    running = Store(tmp_path)
    with running.lookup(StepKey("b", 1, 0, {}, {})) as found:
        assert isinstance(found, Miss)
        (found.slot.folder / "out").write_bytes(b"same")
        running.adopt(found.slot.folder / "out")
        collect(store, NOTHING)
        assert left(tmp_path) == [b"same"]


def test_pointers_and_releases_hold_what_they_name(project: Project) -> None:
    project.run("doit")
    before = project.release()
    gone = json.loads(
        project.run("quantmill", "cache", "gc", "--keep", "pointers", "--keep", "releases", "--json").stdout
    )
    assert (gone["records"], gone["objects"]) == (0, 0)
    project.edit('"Q2_K"', '"Q6_K"')
    project.run("doit")
    gone = json.loads(project.run("quantmill", "cache", "gc", "--keep", "pointers", "--json").stdout)
    assert gone["records"] >= 2  # card and release of what was released before
    assert gone["objects"] >= 2
    assert project.run("doit").stdout == "nothing to do: everything is up to date\n"
    assert project.run("quantmill", "cache", "gc", "--keep", "releases").returncode == 0
    project.run("doit")
    project.edit('"Q6_K"', '"Q2_K"')
    project.run("doit")
    assert project.release() == before


def test_a_record_of_another_key_with_a_pointers_bytes_stays(project: Project) -> None:
    """A build that finds it takes the pointer for its own, and writes no note."""
    project.run("doit")
    project.edit('"Q2_K"', '"Q6_K"')
    project.run("doit")
    project.edit('"Q6_K"', '"Q2_K"')
    project.run("doit")
    project.run("quantmill", "cache", "gc", "--keep", "pointers")
    assert project.run("doit").stdout == "nothing to do: everything is up to date\n"


def test_what_a_killed_build_leaves_is_found(project: Project) -> None:
    code = "import os; from quantmill import cli; from quantmill.store import local\ncommit = local._Slot.commit\n"
    code += "def killed(self, *given):\n"
    code += "    if self._key.step == 'index': os.kill(os.getpid(), 9)\n    return commit(self, *given)\n"
    code += "local._Slot.commit = killed; cli.main(['build', 'small'])"
    project.run("python", "-c", code, check=-signal.SIGKILL)
    cache = project.folder / "cache"
    (cache / "cas" / "00").mkdir(exist_ok=True)
    (cache / "cas" / "00" / ".torn.012345.tmp").write_bytes(b"torn")
    (cache / ".damaged.0123456789ab.tmp").write_bytes(b"torn")
    (project.folder / "build" / "small" / ".index.key.0123456789ab.tmp").write_bytes(b"torn")
    (project.folder / "release" / "small").mkdir(parents=True)
    os.link(next((cache / "cas").glob("*/*")), project.folder / "release" / "small" / ".file.gguf.0123456789ab.tmp")
    (project.folder / "release" / "small" / ".mine.tmp").write_bytes(b"a user's")
    (cache / "part").mkdir()
    (cache / "part" / ("0" * 64)).write_bytes(b"old part")
    os.utime(cache / "part" / ("0" * 64), (0, 0))
    assert len(list((cache / "work").iterdir())) == 1
    assert len(list((cache / "live").iterdir())) == 1
    time.sleep(0.02)
    found = json.loads(project.run("quantmill", "cache", "gc", "--json").stdout)
    assert found["leftovers"] >= 6
    for folder in ("work", "live", "part"):
        assert list((cache / folder).iterdir()) == []
    assert [path.name for path in project.folder.rglob("*.tmp")] == [".mine.tmp"]
    project.run("doit")
    assert (project.folder / "release" / "small" / ".mine.tmp").exists()


def test_collecting_beside_a_build_loses_nothing(make_project: Callable[..., Project]) -> None:
    """The collector keeps nothing of its own will: only what pointers name and what the running build touches."""
    project = make_project()
    collector = (
        "import sys; from pathlib import Path; from quantmill.store.care.collector import Keep, collect\n"
        "from quantmill.store.local import Store; store = Store(Path('cache'))\n"
        "while True: collect(store, Keep(pointers=True, releases=False, age=0)); print(flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", collector], cwd=project.folder, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        try:
            for matrix in ('"Q2_K"', '"Q8_0", "Q2_K"', '"Q2_K"', '"BF16", "Q8_0"'):
                project.recipe.write_text(RECIPE.replace('"BF16", "Q8_0", "Q4_K_M", "Q2_K"', matrix))
                project.run("doit", "-n", "2")
                running.stdout.readline()
                assert project.run("doit").stdout == "nothing to do: everything is up to date\n"
            assert running.poll() is None
        finally:
            running.kill()
    assert verify_store(Store(project.folder / "cache")).damaged == ()


def test_verify_puts_away_what_is_wrong_and_a_build_heals(project: Project) -> None:
    project.run("doit")
    before = project.release()
    pointer = json.loads((project.folder / "build" / "small" / "quant" / "Q2_K.json").read_text())
    digest = pointer["model.gguf"]["sha256"]
    path = project.folder / "cache" / "cas" / digest[:2] / digest
    times = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # bits that flip on the disk break no seal
    record = next((project.folder / "cache" / "ac").iterdir())
    record.write_bytes(b"{")
    found = project.run("quantmill", "cache", "verify", check=1).stdout.splitlines()
    assert found[0].startswith(f"{digest[:2]}/{digest}: damaged, moved to ")
    assert found[1].startswith(f"ac/{record.name}: damaged, moved to ")
    assert (project.folder / "cache" / "quarantine" / digest).read_bytes() == bytes(data)
    project.run("doit")
    assert project.release() == before
    assert json.loads(project.run("quantmill", "cache", "verify", "--json").stdout)["damaged"] == []


def test_stat_counts_what_is_here_and_how_it_served(project: Project) -> None:
    project.run("doit")
    (project.folder / "build" / "small" / "quant" / "Q2_K.json").unlink()
    project.run("doit")
    found = json.loads(project.run("quantmill", "cache", "stat", "--json").stdout)
    files = [path for path in (project.folder / "cache" / "cas").rglob("*") if path.is_file()]
    assert (found["objects"], found["bytes"]) == (len(files), sum(path.stat().st_size for path in files))
    assert found["recipes"]["small"]["bytes"] == found["bytes"]
    assert found["last_used"]["within a day"]["results"] == found["recipes"]["small"]["results"]
    assert found["steps"]["quant"]["results"] == 3
    assert found["served"]["quant"] == {"run": 3, "hit": 1, "hit_rate": 0.25}
    lines = project.run("quantmill", "cache", "stat").stdout.splitlines()
    assert any(line.split() == ["quant", "3", "1", "0", "25%"] for line in lines)


def test_wrong_options_are_a_sentence(project: Project) -> None:
    said = project.run("quantmill", "cache", "gc", "--keep", "everything", check=2).stderr
    assert said == "quantmill: --keep everything: write pointers, releases, or an age such as 30d or 12h\n"
    said = project.run("quantmill", "cache", "gc", "--max-size", "big", check=2).stderr.splitlines()[-1]
    problem = "'big' is not a size; write it like 50GB or 300MB"
    assert said == f"quantmill cache gc: error: argument --max-size: {problem}"
