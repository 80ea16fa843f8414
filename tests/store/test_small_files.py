"""Whatever a small file of the store or of a build holds, the release is right after at most two builds."""

import itertools
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from projects import Project, new_project
from quantmill.store.proof import prove

DEEP = b"[" * 200_000
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = new_project(tmp_path_factory.mktemp("built"))
    project.run("doit")
    return project


def write(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def records(folder: Path, step: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((folder / "cache" / "ac").iterdir()):
        data = json.loads(path.read_bytes())
        if data["key"]["step"] == step:
            yield path, data


def text_of(step: str, old: bytes, new: bytes) -> Damage:
    """One flipped bit of a record."""

    def damage(folder: Path) -> None:
        for path, _ in records(folder, step):
            data = path.read_bytes()
            assert old in data
            write(path, data.replace(old, new, 1))

    return damage


def record(step: str, data: bytes) -> Damage:
    return lambda folder: [write(path, data) for path, _ in records(folder, step)] and None


def unproven(change: Callable[[dict[str, Any]], None]) -> Damage:
    """A record as one was written before records proved themselves, which something has changed."""

    def damage(folder: Path) -> None:
        for path, data in records(folder, "convert"):
            data.pop("digest")
            change(data)
            write(path, json.dumps(data, indent=1).encode())

    return damage


def exchanged(folder: Path) -> None:
    (first, _), (second, _), *_ = records(folder, "quant")
    one, other = first.read_bytes(), second.read_bytes()
    write(first, other)
    write(second, one)


def exchanged_spans(folder: Path) -> None:
    """And the records of the files: so that tensors are copied by them."""
    spans = sorted(path for path in (folder / "cache" / "span").rglob("*") if path.is_file())
    data = [path.read_bytes() for path in spans]
    for path, other in zip(spans, data[1:] + data[:1], strict=True):
        write(path, other)
    for path, _ in list(records(folder, "quant")):
        path.unlink()


def every(pattern: str, data: bytes, also: str = "") -> Damage:
    def damage(folder: Path) -> None:
        paths = [path for path in folder.glob(pattern) if path.is_file()]
        assert paths
        for path in paths:
            write(path, data)
        if also:
            shutil.rmtree(folder / also)

    return damage


def pointer(old: bytes, new: bytes, also: Damage | None = None) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "build" / "small" / "convert.json"
        write(path, path.read_bytes().replace(old, new))
        if also:
            also(folder)

    return damage


def folder_at(name: str, also: str = "") -> Damage:
    """A folder with something in it where a file belongs."""

    def damage(folder: Path) -> None:
        paths = list(folder.glob(name))
        assert paths
        for path in paths:
            path.unlink()
            path.mkdir()
            (path / "x").write_text("x")
        if also:
            shutil.rmtree(folder / also)

    return damage


def rows(*texts: str) -> Damage:
    """What doit keeps of its tasks, each in turn another text."""

    def damage(folder: Path) -> None:
        with closing(sqlite3.connect(folder / "build" / ".doit.db")) as database:
            names = [name for (name,) in database.execute("select task_id from doit order by task_id")]
            assert len(names) > 10
            for name, text in zip(names, itertools.cycle(texts)):
                data = text.encode("utf-8", "surrogateescape")
                database.execute("update doit set task_data = cast(? as text) where task_id = ?", (data, name))
            database.commit()

    return damage


def link_at(name: str) -> Damage:
    def damage(folder: Path) -> None:
        for path in list(folder.glob(name)):
            path.unlink()
            path.symlink_to("/nonexistent/x")

    return damage


def file_at(name: str) -> Damage:
    def damage(folder: Path) -> None:
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).write_text("x")
        shutil.rmtree(folder / "cache" / "ac")

    return damage


def work(make: Callable[[Path, Path], None]) -> Damage:
    """Something else where steps work."""

    def damage(folder: Path) -> None:
        names = os.listdir(folder / "cache" / "ac")
        shutil.rmtree(folder / "cache" / "ac")
        (folder / "cache" / "work").mkdir(exist_ok=True)
        (folder / "precious").mkdir()
        (folder / "precious" / "file").write_text("mine")
        for name in names:
            make(folder / "cache" / "work" / name, folder / "precious")

    return damage


NAME = text_of("convert", b'"outputs": {\n  "model.gguf"', b'"outputs": {\n  "modelngguf"')
DAMAGES: dict[str, Damage] = {
    "a record's output name": NAME,
    "names of the page": text_of("card", b'"README.zh-CN.md"', b'"README.zhmCN.md"'),
    "of an index": text_of("index", b'"outputs": {\n  "tensors.json"', b'"outputs": {\n  "uensors.json"'),
    "of a release": text_of("release", b'  "release.json": {', b'  "rdlease.json": {'),
    "a record's key": text_of("convert", b'"step": "convert"', b'"step": "conver4"'),
    "a record that is deep": record("convert", DEEP),
    "a record that is deep below": record("convert", b'{"outputs":' + b'{"a":' * 100_000),
    "an empty record": record("convert", b""),
    "two records exchanged": exchanged,
    "an old record whose size is text": unproven(lambda data: data["outputs"]["model.gguf"].update(size="x")),
    "an old record whose digest is a list": unproven(lambda data: data["outputs"]["model.gguf"].update(sha256=["x"])),
    "an old record with NUL": unproven(lambda data: data["outputs"]["model.gguf"].update(sha256="a\0b")),
    "an old record that leads outside": unproven(
        lambda data: data["outputs"]["model.gguf"].update(sha256="../../../recipes/small.toml")
    ),
    "an old record of a name that no reader knows": unproven(
        lambda data: data["outputs"].update({"modelngguf": data["outputs"].pop("model.gguf")})
    ),
    "a pointer that is deep": every("build/small/convert.json", DEEP),
    "a pointer's output name": pointer(b"model.gguf", b"modelngguf"),
    "a pointer's and its record's": pointer(b"model.gguf", b"modelngguf", NAME),
    "a pointer that ends with another space": pointer(b"}\n", b"}\x0b"),
    "a note that is deep": pointer(b"model.gguf", b"modelngguf", every("build/small/convert.key", DEEP)),
    "spans that are deep": every("cache/span/*/*", DEEP, "cache/ac"),
    "spans exchanged": exchanged_spans,
    "memos that are deep": every("cache/memo/*", DEEP),
    "roots that are deep": every("cache/roots/*", DEEP, "cache/ac"),
    "roots that are empty": every("cache/roots/*", b"", "cache/ac"),
    "roots of another kind": every("cache/roots/*", b"[]", "cache/ac"),
    "roots that were cut": every("cache/roots/*", b'{"build": "/tmp', "cache/ac"),
    "a listing that is deep": every("release/small/release.json", DEEP),
    "a database that is a folder": folder_at("build/.doit.db"),
    "a database that is a link to nowhere": link_at("build/.doit.db"),
    "rows of the database that are damaged": rows("{\x01", "\udcff", "[]", "null", "5", "[" * 100_000),
    "pointers that are folders": folder_at("build/small/*.json"),
    "notes that are folders": folder_at("build/small/*.key", "cache/ac"),
    "records that are folders": folder_at("cache/ac/*"),
    "memos that are folders": folder_at("cache/memo/*"),
    "objects that are folders": folder_at("cache/cas/*/*"),
    "objects that are links to nowhere": link_at("cache/cas/*/*"),
    "locks that are folders": folder_at("cache/lock/*", "cache/ac"),
    "cache/lock is a file": file_at("cache/lock"),
    "cache/cas is a file": file_at("cache/cas"),
    "cache/work is a file": file_at("cache/work"),
    "files where steps work": work(lambda place, _: place.write_bytes(b"x") and None),
    "links where steps work": work(lambda place, precious: place.symlink_to(precious)),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_release_is_right_again_after_two_builds(name: str, built: Project, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(built.folder, folder, symlinks=True)
    DAMAGES[name](folder)
    project, codes, said = Project(folder), [], ""
    while len(codes) < 2 and 0 not in codes:
        done = project.run("doit", check=None)
        codes.append(done.returncode)
        said += done.stdout + done.stderr
    assert codes[-1] == 0, said
    assert "Traceback" not in said
    assert project.release() == built.release()
    collected = project.run("quantmill", "cache", "gc")
    assert "Traceback" not in collected.stderr
    if (folder / "precious").exists():
        assert (folder / "precious" / "file").read_text() == "mine"


def test_records_without_a_proof_get_one_when_they_are_used(built: Project, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(built.folder, folder, symlinks=True)
    Project(folder).run("doit")  # whose database knows the pointers by their paths
    want = {path.name: path.read_bytes() for path in (folder / "cache" / "ac").iterdir()}
    for path in (folder / "cache" / "ac").iterdir():
        data = json.loads(path.read_bytes())
        data.pop("digest")
        write(path, json.dumps(data, indent=1).encode())
    assert Project(folder).run("doit").stdout == "nothing to do: everything is up to date\n"
    assert {path.name: path.read_bytes() for path in (folder / "cache" / "ac").iterdir()} == want


@pytest.mark.parametrize("rename", ["other", "left out", "added"])
def test_a_record_of_outputs_that_its_step_does_not_make_is_none(rename: str, built: Project, tmp_path: Path) -> None:
    """Also where it proves itself, and nobody who reads asks for the name: as a writer with a mistake leaves it."""
    folder = tmp_path / "project"
    shutil.copytree(built.folder, folder, symlinks=True)
    tasks = []
    for path in (folder / "cache" / "ac").iterdir():
        data = json.loads(path.read_bytes())
        data.pop("digest")
        outputs, last = data["outputs"], max(data["outputs"])
        if rename == "left out" and len(outputs) == 1:
            continue
        outputs["wrong"] = outputs[last] if rename == "added" else outputs.pop(last)
        if rename == "left out":
            outputs.pop("wrong")
        write(path, prove(path.name, json.dumps(data, indent=1).encode()))
        tasks.append(data["task"])
    assert len(tasks) > 5
    project = Project(folder)
    assert project.ran("doit") == sorted(tasks)
    assert project.release() == built.release()
    assert project.run("doit").stdout == "nothing to do: everything is up to date\n"
