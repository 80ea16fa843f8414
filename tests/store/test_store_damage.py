"""What a build notices and heals: objects that somebody wrote to, release folders that somebody changed."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from disks import ReadOnly, SmallDisk
from projects import Project
from quantmill.disk import AGE, is_sealed
from quantmill.store.descent import records
from quantmill.store.key import StepKey
from quantmill.store.local import Miss, Store


def object_of(project: Project, task: str, output: str = "model.gguf") -> Path:
    pointer = json.loads((project.folder / "build" / "small" / f"{task}.json").read_text())
    digest = str(pointer[output]["sha256"])
    return project.folder / "cache" / "cas" / digest[:2] / digest


def scribble(path: Path) -> None:
    """Change some bytes in place, as its owner can after chmod, and root at once."""
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(-1000, os.SEEK_END)
        file.write(b"scribble")


def sealed(path: Path) -> bool:
    return is_sealed(path.stat())


def test_a_file_written_to_through_the_release_folder_heals(project: Project) -> None:
    project.run("doit")
    before = project.release()
    scribble(project.folder / "release" / "small" / "small-Q2_K.gguf")
    assert project.release() != before
    assert project.ran("doit") == ["quant:small/Q2_K"]
    assert project.release() == before


def test_a_base_that_was_written_to_spoils_no_file(project: Project) -> None:
    project.run("doit")
    scribble(object_of(project, "convert"))
    project.edit('"Q2_K"', '"Q6_K"')
    assert "convert:small" in project.ran("doit")
    spoilt = project.release()
    assert project.run("doit", QUANTMILL_CACHE="other").returncode == 0
    assert project.release() == spoilt


def test_a_touched_object_is_hashed_once_and_kept(project: Project) -> None:
    project.run("doit")
    path = object_of(project, "convert")
    assert sealed(path)
    os.utime(path)
    assert not sealed(path)
    assert project.run("doit").stdout == "nothing to do: everything is up to date\n"
    assert sealed(path)


def rot(path: Path) -> None:
    """Change some bytes as a disk does: its seal stays whole."""
    scribble(path)
    while not sealed(path):
        moment = path.stat().st_ctime_ns - AGE
        os.utime(path, ns=(moment, moment))


def test_a_rotten_object_that_a_step_reads_is_made_again(project: Project) -> None:
    """Bits that flip on the disk move no time, so only hashing finds them."""
    project.run("doit")
    rot(object_of(project, "quant/Q2_K"))
    project.edit('prefix = "small"', 'prefix = "renamed"')
    ran = project.run("doit").stdout
    assert "model.gguf was damaged in the store: it is made anew" in ran
    assert "quant:small/Q2_K: " in ran
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=project.folder / "release/small", check=True)


def spoilt(project: Project) -> dict[str, bytes]:
    """A release whose base rotted before its files were made of it, as a version that does not look could make it;
    returns what it ought to be."""
    project.run("doit")
    whole = project.release()
    store = Store(project.folder / "cache")
    for name, record in list(records(store.root)):
        if record["key"]["step"] != "quant":
            continue
        (store.root / "ac" / name).unlink()
        key = StepKey(**record["key"])
        with store.lookup(key) as found:
            assert isinstance(found, Miss)
            made = store.object_path(record["outputs"]["model.gguf"]["sha256"]).read_bytes()
            (found.slot.folder / "model.gguf").write_bytes(made[:-1] + bytes([made[-1] ^ 1]))
            tensors = store.object_path(record["outputs"]["tensors.json"]["sha256"]).read_bytes()
            (found.slot.folder / "tensors.json").write_bytes(tensors)
            found.slot.commit({})
    project.run("doit")
    assert project.release() != whole
    rot(object_of(project, "convert"))
    return whole


def test_what_was_made_of_a_rotten_object_goes_with_it(project: Project) -> None:
    """A later file reads the base, finds it damaged, and all that was ever made of it is made anew, in one run."""
    whole = spoilt(project)
    project.edit('"Q2_K"', '"Q2_K", "Q6_K"')
    ran = project.run("doit").stdout
    assert "model.gguf was damaged in the store: it is made anew" in ran
    after = project.release()
    assert {name: after[name] for name in whole if name.endswith(".gguf")} == {
        name: data for name, data in whole.items() if name.endswith(".gguf")
    }
    assert project.run("doit").stdout == "nothing to do: everything is up to date\n"


def test_what_cache_verify_finds_undoes_what_was_made_of_it(project: Project) -> None:
    whole = spoilt(project)
    told = project.run("quantmill", "cache", "verify", check=1).stdout
    assert "1 damaged" in told
    ran = project.ran("doit")
    assert {"convert:small", "quant:small/Q8_0", "verify:small/Q2_K"} <= set(ran)
    assert project.release() == whole


def test_a_step_whose_input_changes_while_it_reads_is_run_again(project: Project) -> None:
    """The base is written to, its time put back, once the first quantization has begun."""
    (project.folder / "sitecustomize.py").write_text(
        """
import os, quantmill.steps.quant as q
run = q.STEP.run
def changing(inputs, params, out, context):
    path = inputs["model.gguf"].path
    if not os.path.exists("changed"):
        open("changed", "w").close()
        times = os.stat(path)
        os.chmod(path, 0o644)
        with open(path, "r+b") as file:
            file.seek(-1000, 2)
            file.write(b"scribble")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return run(inputs, params, out, context)
