"""From a recipe's calibration text to the importance matrix in a build: keys, lock, addresses, and texts that fail."""

import errno
import hashlib
import http.server
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from projects import CALIBRATED, TINY, Project
from quantmill.build.graph import graph
from quantmill.build.node_key import key_of
from quantmill.disk import sha256_file
from quantmill.errors import QuantmillError, UsageError
from quantmill.forecast.evaluation_rates import PROCESS, memory, weigh
from quantmill.gguf.types import TYPES
from quantmill.imatrix import entries
from quantmill.network.web import WebError, fetch
from quantmill.recipe import lock
from quantmill.recipe.recipe import load

TEXT = (TINY / "calibration.txt").read_bytes()
SHORT = TEXT[:9000]


@pytest.fixture
def calibrated(make_project: Callable[..., Project]) -> Project:
    """A project that computes its matrix from a short text."""
    project = make_project("project", CALIBRATED)
    (project.recipe.parent / "text.txt").write_bytes(SHORT)
    return project


def node_key(project: Project) -> str:
    """The imatrix task's key, by a fixed base."""
    recipe = load(project.recipe)
    node = graph(recipe, lock.write(recipe, sha256_file))["imatrix:small"]
    return key_of(node, {}).digest()


@pytest.mark.parametrize(
    ("new", "moves"),
    [
        ("n_ctx = 64", True),
        ("n_ctx = 128\nchunks = 3", True),
        ("n_ctx = 128\nfrom_chunk = 1", True),
        ("n_ctx = 128\nprocess_output = true", True),
        ("n_ctx = 128\nprocess_embedding = true", True),
        ("n_ctx = 128\nprocess_embedding = false", False),
        ("n_ctx = 128\nperplexity = false", True),
        ("n_ctx = 128\nperplexity = true", False),
        ('n_ctx = 128\nname = "other"', True),  # the file says it
        ('n_ctx = 128\n[imatrix]\narithmetic = "bf16x2"', True),
        ('n_ctx = 128\n[imatrix]\nmemory = "1GB"', False),
        ('n_ctx = 128\n[imatrix]\nname = "other"', False),  # only the quantized files say it
        ("n_ctx = 128 # a comment", False),
    ],
)
def test_what_moves_the_key(calibrated: Project, new: str, moves: bool) -> None:
    before = node_key(calibrated)
    calibrated.edit("n_ctx = 128", new)
    assert (node_key(calibrated) != before) == moves


def test_the_lock_holds_the_text(calibrated: Project) -> None:
    recipe = load(calibrated.recipe)
    text = calibrated.recipe.parent / "text.txt"
    made = lock.write(recipe, sha256_file)
    assert made.calibration["text.txt"].sha256 == hashlib.sha256(SHORT).hexdigest()
    assert made.calibration["text.txt"].size == len(SHORT)
    assert lock.load(recipe) == made
    text.write_bytes(SHORT[:-1] + b"x")
    assert lock.drift(recipe, made, sha256_file) == "the calibration text text.txt changed"
    text.unlink()
    with pytest.raises(
        UsageError, match=r"calibration: text\.txt: there is no file .*text\.txt; give the path of a text"
    ):
        lock.drift(recipe, made, sha256_file)
    calibrated.edit("n_ctx = 128", 'name = "other"')
    text.write_bytes(SHORT)
    assert lock.drift(load(calibrated.recipe), made, sha256_file) == (
        "the calibration text text.txt is not in the recipe any more"
    )
    old = lock.Lock(made.base, made.files, made.config, made.metadata_bytes)
    assert lock.drift(load(calibrated.recipe), old, sha256_file) == "the calibration text other is new"


def test_the_recipes_own_digest_is_held(calibrated: Project) -> None:
    calibrated.edit("n_ctx = 128", f'sha256 = "{"0" * 64}"')
    with pytest.raises(UsageError, match=f"has sha256 {hashlib.sha256(SHORT).hexdigest()}, the recipe says 0000"):
        lock.write(load(calibrated.recipe), sha256_file)


