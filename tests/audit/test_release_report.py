"""`quantmill report`: a release as it lies in a folder or at the Hub, and two beside each other, on one page."""

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
from quantmill import gguf
from quantmill.cli import main
from quantmill.disk import sha256_file

KLD = dict.fromkeys(("mean", "median", "p90", "p99", "p999", "max"), 0.02)
QUALITY = {
    "kld": KLD,
    "kld_error": 0.001,
    "perplexity": 11.0,
    "perplexity_error": 0.1,
    "top1": 0.9,
    "delta_p_rms": 0.02,
}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command's exit code and what it prints, in a folder of its own."""
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
    """A folder with files, one in shards, and a listing of what was measured."""
    folder.mkdir()
    for ftype in ftypes:
        if ftype == "Q4_K_M":
            gguf.split(toy.quantized(ftype), folder, f"toy-{ftype}", max_tensors=12)
        else:
            shutil.copy(toy.quantized(ftype), folder / f"toy-{ftype}.gguf")
    files = [
        {"name": path.name, "sha256": sha256_file(path), "size": path.stat().st_size, "quality": QUALITY}
        for path in folder.glob("*.gguf")
    ]
    rows = [{"ftype": ftype, "test": "tg128", "ts": 10.5, "sd": 0.1, "percent_of_q4_0": None} for ftype in ftypes]
    (folder / "bench.json").write_text(json.dumps({"host": {"cpu": "a cpu", "threads": 2}, "rows": rows}))
    listing = {"llama_cpp": "b11739", "tag": "b11739-1", "recipe": "toy", "files": files, **said}
    (folder / "release.json").write_text(json.dumps(listing))
    (folder / "toy.toml").write_text("matrix = 1\n")
    return folder


