"""Room on a disk: what a build lets go, what it says before any work, and a limit of the store that it keeps to."""

import re
from pathlib import Path

import pytest

from disks import SmallDisk
from projects import RECIPE, Project, new_project

TEXT = RECIPE.replace('"Q8_0"', '"Q8_0", "Q6_K"')
IDLE = "nothing to do: everything is up to date\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    project = new_project(tmp_path_factory.mktemp("whole") / "project", TEXT)
    project.run("doit")
    return project.release()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return new_project(tmp_path / "project", TEXT)


def stored(folder: Path) -> dict[str, int]:
    """The sizes of large objects, by digest."""
    found = {path.name: path.stat().st_size for path in folder.rglob("cas/*/*")}
    return {name: size for name, size in found.items() if size > 10**6}


def settings(project: Project, text: str) -> None:
    (project.folder / "quantmill.toml").write_text(f"[store]\n{text}\n")


def test_what_is_not_kept_goes_when_it_is_read(project: Project, whole: dict[str, bytes]) -> None:
    for name in ("BF16", "Q8_0"):  # the base's own file is of the release: its object stays for that
        project.edit(f'"{name}", ', "")
    settings(project, 'keep = ["release"]')
    project.run("quantmill", "build", "small")
    files = {name: data for name, data in project.release().items() if name.endswith(".gguf")}
    assert files == {name: whole[name] for name in ("small-Q6_K.gguf", "small-Q4_K_M.gguf", "small-Q2_K.gguf")}
    assert sorted(stored(project.folder / "cache").values()) == sorted(map(len, files.values()))
    assert project.run("quantmill", "build", "small").stdout == project.run("doit").stdout == IDLE
    project.edit('"Q4_K_M"', '"Q4_K_M", "Q5_1"')  # for which the base is made again
    again = project.run("quantmill", "build", "small").stdout
    assert "convert:small is made again here" in again
    assert "quant:small/Q5_1" in again
    assert len(stored(project.folder / "cache")) == 4


def test_the_base_stays_where_it_is_released(project: Project, whole: dict[str, bytes]) -> None:
    settings(project, "keep = []")
    project.run("quantmill", "build", "small")
    assert project.release() == whole
    assert len(stored(project.folder / "cache")) == 5
    assert project.run("doit").stdout == IDLE


def test_a_disk_that_is_nearly_full(project: Project, whole: dict[str, bytes], small_disk: SmallDisk) -> None:
    """All would be 26 MB; 19 without the checkpoint; 15 published as built."""
    if not small_disk.mounted:
        pytest.skip("only root may mount")
    store = small_disk.path / "store"
    known = {"QUANTMILL_CACHE": str(store)}
    small_disk.resize(16)
    refused = project.run("quantmill", "build", "small", check=1, **known).stderr
    said = r"quantmill: \S+store: 16\.\d\d MB are free on this disk, and the build takes (\S+) MB more; free some, or publish "
    match = re.match(said + r"files as they are built, by --publish, which takes (\S+) MB\n", refused)
    assert match, refused
    files = sum(len(data) for name, data in whole.items() if name.endswith(".gguf"))
    assert float(match[1]) * 10**6 == pytest.approx(files + len(whole["small-bf16.gguf"]), rel=0.01)
    assert float(match[2]) * 10**6 == pytest.approx(2 * len(whole["small-bf16.gguf"]), rel=0.01)
    assert not (store / "cas").exists()
    small_disk.resize(20)
    done = project.run("quantmill", "build", "small", **known).stdout
    assert "the checkpoint goes when it is converted, so that" in done
    assert project.release() == whole
    assert project.run("quantmill", "build", "small", **known).stdout.endswith(IDLE)


def test_a_store_of_a_limited_size(
    project: Project, whole: dict[str, bytes], tmp_path: Path
) -> None:
    old = new_project(tmp_path / "old")
    known = {"QUANTMILL_CACHE": str(tmp_path / "store")}
    old.edit('"Q8_0"', '"Q5_0", "Q5_1"')
    old.run("doit", **known)
    old.run("doit", "clean", "-a", **known)
    there = stored(tmp_path / "store")
    settings(project, 'max_size = "27MB"')
    project.run("quantmill", "build", "small", **known)
    assert project.release() == whole
    now = stored(tmp_path / "store")
    assert sum(now.values()) < 27 * 10**6 < sum((there | now).values())
    settings(project, 'max_size = "12MB"')
    project.edit('"Q8_0"', '"Q4_1"')
    refused = project.run("quantmill", "build", "small", check=1, **known).stderr
    assert re.search(r"it holds \S+ MB that pointers and releases need, the build takes \S+ MB more, and store.max_size "
                     r"is 12.00 MB; raise that, or keep less\n$", refused), refused  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('keep = ["bases"]', "store.keep: this must be a list of some of checkpoint, base, evaluation, release"),
        ('keep = "base"', "store.keep: this must be a list"),
        ("max_size = 0", "store.max_size: this must be a size"),
    ],
)
def test_settings_that_are_wrong(text: str, said: str, project: Project) -> None:
    settings(project, text)
    assert said in project.run("quantmill", "build", "small", check=2).stderr
