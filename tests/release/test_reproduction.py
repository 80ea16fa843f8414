"""reproduce: a release is what its recipe makes, or the file, tensor and block are named that are not."""

import json
import random
import shutil
from pathlib import Path

import pytest

from projects import RECIPE, ROOT, Project
from quantmill import gguf


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("reproduce"))
    shutil.copytree(ROOT / "recipes" / "tiny", project.folder / "recipes" / "tiny")
    project.recipe.write_text(RECIPE.replace('"Q8_0", "Q4_K_M", "Q2_K"', '"Q8_0", "Q4_K_M"'))
    project.run("quantmill", "build", "small")
    return project


@pytest.fixture
def copy(built: Project, tmp_path: Path) -> Path:
    """The release without links to the store, far from its recipe."""
    tree = tmp_path / "downloaded"
    tree.mkdir()
    for path in (built.folder / "release" / "small").iterdir():
        (tree / path.name).write_bytes(path.read_bytes())
    return tree


def elsewhere(folder: Path) -> Project:
    folder.mkdir()
    return Project(folder)


def test_a_release_is_reproduced_by_its_tag(built: Project) -> None:
    listing = json.loads((built.folder / "release" / "small" / "release.json").read_bytes())
    done = json.loads(built.run("quantmill", "reproduce", listing["tag"], "--json", TZ="Asia/Tokyo").stdout)
    assert (done["tag"], done["same"]) == (listing["tag"], True)
    assert {file["name"] for file in done["files"]} == built.release().keys()


def test_one_bit_is_named_by_file_tensor_and_block(built: Project, copy: Path, tmp_path: Path) -> None:
    path = copy / "small-Q4_K_M.gguf"
    with gguf.read(path) as file:
        info = file.tensors["blk.0.ffn_up.weight"]
        at, blocks = file.data_offset + info.offset + 144 * 7 + 100, info.nbytes // 144
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    done = elsewhere(tmp_path / "x").run(
        "quantmill", "reproduce", str(copy), "--beside", str(built.folder / "recipes"), "--threads", "1", check=1
    )
    told = [line for line in done.stdout.splitlines() if line.startswith("small-")]
    block = f"Q4_K: block 7 of {blocks} is the first that differs, 1 in all"
    assert told == [f"small-Q4_K_M.gguf: tensor blk.0.ffn_up.weight: {block}"]
    assert done.stdout.splitlines()[-2:] == [f"{copy}: 11 of 12 files are the same", f"{copy}: it is not signed"]
    assert "the release is in" not in done.stdout  # a folder that is gone


def test_a_sample_is_built_and_compared_alone(built: Project, copy: Path) -> None:
    """The tag says which files, so that a second call looks at the same; the others are not made."""
    done = built.run("quantmill", "reproduce", str(copy), "--sample", "1")
    assert "1 of 1 sampled files are the same" in done.stdout
    assert "release:small" not in done.stdout
    again = json.loads(built.run("quantmill", "reproduce", str(copy), "--sample", "1", "--json").stdout)
    (name,) = (file["name"] for file in again["files"])
    assert f"split:small/{name.removesuffix('.gguf').rpartition('-')[2].upper()}" in done.stdout
    data = bytearray((copy / name).read_bytes())
    data[-1000] ^= 1
    (copy / name).write_bytes(data)
    (copy / "README.md").write_text("")
    wrong = built.run("quantmill", "reproduce", str(copy), "--sample", "1", check=1).stdout
    assert f"{name}: " in wrong
    assert "README.md" not in wrong
    all_files = json.loads(built.run("quantmill", "reproduce", str(copy), "--sample", "99", "--json", check=1).stdout)
    assert {file["name"] for file in all_files["files"]} == {path.name for path in copy.glob("*.gguf")}


def test_what_is_gone_added_or_edited_is_named(built: Project, copy: Path) -> None:
    (copy / "small-Q8_0.gguf").unlink()
    (copy / "extra.txt").write_text("extra")
    (copy / "README.md").write_text((copy / "README.md").read_text().replace("llama.cpp", "llama.CPP"))
    done = built.run("quantmill", "reproduce", str(copy), check=1).stdout
    assert "small-Q8_0.gguf: it is missing\n" in done
    assert "extra.txt: it is not made from this recipe\n" in done
    assert "README.md: line " in done


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_work_folder_of_its_own_is_gone_on_from(built: Project, copy: Path, tmp_path: Path) -> None:
    """It has a store of its own in it, whatever other store is named, and what it is asked about lies elsewhere."""
    users, shared = tmp_path / "store", tmp_path / "shared"
    names = {"QUANTMILL_CACHE": str(users), "QUANTMILL_STORE": f"file://{shared}"}
    work = tmp_path / "work"
    call = ("quantmill", "reproduce", str(copy), "--work", str(work))
    first = built.run(*call, **names).stdout
    assert "quant:small/Q4_K_M\n" in first
    (work / "thesis.txt").write_text("precious")
    again = built.run(*call, **names).stdout
    assert "quant:small" not in again
    assert "nothing to do: everything is up to date\n" in again
    assert again.splitlines()[-2:] == first.splitlines()[-2:]
    assert (work / "thesis.txt").read_text() == "precious"
    assert sorted(path.name for path in work.iterdir() if not path.name.startswith(".")) == [
        *("build", "cache", "release", "thesis.txt")
    ]
    assert not users.exists()
    assert not shared.exists()