object.__setattr__(q.STEP, "run", changing)
"""
    )
    ran = project.run("doit", PYTHONPATH=str(project.folder)).stdout
    assert (project.folder / "changed").exists()
    assert "model.gguf was damaged in the store: it is made anew" in ran
    found = project.release()
    project.run("doit", QUANTMILL_CACHE="other")
    assert project.release() == found


def test_a_copy_in_the_release_folder_is_hashed_once(project: Project) -> None:
    """As on file systems without hard links: the same bytes serve, others of the same size do not."""
    project.run("doit")
    before = project.release()
    path = project.folder / "release" / "small" / "small-Q2_K.gguf"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
    inode = path.stat().st_ino
    assert project.run("doit").stdout == "nothing to do: everything is up to date\n"
    assert path.stat().st_ino == inode
    path.write_bytes(data[:-8] + bytes(8))
    assert project.ran("doit") == []
    assert project.release() == before


def test_a_listing_that_was_edited_removes_nothing_outside(project: Project) -> None:
    project.run("doit")
    tree = project.folder / "release" / "small"
    mine = [project.folder / "release" / "mine", project.folder / "mine", tree / "mine"]
    for path in mine:
        path.write_text("mine")
    listed = [{"name": name} for name in ("../mine", str(project.folder / "mine"), "", ".", "a\0b", "\ud800", 5)]
    for text in (json.dumps({"files": listed}), '{"files": [5]}', "[]", "{", "[" * 100_000):
        (tree / "release.json").unlink()
        (tree / "release.json").write_text(text)
        project.run("quantmill", "cache", "gc")
        assert project.ran("doit") == []
    (tree / "release.json").unlink()
    (tree / "release.json").write_text(json.dumps({"files": listed}))
    project.run("doit", "clean", "-a")
    assert all(path.read_text() == "mine" for path in mine)


def test_what_a_killed_lay_out_leaves_is_removed(project: Project) -> None:
    project.run("doit")
    tree = project.folder / "release" / "small"
    (tree / ".small-Q2_K.gguf.0123456789ab.tmp").write_text("half")
    (tree / "SHA256SUMS").unlink()
    project.run("doit")
    assert not list(tree.glob(".*.tmp"))


@pytest.mark.parametrize("text", ["[]", '"x"', '{"inputs": []}', "{"])
def test_notes_and_pointers_that_were_damaged(project: Project, text: str) -> None:
    project.run("doit")
    for name in ("convert.json", "convert.key", "release.json", "release.key"):
        (project.folder / "build" / "small" / name).write_text(text)
        assert project.ran("doit") == []
    assert project.run("doit").stdout == "nothing to do: everything is up to date\n"


def test_a_pointer_older_than_its_note_is_not_believed(project: Project) -> None:
    """A power cut may keep the newer note and the older pointer."""
    project.run("doit")
    pointer = project.folder / "build" / "small" / "quant" / "Q2_K.json"
    old = pointer.read_bytes()
    project.recipe.write_text(project.recipe.read_text() + '\n[[quants.override]]\noutput = "Q4_0"\n')
    project.run("doit")
    after = project.release()
    pointer.write_bytes(old)
    assert project.ran("doit") == []
    assert project.release() == after


def test_a_read_only_store_serves_what_it_has(project: Project, read_only: ReadOnly) -> None:
    project.run("doit")
    config = project.folder / "recipes" / "tiny" / "config.json"
    os.utime(config)
    read_only(project.folder / "cache")
    project.run("quantmill", "plan", "small")
    assert project.run("doit").stdout == "nothing to do: everything is up to date\n"
    project.edit('"Q2_K"', '"Q6_K"')
    failed = project.run("doit", check=1)
    assert read_only.said in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_a_read_only_release_folder_is_named(project: Project, read_only: ReadOnly) -> None:
    project.run("doit")
    project.edit('"Q2_K"', '"Q6_K"')
    read_only(project.folder / "release")
    failed = project.run("doit", check=1)
    where = f"{project.folder}/release/small/small-Q2_K.gguf"
    assert failed.stderr.startswith(f"quantmill: release:small: {where}: {read_only.said}; ")
    assert failed.stderr.count("\n") == 1


def test_a_full_disk_under_build_is_one_sentence(project: Project, small_disk: SmallDisk) -> None:
    project.run("doit")
    (project.folder / "build").rename(project.folder / "old")
    (project.folder / "build").symlink_to(small_disk.path)
    small_disk.fill()
    for command in (("doit",), ("quantmill", "build", "small")):
        failed = project.run(*command, check=1)
        problem = "database or disk is full" if small_disk.mounted else "disk I/O error"
        assert f"{problem}; check the path, its rights and the room left" in failed.stderr
        assert failed.stderr.count("\n") == 1
    small_disk.free()
    project.run("doit")
    project.edit('"Q2_K"', '"Q6_K"')
    small_disk.fill()
    failed = project.run("doit", check=1)
    assert small_disk.said in failed.stderr
    assert failed.stderr.count("\n") == 1
