"""A folder as a shared store: one that is not there, or is none, is told of and never begun anew."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from projects import RECIPE, Project
from quantmill.store.remote.bucket import Bucket, StoreError
from quantmill.store.remote.settings import Settings
from team import Team

SMALL = RECIPE.replace('"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"Q8_0"')
MISSING = "there is no such folder; mount it, or make it where the store is new"


def test_a_folder_that_is_not_mounted_is_not_made(make_project: Callable[..., Project], tmp_path: Path) -> None:
    place = tmp_path / "mnt" / "store"
    team = Team(tmp_path, f"file://{place}")
    shutil.rmtree(tmp_path / "mnt")
    first, reader = team.join(make_project("first", SMALL), sign=True), team.join(make_project("reader", SMALL))
    told = [line for line in first.run("doit").stdout.splitlines() if line.startswith("  file://")]
    assert told[0] == f"  file://{place}: {MISSING}; the build goes on without it"
    assert told[1].endswith("results will be sent by the next build")
    assert len(told) == 2
    assert f"file://{place}: {MISSING}; the build goes on without it" in reader.run("doit").stdout
    failed = first.run("quantmill", "cache", "push", check=1)
    assert failed.stderr == f"quantmill: file://{place}: {MISSING}\n"
    assert not (tmp_path / "mnt").exists()
    place.mkdir(parents=True)
    first.run("doit")
    assert len(list((place / "ac").iterdir())) == int(told[1].split()[1])


def test_a_folder_that_goes_is_not_made_again(tmp_path: Path) -> None:
    place = tmp_path / "store"
    place.mkdir()
    bucket = Bucket(Settings(f"file://{place}"))
    bucket.put("ac/x", b"data")
    shutil.rmtree(place)
    for ask in (lambda: bucket.put("ac/x", b"data"), lambda: bucket.get("ac/x", 9), lambda: bucket.create("a", b"")):
        with pytest.raises(StoreError, match=MISSING):
            ask()
    assert not place.exists()


def test_what_is_no_folder_is_a_sentence(make_project: Callable[..., Project], tmp_path: Path) -> None:
    project, place = make_project("first", SMALL), tmp_path / "file"
    place.write_text("mine")
    for url, why in (
        (f"file://{place}", "this is no folder; name one"),
        (f"file://{place}/below", MISSING),
        ("file://mnt/store", "this names the host mnt; a folder has three slashes: file:///…"),
    ):
        done = project.run("doit", QUANTMILL_STORE=url)
        assert f"  {url}: {why}; the build goes on without it\n" in done.stdout
        shutil.rmtree(project.folder / "cache")
    assert place.read_text() == "mine"


def test_a_folder_of_this_host_may_name_it(tmp_path: Path) -> None:
    bucket = Bucket(Settings(f"file://localhost{tmp_path}"))
    bucket.put("ac/x", b"data")
    assert bucket.get("ac/x", 9) == b"data"
