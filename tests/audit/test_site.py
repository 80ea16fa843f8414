"""`quantmill site`: many releases as a static site, searched without a server."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hostile.pages import EVIL, Page
from hub_bases import Hub
from hub_bases import hub as hub  # the fixture
from hub_bases import project as project  # the fixture
from hub_server import Repository
from projects import Project
from quantmill.cli import main
from quantmill.disk import sha256_file
from quantmill.release.site_folder import MARKER, page_names, releases_in

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command's exit code and what it prints, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        assert shown.err.count("\n") <= 1
        return ended.value.code, shown.out, shown.err

    return call


def release(folder: Path, toy: Any, ftypes: tuple[str, ...] = ("Q8_0", "Q4_K_M"), **said: Any) -> Path:
    """A folder with files, and a listing of what was measured."""
    folder.mkdir(parents=True)
    files = []
    for at, ftype in enumerate(ftypes, 1):
        path = folder / f"toy-{ftype}.gguf"
        shutil.copy(toy.quantized(ftype), path)
        quality = {"kld": {"mean": 0.02 * at}, "top1": 0.9, "perplexity": 11.0}
        files.append({"name": path.name, "sha256": sha256_file(path), "size": path.stat().st_size, "quality": quality})
    listing = {"llama_cpp": "b11739", "tag": "b11739-1", "recipe": "toy", "files": files, **said}
    (folder / "release.json").write_text(json.dumps(listing))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check(text: str) -> Page:
    """Nothing is fetched, links lead to the site's pages alone, and of scripts the page's own alone run."""
    page = Page(text)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    (policy,) = re.findall(r"default-src 'none'; style-src 'unsafe-inline'; script-src ([^;]*); img-src data:", text)
    assert {*policy.split()} == {f"'sha256-{digest}'" for digest in digests}
    for tag, attributes in [*page.found]:
        if tag == "script":
            assert not attributes
        if tag == "a":
            assert re.fullmatch(r"releases/[\w.-]+\.html|\.\./index\.html", attributes["href"] or "")
    page.found = [(tag, attributes) for tag, attributes in page.found if tag not in ("script", "a")]
    page.check()
    return page


def test_a_site_is_an_index_and_a_page_each(run: Run, toy: Any, tmp_path: Path) -> None:
    folder = release(tmp_path / "releases" / "one", toy)
    release(tmp_path / "releases" / "acme" / "two", toy, ("Q6_K",), tag="b11739-2")
    assert run("audit", folder, "--base", toy.base, "--json", folder / "audit.json")[0] == 0
    before = contents(tmp_path / "releases")
    assert run("site", "out", "releases") == (0, "out/index.html\n", "")
    assert contents(tmp_path / "releases") == before
    site = contents(tmp_path / "out")
    assert site.keys() == {"index.html", MARKER, "releases/one.html", "releases/acme--two.html"}
    text = site["index.html"].decode()
    page = check(text)
    assert "2 releases of GGUF files" in page.text
    rows = re.findall(r'<tr data-release="\d".*?</tr>', text, re.DOTALL)
    assert [re.findall(r'href="(.*?)">(.*?)<', row)[0] for row in rows] == [
        ("releases/acme--two.html", "acme/two"),
        ("releases/one.html", "one"),
        ("releases/acme--two.html", "acme/two"),
        *[("releases/one.html", "one")] * 2,
    ]
    cells = [re.findall(r"<td.*?>(.*?)</td>", row) for row in rows]
    assert cells[0][-3:] == ["none", "b11739", "b11739-2"]
    assert cells[1][0] == "2"
    assert cells[1][-4:] == ["0.0200", "1 PASSED", "b11739", "b11739-1"]
    assert [(row[0], *row[3:]) for row in cells[3:]] == [
        ("Q8_0", "0.0200", "90.00 %", "11.0000"),
        ("Q4_K_M", "0.0400", "90.00 %", "11.0000"),
    ]
    below = check(site["releases/one.html"].decode())
    assert "All releases" in below.text
    assert "audit.vsa.json: urn:quantmill:audit says PASSED" in below.text
    assert str(tmp_path) not in "".join(data.decode() for data in site.values()), "no path of the machine is told"


def test_the_same_releases_make_the_same_bytes(run: Run, toy: Any, tmp_path: Path) -> None:
    one, two = (release(tmp_path / name, toy) for name in ("one", "two"))
    assert run("site", "a", one, two)[0] == 0
    assert run("site", "b", two, one, one, tmp_path / "." / "two")[0] == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    first = contents(tmp_path / "a")
    assert run("site", "a", one, "--title", "Ours")[0] == 0
    assert contents(tmp_path / "a").keys() == {"index.html", MARKER, "releases/one.html"}
    assert b"<h1>Ours</h1>" in (tmp_path / "a" / "index.html").read_bytes()
    assert run("site", "a", one, two)[0] == 0
    assert contents(tmp_path / "a") == first


def test_what_it_did_not_write_stays(run: Run, toy: Any, tmp_path: Path) -> None:
    one, two = (release(tmp_path / name, toy) for name in ("one", "two"))
    site = tmp_path / "site"
    (site / "releases").mkdir(parents=True)
    (site / "CNAME").write_text("models.acme.example")
    (site / "releases" / "mine.html").write_text("mine")
    (site / "index.html").write_text("mine")

    def is_refused(*releases: Path, name: str) -> None:
        before = contents(site)
        code, out, said = run("site", site, *releases)
        assert (code, out, f"{name}: " in said) == (2, "", True), said
        assert contents(site) == before

    is_refused(one, name="index.html")
    (site / "index.html").unlink()
    assert run("site", site, one, two)[0] == 0
    for path in (site / "index.html", site / "releases" / "one.html"):
        kept = path.read_bytes()
        path.write_text("changed by hand")
        is_refused(one, name=path.name)
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
        is_refused(one, name=path.name)
        path.unlink()
        path.write_bytes(kept)
    (site / "releases" / "two.html").write_text("changed by hand")
    assert run("site", site, one)[0] == 0
    assert (site / "releases" / "two.html").read_text() == "changed by hand", "no page any more, and not removed"
    assert (site / "releases" / "mine.html").read_text() == "mine"
    assert (site / "CNAME").read_text() == "models.acme.example"
    marker = json.loads((site / MARKER).read_text())
    for odd in ("x", [], {"files": {"../one/release.json": []}}, {"files": {"CNAME": [sha256_file(site / "CNAME")]}}):
        (site / MARKER).write_text(json.dumps(odd))
        is_refused(one, name=MARKER)
    (site / MARKER).write_text(json.dumps(marker))
    assert run("site", site, one)[0] == 0
    assert not (tmp_path / "elsewhere").exists()


def test_a_call_that_broke_off_can_be_made_again(run: Run, toy: Any, tmp_path: Path) -> None:
    """What was written of another state is known as its own."""
    one, two = (release(tmp_path / name, toy) for name in ("one", "two"))
    assert run("site", "whole", one, two, "--title", "Later")[0] == 0
    assert run("site", "site", one)[0] == 0
    blocked = tmp_path / "site" / "releases" / "two.html"
    marker = json.loads((tmp_path / "site" / MARKER).read_text())
    later = json.loads((tmp_path / "whole" / MARKER).read_text())["files"]
    marker["files"] = {name: [*later[name], *marker["files"].get(name, [])] for name in later}
    (tmp_path / "site" / MARKER).write_text(json.dumps(marker))
    shutil.copy(tmp_path / "whole" / "releases" / "two.html", blocked)
    assert run("site", "site", one, two, "--title", "Later")[0] == 0
    assert contents(tmp_path / "site") == contents(tmp_path / "whole")


def test_a_site_is_apart_from_the_releases(run: Run, toy: Any, tmp_path: Path) -> None:
    folder = release(tmp_path / "toy", toy)
    for place in (folder, folder / "site"):
        code, _, said = run("site", place, folder)
        assert (code, "this is in the release" in said) == (2, True)
    assert not (folder / "site").exists()
    assert run("site", tmp_path / "site", tmp_path)[0] == 0
    assert run("site", tmp_path / "site", tmp_path)[0] == 0, "the site is no release"


def test_names_are_shown_and_not_obeyed(run: Run, toy: Any, tmp_path: Path) -> None:
    name = EVIL.replace("/", "")
    folder = release(tmp_path / "all" / name, toy, **dict.fromkeys(("llama_cpp", "tag", "repo", "recipe"), EVIL))
    shutil.copy(toy.quantized("Q8_0"), folder / f"{name}.gguf")
    release(tmp_path / "all" / "_index", toy)
    assert run("site", "site", "all", "--title", "<b>&'")[0] == 0
    site = contents(tmp_path / "site")
    assert len(site) == 4
    for path, data in site.items():
        assert re.fullmatch(r"[\w./-]+", path)
        if path != MARKER:
            check(data.decode())
            assert b"\x1b" not in data


def test_pages_of_names_that_are_alike_are_apart() -> None:
    names = ["a/b", "a--b", "A b", "a-b", "\u200b", "..", "x" * 300, "x" * 301, "index"]
    found = page_names(names)
    assert len({name.lower() for name in found}) == len(names)
    assert all(re.fullmatch(r"releases/[A-Za-z0-9][A-Za-z0-9._-]*\.html", name) for name in found)
    assert max(map(len, found)) < 130


def test_folders_of_releases_are_looked_through(tmp_path: Path, toy: Any) -> None:
    for name in ("b", "a/c", ".hidden", "a/deep/down"):
        release(tmp_path / name, toy, ("Q8_0",))
    (tmp_path / "a" / "empty").mkdir()
    (tmp_path / "x-imatrix.gguf").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = releases_in([str(tmp_path), str(tmp_path / "b"), "acme/toy-GGUF"])
    assert [release.name for release in found] == ["a/c", "acme/toy-GGUF", "b"]


def test_a_release_of_the_hub_is_among_them(hub: Hub, project: Project, toy: Any, tmp_path: Path) -> None:
    folder = release(tmp_path / "toy", toy)
    names = {path.name: path.read_bytes() for path in folder.iterdir()}
    repository = Repository(hub.repository.folder.parent / "toy-GGUF")
    commit = repository.commit(names, lambda name: name.endswith(".gguf"))
    hub.front.reset()
    project.run("quantmill", "site", "site", "acme/toy-GGUF", str(folder))
    site = contents(project.folder / "site")
    assert site.keys() == {"index.html", MARKER, "releases/acme--toy-GGUF.html", "releases/toy.html"}
    assert f"acme/toy-GGUF at {commit}" in check(site["releases/acme--toy-GGUF.html"].decode()).text
    assert not [name for name in hub.front.sent if name.endswith(".gguf")]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium")
def test_it_is_searched_in_a_browser(run: Run, toy: Any, tmp_path: Path) -> None:
    release(tmp_path / "all" / "one", toy)
    release(tmp_path / "all" / "two", toy, ("Q8_0",))
    assert run("site", "site", "all")[0] == 0

    def shown(search: str) -> tuple[int, int, str]:
        """The rows that are left of releases and of files, and what is said of them."""
        address = f"{(tmp_path / 'site' / 'index.html').as_uri()}{search}"
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", address]
        dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
        assert "<button" in dom
        releases, files = (
            len([row for row in re.findall(r"<tr data-release[^>]*>", part) if "hidden" not in row])
            for part in dom.split('id="files"')
        )
        (said,) = re.findall(r'role="status">(.*?)<', dom)
        return releases, files, said

    assert shown("") == (2, 3, "Shown: 2 releases, 3 files.")
    assert shown("#words=TWO") == (1, 1, "Shown: 1 release, 1 file.")
    assert shown("#type=Q4_K_M&words=one%20b11739") == (1, 1, "Shown: 1 release, 1 file.")
    most = toy.quantized("Q4_K_M").stat().st_size / 1e9
    assert shown(f"#size={most:.9f}") == (1, 1, "Shown: 1 release, 1 file.")
    assert shown("#words=%ff&x=y") == (0, 0, "Shown: 0 releases, 0 files.")