def test_a_build_computes_the_matrix_and_stops_where_nothing_changed(calibrated: Project) -> None:
    calibrated.run("doit")
    pointer = json.loads((calibrated.folder / "build" / "small" / "imatrix.json").read_text())
    assert sorted(pointer) == ["imatrix.dat", "report.json"]
    held = {name: next((calibrated.folder / "cache").rglob(fact["sha256"])) for name, fact in pointer.items()}
    found, dataset, chunks = entries(held["imatrix.dat"])
    assert dataset == b"text.txt"
    report = json.loads(held["report.json"].read_text())
    assert (report["chunks"], report["n_ctx"], report["entries"]) == (chunks, 128, len(found))
    assert report["perplexity"] > 1
    assert calibrated.run("doit").stdout == "nothing to do: everything is up to date\n"
    # Another end that belongs to no chunk: the matrix is measured again, is the same, and nothing below it runs but the
    # release, whose lock and statement name the text.
    (calibrated.recipe.parent / "text.txt").write_bytes(SHORT + b" end")
    assert calibrated.ran("doit") == ["calibration:small", "imatrix:small", "preflight:small", "release:small"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "preflight:small: text.txt: the text is empty; give one of at least two chunks"),
        (b"A few words.", "preflight:small: text.txt: its 12 bytes are too few; at least 256 tokens are needed"),
        (
            b"A few words." * 60,  # which only its tokens tell
            "imatrix:small: text.txt: its 240 tokens are too few; at least 256 are needed, two chunks of 128",
        ),
        (b"abc\xff" * 999, "preflight:small: text.txt: not UTF-8: byte 3 begins no character; save the text as UTF-8"),
    ],
)
def test_a_text_that_cannot_be_used_is_one_sentence(calibrated: Project, data: bytes, message: str) -> None:
    (calibrated.recipe.parent / "text.txt").write_bytes(data)
    done = calibrated.run("quantmill", "build", "small", "--only", "Q2_K", check=2)
    assert done.stderr == f"quantmill: {message}\n"
    assert ("convert:small" in done.stdout) == message.startswith("imatrix")


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves SHORT; `plan` says for each request in turn how: a status, or how many bytes before the line breaks."""

    plan: ClassVar[list[str]] = []
    seen: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        way = self.plan.pop(0) if self.plan else "whole"
        wanted = self.headers["Range"]
        self.seen.append(wanted)
        assert "Authorization" not in self.headers
        if way.isdecimal() and int(way) >= 400:
            self.send_error(int(way))
            return
        start = int(wanted[6:-1]) if wanted and way != "from the start" else 0
        if way == "led astray":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:port/")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if way == "in pieces":  # of which the second does not arrive
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"64\r\n" + SHORT[start : start + 100] + b"\r\n")
            return
        self.send_header("Content-Length", str(len(SHORT) - start))
        self.end_headers()
        self.wfile.write(SHORT[start : start + (int(way) if way.isdecimal() else len(SHORT))])

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("quantmill.network.web.PAUSE", 0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    Handler.plan, Handler.seen = [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/text.txt"
        server.shutdown()


@pytest.mark.parametrize(
    ("plan", "seen"),
    [
        (["whole"], [None]),
        (["in pieces", "in pieces", "whole"], [None, "bytes=90-", "bytes=180-"]),
        (["100", "whole"], [None, "bytes=100-"]),
        (["100", "200", "503", "whole"], [None, "bytes=100-", "bytes=300-", "bytes=300-"]),
        (["100", "from the start"], [None, "bytes=100-"]),
    ],
)
def test_a_broken_connection_is_taken_up_again(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch, plan: list[str], seen: list[str]
) -> None:
    monkeypatch.setattr("quantmill.network.web.CHUNK", 90)  # bytes, of which less is lost
    Handler.plan = plan
    counted: list[int] = []
    fetch(address, tmp_path / "part", counted.append)
    assert (tmp_path / "part").read_bytes() == SHORT
    assert sum(counted) == len(SHORT)
    assert Handler.seen == seen


def test_an_address_without_the_file(tmp_path: Path, address: str) -> None:
    Handler.plan = ["404"]
    with pytest.raises(WebError, match=r"text\.txt: the server answers with HTTP 404; check the address"):
        fetch(address, tmp_path / "part")


def test_an_address_that_never_answers(tmp_path: Path, address: str) -> None:
    Handler.plan = ["1"] * 9
    with pytest.raises(WebError, match=r"cannot be reached or breaks off \(4 of 9000 bytes\); check the network"):
        fetch(address, tmp_path / "part")
    with pytest.raises(WebError, match=r"cannot be reached or breaks off .*refused.*; check the network"):
        fetch("http://127.0.0.1:1/x", tmp_path / "other")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://127.0.0.1:port/x", "nonnumeric port: 'port'"),
        ("http://127.0.0.1/a b", "URL can't contain control characters. '/a b' (found at least ' ')"),
        (
            "http://127.0.0.1:9/é",
            "'ascii' codec can't encode character '\\xe9' in position 5: ordinal not in range(128)",
        ),
        ("led astray", "nonnumeric port: 'port'"),
    ],
)
def test_what_is_no_address_is_not_tried_again(tmp_path: Path, address: str, url: str, problem: str) -> None:
    Handler.plan = [url]
    url = address if url == "led astray" else url
    with pytest.raises(WebError) as error:
        fetch(url, tmp_path / "part")
    cure = "write it like https://example.org/text.txt"
    assert str(error.value) == f"{url}: it leads to no address ({problem}); {cure}"
    assert len(Handler.seen) <= 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_not_the_networks_fault(tmp_path: Path, address: str, number: int) -> None:
    def full(count: int) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(OSError, match=os.strerror(number)):
        fetch(address, tmp_path / "part", full)
    assert Handler.seen == [None]


def test_a_build_from_an_address_is_pinned(calibrated: Project, address: str) -> None:
    calibrated.edit('text = "text.txt"', f'url = "{address}"')
    shutil.rmtree(calibrated.recipe.parent / "tiny" / ".cache", ignore_errors=True)
    calibrated.run("quantmill", "lock", "small")
    pinned = json.loads(calibrated.recipe.with_suffix(".lock").read_text())["calibration"]
    assert pinned == {address: {"sha256": hashlib.sha256(SHORT).hexdigest(), "size": len(SHORT)}}
    Handler.seen.clear()
    calibrated.run("quantmill", "build", "small", "--only", "Q2_K", "--locked")
    assert len(Handler.seen) == 1
    calibrated.run("quantmill", "build", "small", "--only", "Q2_K", "--locked")
    assert len(Handler.seen) == 1
    text = calibrated.recipe.with_suffix(".lock").read_text()
    calibrated.recipe.with_suffix(".lock").write_text(text.replace(pinned[address]["sha256"], "0" * 64))
    done = calibrated.run("quantmill", "build", "small", "--only", "Q2_K", "--locked", check=1)
    assert (
        f"{address}: text-1.txt has sha256 {hashlib.sha256(SHORT).hexdigest()[:16]}…, the lock says 0000" in done.stderr
    )


def test_a_text_as_large_as_no_text(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantmill.network.web.LIMIT", 1000)
    with pytest.raises(QuantmillError, match="it is larger than 1000 bytes; give the address of a text"):
        fetch(address, tmp_path / "part")


def plan_of(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    return found


def test_a_plan_counts_the_tokens_and_says_what_they_take(calibrated: Project) -> None:
    plan = plan_of(calibrated)
    found = plan["imatrix"]
    assert (found["tokens"], found["chunks"], found["n_ctx"], found["exact"]) == (found["chunks"] * 128, 22, 128, True)
    assert found["arithmetic"] == "f32"
    assert sorted(found["seconds"]) == ["bf16x2", "f32"]
    assert found["fastest"] in found["seconds"]
    assert PROCESS < found["memory_bytes"] < PROCESS + 100_000_000
    assert plan["exact"]
    said = calibrated.run("quantmill", "plan", "small").stdout
    assert "importance matrix: 2816 tokens in 22 chunks, about " in said
    sizes = {file["name"]: file["bytes"] for file in plan["files"]}
    calibrated.run("quantmill", "build", "small")
    assert {path.name: path.stat().st_size for path in (calibrated.folder / "release/small").glob("*.gguf")} == sizes
    calibrated.edit("n_ctx = 128", "n_ctx = 128\nchunks = 7\nfrom_chunk = 2")
    assert plan_of(calibrated)["imatrix"]["chunks"] == 7
    (calibrated.recipe.parent / "text.txt").write_bytes(b"short")
    done = calibrated.run("quantmill", "plan", "small", check=2)
    assert "text.txt: 2 tokens are too few to begin at chunk 2" in done.stderr


def test_a_plan_without_the_text_estimates(calibrated: Project, address: str) -> None:
    calibrated.edit('text = "text.txt"', f'url = "{address}"')
    calibrated.run("quantmill", "lock", "small")
    Handler.seen.clear()
    found = plan_of(calibrated)["imatrix"]
    assert (found["chunks"], found["exact"]) == (len(SHORT) // 4 // 128, False)
    assert Handler.seen == []


def test_the_work_of_a_shape() -> None:
    types = TYPES["BF16"]
    tensors = [
        ("token_embd.weight", (64, 1000), types),
        ("blk.0.attn_q.weight", (64, 32), types),
        ("blk.0.attn_norm.weight", (64,), types),
        ("blk.0.ffn_up_exps.weight", (64, 128, 8), types),
        ("blk.1.attn_q.weight", (64, 32), types),
    ]
    work = weigh(tensors, {"attention.head_count": 2, "attention.key_length": 16, "expert_used_count": 2}, 256)
    attention = 2 * 4 * 2 * 16 * 128
    assert work.products == 2 * (2 * 64 * 32 + 64 * 128 * 2) + attention + 2 * 64000 * 127 / 256
    assert (work.layer, work.columns, work.rows, work.width) == (64 * 32 + 64 * 128 * 8, 64, 128, 64)
    predicting = 4 * 64000 + 4 * (1000 + 4 * 64) * 127  # the output matrix and a chunk's logits, more than a layer here
    assert memory(work, 1000, 10**9) == PROCESS + predicting + 4 * 64 * 1000
    unpredicted = weigh(tensors, {"attention.head_count": 2, "attention.key_length": 16}, 256, perplexity=False)
    assert memory(unpredicted, 1000, 10**9) == PROCESS + 4 * work.layer + 4 * 64 * 1000
    assert memory(work, 1000, PROCESS) == PROCESS
