"""The store: what is in it is whole, what is computed is computed once, whatever happens in between."""

import errno
import fcntl
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from quantmill.artifact import Artifact
from quantmill.disk import below, link_or_copy, locked, sha256_file, write_atomic
from quantmill.store.hints import _times
from quantmill.store.key import StepKey
from quantmill.store.local import Hit, Miss, Store
from store_race import KEY, race


def compute(store: Store, key: StepKey = KEY, data: bytes = b"data") -> dict[str, Artifact]:
    with store.lookup(key) as found:
        match found:
            case Hit(outputs):
                return dict(outputs)
            case Miss(slot):
                (slot.folder / "sub").mkdir()
                (slot.folder / "sub" / "out.bin").write_bytes(data)
                return dict(slot.commit({}))


def break_off(store: Store, resume: bool) -> None:
    with store.lookup(KEY, resume=resume) as found:
        assert isinstance(found, Miss)
        (found.slot.folder / "half").write_bytes(b"half")
        raise RuntimeError("broken")


@pytest.mark.parametrize("name", ["a", "a/b.gguf", "...", "..a", "a..", ".hidden/a", "-rf", "ä b", "a\\..\\b", "a\nb"])
def test_a_name_below_a_folder(name: str) -> None:
    assert below(name)


@pytest.mark.parametrize("name", ["", ".", "..", "/", "/a", "//a", "../a", "a/..", "a/../b", "a/../../b", "./a", "a/."])
def test_a_name_that_may_lead_out_of_its_folder(name: str) -> None:
    assert not below(name)


@pytest.mark.parametrize(
    "name", ["a/", "a//b", "a\0", "a\0/../b", "\ud800", "a/\udcff", None, 5, b"a", ["a"], Path("a")]
)
def test_a_name_that_no_file_has_in_that_spelling(name: object) -> None:
    assert not below(name)


def test_a_miss_is_computed_and_then_hit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.record(KEY) is None
    outputs = compute(store)
    assert list(outputs) == ["sub/out.bin"]
    assert outputs["sub/out.bin"].path.read_bytes() == b"data"
    assert outputs["sub/out.bin"].sha256 == sha256_file(outputs["sub/out.bin"].path)
    assert store.record(KEY) == outputs
    with store.lookup(KEY) as found:
        assert isinstance(found, Hit)
    assert list((tmp_path / "work").iterdir()) == []


def test_objects_are_read_only_and_stored_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    one = compute(store)
    other = compute(store, StepKey("step", 1, 0, {"a": 2}, {}))
    assert one == other
    assert [path.name for path in (tmp_path / "cas").rglob("*") if path.is_file()] == [one["sub/out.bin"].sha256]
    assert one["sub/out.bin"].path.stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("damage", ["unlink", "truncate", "record"])
def test_what_is_damaged_is_a_miss_and_heals(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    path = compute(store)["sub/out.bin"].path
    if damage == "unlink":
        path.unlink()
    elif damage == "truncate":
        os.truncate(path, 2) if os.geteuid() == 0 else (path.chmod(0o600), os.truncate(path, 2))
    else:
        (tmp_path / "ac" / KEY.digest()).write_bytes(b'{"outputs": {"x"')
    assert store.record(KEY) is None
    assert compute(store)["sub/out.bin"].path.read_bytes() == b"data"
    assert store.record(KEY) is not None


def test_an_error_in_a_step_leaves_no_record_and_no_folder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError, match="broken"):
        break_off(store, resume=False)
    assert store.record(KEY) is None
    assert list((tmp_path / "work").iterdir()) == []


def test_resume_keeps_what_an_error_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError, match="broken"):
        break_off(store, resume=True)
    with store.lookup(KEY, resume=True) as found:
        assert isinstance(found, Miss)
        assert (found.slot.folder / "half").read_bytes() == b"half"
        found.slot.commit({})