def check(text: str) -> Page:
    """Nothing is fetched, and of scripts the page's own alone runs."""
    page = Page(text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:" in text
    page.found.remove(("script", {}))
    page.check()
    return page


def test_a_release_is_shown_as_it_lies_there(run: Run, toy: Any, tmp_path: Path) -> None:
    folder = release(tmp_path / "toy", toy, llama_cpp_proof="between")
    assert run("audit", folder, "--base", toy.base, "--json", folder / "audit.json")[0] == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert run("report", folder) == (0, "toy.html\n", "")
    text = (tmp_path / "toy.html").read_text()
    page = check(text)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for said in ("b11739-1", "Q4_K_M", "audit.vsa.json: urn:quantmill:audit says PASSED", "of 3 of 3 files", "a cpu"):
        assert said in page.text
    assert re.search(r"equal to llama\.cpp(&#39;|')s by\W.*between", text, re.DOTALL)
    for cell in ("0.0200 ± 5.0 %", "11.0000", "90.00 %", "2.00 %", "10.5 ± 0.1"):
        assert f">{cell}</td>" in text
    assert text.count("<svg") == 3 + 2  # KLD, perplexity and speed; the types of each file
    assert f"<title>Q8_0: {toy.quantized('Q8_0').stat().st_size / 1e6:.2f} MB, KLD 0.0200, perplexity 11.0000" in text
    assert re.search(r"<title>blk\.1\.ffn_up\.weight: Q8_0, 8\.5 bits a weight</title>", text)
    again = tmp_path / "again.html"
    assert run("report", folder, "-o", again)[0] == 0
    assert again.read_text() == text


def test_a_strangers_folder_needs_no_listing(run: Run, toy: Any, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    shutil.copy(toy.quantized("Q8_0"), folder / "a model.gguf")
    assert run("audit", folder, "--base", toy.base, "--json", folder / "x.json")[0] == 0
    assert run("report", folder)[0] == 0
    page = check((tmp_path / "toy.html").read_text())
    assert "x.vsa.json: urn:quantmill:audit says PASSED" in page.text
    assert "a model" in page.text
    assert "does not say how far its files are from the base" in page.text


def test_two_releases_are_compared(run: Run, toy: Any, tmp_path: Path) -> None:
    one = release(tmp_path / "one", toy)
    other = release(tmp_path / "two", toy, ("Q8_0", "Q5_K_M"), tag="b11739-2", imatrix={"name": "x"})
    shutil.copy(toy.quantized("Q6_K"), other / "toy-Q8_0.gguf")
    (other / "toy.toml").write_text("matrix = 2\n")
    assert run("report", one, other) == (0, "one-and-two.html\n", "")
    text = (tmp_path / "one-and-two.html").read_text()
    page = check(text)
    for said in ("A: ", "B: ", "-matrix = 1", "+matrix = 2", "only in A", "only in B", "release.json: other"):
        assert said in page.text
    rows = re.findall(r'<tr class="odd"><th scope="row">([^<]*)', text)
    assert rows == ["tag", "imatrix"]
    assert "toy-Q8_0.gguf: it has" in page.text  # another size than its listing says
    cells = dict(re.findall(r'<tr><th scope="row">(Q\w+)</th>.*?<td data-value="\d+">(\d+ of \d+)</td></tr>', text))
    assert cells["Q8_0"] != "0 of 0"
    assert run("report", one, one, "-o", tmp_path / "same.html")[0] == 0
    same = check((tmp_path / "same.html").read_text())
    assert "only in" not in same.text
    assert "-matrix" not in same.text


def test_names_are_shown_and_not_obeyed(run: Run, toy: Any, tmp_path: Path) -> None:
    said: dict[str, Any] = dict.fromkeys(("llama_cpp", "tag", "repo", "recipe"), EVIL)
    folder = release(tmp_path / "toy", toy, **said)
    rows = [{"ftype": EVIL, "test": EVIL, "ts": 1e308}, {"ftype": "Q8_0", "test": EVIL, "ts": 3}]
    (folder / "bench.json").write_text(json.dumps({"host": {"cpu": EVIL, "backend": EVIL}, "rows": rows}))
    shutil.copy(toy.quantized("Q8_0"), folder / f"{EVIL.replace('/', '')}.gguf")
    assert run("report", folder, folder)[0] == 0
    text = (tmp_path / "toy-and-toy.html").read_text()
    check(text)
    assert "\x1b" not in text
    assert "\u202e" not in text
    listing = json.loads((folder / "release.json").read_text())
    for odd in (-1, 1e300, "x", None, [], {"mean": []}, {"mean": -1e300}, {"mean": 1e-320}):
        for entry in listing["files"]:
            entry["quality"] = {"kld": odd, "perplexity": odd, "bits": odd, "kld_error": odd, "top1": odd}
        (folder / "release.json").write_text(json.dumps(listing))
        assert run("report", folder, "-o", "page.html")[0] == 0


def test_no_file_of_a_release_is_written_over(run: Run, toy: Any, tmp_path: Path) -> None:
    folder = release(tmp_path / "toy", toy)
    for name in ("release.json", "toy-Q8_0.gguf"):
        code, _, said = run("report", folder, "-o", folder / name)
        assert (code, f"{name}: the call reads this file" in said) == (2, True)


def test_a_release_of_the_hub_is_shown_without_its_weights(
    hub: Hub, project: Project, toy: Any, tmp_path: Path
) -> None:
    folder = release(tmp_path / "toy", toy)
    project.run("quantmill", "audit", str(folder), "--base", str(toy.base), "--json", str(folder / "audit.json"))
    names = {path.name: path.read_bytes() for path in folder.iterdir()}
    repository = Repository(hub.repository.folder.parent / "toy-GGUF")
    commit = repository.commit(names, lambda name: name.endswith(".gguf"))
    hub.front.reset()
    project.run("quantmill", "report", "acme/toy-GGUF", str(folder), "-o", "page.html")
    page = check((project.folder / "page.html").read_text())
    assert f"acme/toy-GGUF at {commit}" in page.text
    assert page.text.count("audit.vsa.json: urn:quantmill:audit says PASSED") == 2
    assert "only in" not in page.text
    assert not [name for name in hub.front.sent if name.endswith(".gguf")]
    assert not [name for name, _ in hub.front.heads if name.endswith(".gguf")]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium")
def test_the_table_sorts_in_a_browser(run: Run, toy: Any, tmp_path: Path) -> None:
    """Its script runs under its own policy: each head of a table has become a button."""
    folder = release(tmp_path / "toy", toy)
    assert run("report", folder)[0] == 0
    page = tmp_path / "toy.html"
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    assert dom.count('<button type="button">') == page.read_text().count('<th scope="col">')