def test_one_that_is_killed_is_gone_on_with(built: Project, copy: Path, tmp_path: Path) -> None:
    call = ("quantmill", "reproduce", str(copy), "--work", str(tmp_path / "work"))
    built.killed(random.Random(2026), 6, *call)
    assert "12 of 12 files are the same" in built.run(*call).stdout


def test_a_folder_that_it_did_not_make_is_refused_as_it_is(built: Project, copy: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    for name in ("published/thesis.txt", "tagged/notes.txt", "index"):
        (theirs / name).parent.mkdir(parents=True, exist_ok=True)
        (theirs / name).write_text("precious")
    before = files_below(theirs)
    for named in (str(copy), "b5490-000000000000", "someone/none@b5490-000000000000"):
        done = built.run("quantmill", "reproduce", named, "--work", str(theirs), check=2)
        assert (done.stderr, done.stdout) == (
            f"quantmill: {theirs}: reproduce did not make this folder, and it is not empty; name a new one for --work, "
            "or one that reproduce made\n",
            "",
        )
        assert files_below(theirs) == before
    done = built.run("quantmill", "reproduce", str(copy), "--work", str(theirs / "index"), check=2)
    assert done.stderr == f"quantmill: {theirs}/index: this is no folder; name a new one for --work\n"


def test_a_work_folder_lies_apart_from_the_release(built: Project, copy: Path, tmp_path: Path) -> None:
    release = built.folder / "release" / "small"
    tag = json.loads((release / "release.json").read_bytes())["tag"]
    (alias := tmp_path / "alias").symlink_to(release)
    before = files_below(built.folder), files_below(copy)
    for called, work, tree in (
        (("release/small",), ".", "release/small"),
        ((tag,), ".", release),  # which held the release already, so that nothing was built
        ((tag,), f"{alias}/work", release),
        ((str(copy),), str(copy), copy),
        ((str(copy),), str(copy / "new"), copy),
        (("b5490-000000000000", "--against", str(copy)), str(copy / "new"), copy),
    ):
        done = built.run("quantmill", "reproduce", *called, "--work", work, check=2)
        told = f"{work}: this folder and the release {tree} lie in each other; name another for --work"
        assert (done.stderr, done.stdout) == (f"quantmill: {told}\n", "")
        assert (files_below(built.folder), files_below(copy)) == before


def test_a_work_folder_is_not_compared_with_itself(built: Project, copy: Path, tmp_path: Path) -> None:
    (work := tmp_path / "work").mkdir()  # an empty folder is taken
    built.run("quantmill", "reproduce", str(copy), "--work", str(work))
    made = work / "release" / "small"
    done = built.run("quantmill", "reproduce", str(made), "--work", str(work), check=2)
    assert done.stderr == (
        f"quantmill: {work}: this folder and the release {made} lie in each other; name another for --work\n"
    )


def test_another_base_or_none_is_refused(built: Project, copy: Path, tmp_path: Path) -> None:
    there = elsewhere(tmp_path / "x")
    done = there.run("quantmill", "reproduce", str(copy), check=2)
    assert done.stderr == (
        f"quantmill: {copy}: the base or a text that its recipe names by path is not there, in {copy}; "
        "name the folder that has them with --beside\n"
    )
    shutil.copytree(built.folder / "recipes", there.folder / "recipes")
    config = there.folder / "recipes" / "tiny" / "config.json"
    config.write_text(config.read_text() + " ")
    done = there.run("quantmill", "reproduce", str(copy), check=2)
    assert done.stderr == (
        f"quantmill: {copy}: config.json of the base changed, in {there.folder / 'recipes'}; "
        "name the folder that has them with --beside\n"
    )
    for name, problem in (
        (
            "lock",
            "it is not a lock (UnicodeDecodeError('utf-8', b'\\xff', 0, 1, 'invalid start byte')); "
            f"run 'quantmill lock {copy}/small.toml' and commit the lock",
        ),
        ("toml", "not valid TOML: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ):
        (copy / f"small.{name}").write_bytes(b"\xff")
        done = there.run("quantmill", "reproduce", str(copy), check=2)
        assert done.stderr == f"quantmill: {copy}/small.{name}: {problem}\n"
    (copy / "small.lock").unlink()
    assert "it has no small.lock, by which" in there.run("quantmill", "reproduce", str(copy), check=2).stderr