def test_a_reference_is_an_output_without_a_copy(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (artifact,) = compute(store).values()
    with store.lookup(StepKey("other", 1, 0, {}, {"in": artifact.sha256})) as found:
        assert isinstance(found, Miss)
        assert found.slot.commit({"renamed": artifact}) == {"renamed": artifact}
    assert len([path for path in (tmp_path / "cas").rglob("*") if path.is_file()]) == 1


def test_what_was_taken_in_when_a_run_was_killed_can_be_written_anew(tmp_path: Path) -> None:
    with Store(tmp_path).lookup(KEY, resume=True) as found:
        assert isinstance(found, Miss)
        folder = found.slot.folder
    folder.mkdir()  # as one that is killed leaves it
    left = folder / "out"
    left.write_bytes(b"half")
    left.chmod(0o444)  # an object that is about to be moved
    with Store(tmp_path).lookup(KEY, resume=True) as found:
        assert isinstance(found, Miss)
        assert left.stat().st_mode & 0o200


def test_many_processes_compute_a_step_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=race, args=(tmp_path / "store", str(tmp_path / "ran"))) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0] * 4
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_many_threads_compute_a_step_once(tmp_path: Path) -> None:
    threads = [threading.Thread(target=race, args=(tmp_path / "store", str(tmp_path / "ran"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_digests_outside_are_remembered_until_the_file_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counting(path: Path, *rest: Callable[[int], None]) -> str:
        read.append(path)
        return sha256_file(path, *rest)

    monkeypatch.setattr("quantmill.store.hints.sha256_file", counting)
    store, file = Store(tmp_path / "store"), tmp_path / "file"
    file.write_bytes(b"one")
    first = store.hints.digest_of(file)
    assert store.hints.digest_of(file) == first
    assert len(read) == 1
    stat = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size and mtime: ctime tells
    assert store.hints.digest_of(file) != first
    assert len(read) == 2


def test_a_file_that_may_change_within_its_times_is_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that counts in seconds another change leaves the same times; so does one from the future."""
    store, file = Store(tmp_path / "store"), tmp_path / "file"
    second = time.time_ns() // 10**9 * 10**9
    for moment in (second, second + 3600 * 10**9):
        times = [1, 2, 3, moment, moment]
        coarse = os.stat_result((0o100644, 2, 1, 1, 0, 0, 3, moment / 1e9, moment / 1e9, moment / 1e9), {
            "st_mtime_ns": moment, "st_ctime_ns": moment, "st_atime_ns": moment
        })  # fmt: skip
        assert _times(coarse) == [*_times(coarse)[:3], *times[3:]]
        monkeypatch.setattr(Path, "stat", lambda path, coarse=coarse: coarse)
        file.write_bytes(b"one")
        first = store.hints.digest_of(file)
        file.write_bytes(b"two")
        assert store.hints.digest_of(file) != first


def test_who_waits_long_is_told_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is stopped holds what it computes."""
    monkeypatch.setattr("quantmill.disk.HELD", 0.2)
    store, told, has_it = Store(tmp_path), list[str](), threading.Event()

    def second() -> None:
        with store.lookup(KEY, waits=told.append) as found:
            assert isinstance(found, Hit)

    def first() -> None:
        with store.lookup(KEY) as found:
            assert isinstance(found, Miss)
            has_it.set()
            deadline = time.monotonic() + 60
            while not told and time.monotonic() < deadline:
                time.sleep(0.05)
            (found.slot.folder / "out").write_bytes(b"")
            found.slot.commit({})

    holder = threading.Thread(target=first)
    holder.start()
    assert has_it.wait(60)
    second()
    holder.join()
    assert told == [f"process {os.getpid()} of {os.uname().nodename}"]


def test_writing_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pointer"
    write_atomic(path, b"old")

    def fails(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["pointer"]


def test_place_puts_the_same_bytes_and_replaces(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"new")
    target = tmp_path / "a" / "target"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link_or_copy(source, target)
    link_or_copy(source, target)
    assert target.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_threads_that_write_one_name_never_meet(tmp_path: Path) -> None:
    source, errors = tmp_path / "source", []
    source.write_bytes(b"bytes")

    def work() -> None:
        try:
            for _ in range(200):
                write_atomic(tmp_path / "written", b"data", sync=False)
                link_or_copy(source, tmp_path / "placed")
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["placed", "source", "written"]


def test_an_error_names_the_file_and_not_the_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        write_atomic(tmp_path / "target", b"")
    assert (str(caught.value.filename), caught.value.filename2) == (str(tmp_path / "target"), None)


def test_a_store_that_is_full_or_read_only_forgets_digests(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "memo").write_text("in the way")
    (tmp_path / "file").write_bytes(b"x")
    store = Store(tmp_path / "store")
    assert store.hints.digest_of(tmp_path / "file") == sha256_file(tmp_path / "file")


def test_an_object_with_another_time_is_hashed_before_it_is_used(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = compute(store)["sub/out.bin"]
    os.utime(artifact.path)
    assert store.has(artifact)  # touched, but whole
    artifact.path.chmod(0o644)
    artifact.path.write_bytes(b"atad")
    assert not store.has(artifact)
    assert store.record(KEY) is None
    assert compute(store)["sub/out.bin"].path.read_bytes() == b"data"


def test_facts_are_those_that_a_pointer_says(tmp_path: Path) -> None:
    """Whatever else a record's text holds that looks like outputs."""
    store, trap = Store(tmp_path), '\n "outputs": {\n  "a": {}\n }'
    key = StepKey("quant", 1, 1, {"outputs": {"a": {"sha256": "0" * 64, "size": 1}}, "note": trap}, {})
    with store.lookup(key, task="quant:x") as found:
        assert isinstance(found, Miss)
        (found.slot.folder / "a").write_bytes(b"of a")
        made = found.slot.commit({})["a"]
    said = {"a": {"sha256": made.sha256, "size": 4}}
    pointer = (json.dumps(said, sort_keys=True, indent=1) + "\n").encode()
    assert store.facts(key) == store.facts(key, pointer) == said
    assert store.facts(key, json.dumps(said).encode()) == said  # written by another hand
    for other in (
        b"",
        b"{",
        b"{}",
        b"null",
        pointer.replace(b'"a"', b'"b"'),
        pointer.replace(b"4", b"5", 1),
        json.dumps(key.params["outputs"], indent=1).encode(),
        b'{\n  "a": {}\n }',
    ):
        assert store.facts(key, other) is None
    made.path.unlink()
    assert store.facts(key, pointer) is None


def test_a_lock_that_fails_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file server that knows none."""

    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(OSError, match="No locks available") as caught, locked(tmp_path / "lock"):
        pass
    assert caught.value.filename == str(tmp_path / "lock")
