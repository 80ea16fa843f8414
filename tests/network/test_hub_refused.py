"""Bases on the Hub that cannot be had, or are not what was locked: each is one sentence, and nothing is kept."""

import hashlib
import json

import pytest

from hub_bases import Hub
from hub_bases import hub as hub  # fixtures, these two
from hub_bases import project as project
from hub_helpers import WEIGHTS, fails, impatient, in_store
from hub_server import CLOSED
from projects import TINY, Project
from quantmill.network.hub import SMALL


def test_only_pickles_are_refused(project: Project, hub: Hub) -> None:
    (hub.repository.folder / WEIGHTS).unlink()
    hub.repository.commit({"pytorch_model.bin": b"a pickle"})
    assert fails(project, "quantmill", "lock", "small", code=2) == (
        "quantmill: acme/tiny: its weights are pickled (pytorch_model.bin), which can run code when read; give a model "
        "whose weights are safetensors"
    )


def test_no_such_repository(project: Project) -> None:
    project.edit("acme/tiny", "acme/tinny")
    assert fails(project, "quantmill", "build", "small", code=2) == (
        "quantmill: acme/tinny at main: the Hub shows no such model; check base.repo, or set HF_TOKEN to the token of "
        "an account that may read it"
    )


def test_no_such_revision(project: Project, hub: Hub) -> None:
    hub.repository.tag("v1.0")
    project.edit('repo = "acme/tiny"', 'repo = "acme/tiny"\nrevision = "v1.1"')
    expected = (
        "quantmill: acme/tiny at v1.1: the model has no such branch, tag or commit (did you mean v1.0?), it has main, "
        "v1.0; check base.revision"
    )
    assert fails(project, "quantmill", "lock", "small", code=2) == expected
    hub.front.answers = [("revision/v1.1", 404, {"X-Error-Code": "RevisionNotFound"}, b"")]  # as the Hub says it
    assert fails(project, "quantmill", "lock", "small", code=2) == expected


def test_a_gated_model(project: Project, hub: Hub) -> None:
    hub.front.answers = [("/api/models/", 403, {"X-Error-Code": "GatedRepo"}, b"")]
    assert fails(project, "quantmill", "lock", "small", code=2) == (
        "quantmill: acme/tiny at main: the model is gated; accept its terms on its page and set HF_TOKEN to your token"
    )


@pytest.mark.parametrize("command", ["lock", "build"])
def test_a_server_that_is_down(project: Project, command: str) -> None:
    assert fails(project, "quantmill", command, "small", HF_ENDPOINT=CLOSED) == (
        f"quantmill: acme/tiny at main: {CLOSED} cannot be reached or breaks off; check the network and run again, "
        "what has arrived is kept"
    )
    assert not project.recipe.with_suffix(".lock").exists()


def test_the_password_of_a_mirror_is_not_told(project: Project) -> None:
    said = fails(project, "quantmill", "lock", "small", HF_ENDPOINT=CLOSED.replace("://", "://someone:secret@"))
    assert said.startswith(f"quantmill: acme/tiny at main: {CLOSED} cannot be reached or breaks off; ")
    assert "secret" not in said


def test_a_server_that_is_down_after_the_lock(project: Project, hub: Hub) -> None:
    project.run("quantmill", "lock", "small")
    said = fails(project, "quantmill", "build", "small", HF_ENDPOINT=CLOSED)
    assert said.endswith(
        f"acme/tiny at {hub.first}: {WEIGHTS}: {CLOSED} cannot be reached or breaks off; check the network and run "
        "again, what has arrived is kept"
    )
    assert in_store(project) == []


def test_offline_is_said(project: Project, hub: Hub) -> None:
    assert fails(project, "quantmill", "lock", "small", HF_HUB_OFFLINE="1") == (
        "quantmill: acme/tiny at main: it has to be asked of the Hub, which HF_HUB_OFFLINE forbids"
    )


def test_a_file_that_is_refused(project: Project, hub: Hub) -> None:
    project.run("quantmill", "lock", "small")
    for status, code, problem in (
        (404, "EntryNotFound", f"the Hub has no file {WEIGHTS} there; lock the recipe again"),
        (403, "", f"{WEIGHTS}: the Hub forbids it; check HF_TOKEN"),
        (500, "", f"{WEIGHTS}: the Hub answers with HTTP 500; try again later"),
    ):
        hub.front.answers = [(f"/cdn/.*{WEIGHTS}", status, {"X-Error-Code": code} if code else {}, b"")]
        said = fails(project, *impatient("build", "small"))
        assert said.endswith(f"acme/tiny at {hub.first}: {problem}")
        assert in_store(project) == []
    hub.front.answers = []
    project.run("doit", "download:small")


def test_a_file_other_than_the_locked_one(project: Project, hub: Hub) -> None:
    project.run("quantmill", "lock", "small")
    data = (TINY / WEIGHTS).read_bytes()
    other = data[:-1] + bytes([data[-1] ^ 1])
    digests = [hashlib.sha256(content).hexdigest()[:16] for content in (other, data)]
    accept = "run 'quantmill lock' to accept it"
    for content, problem in (
        (other, f"has sha256 {digests[0]}…, the lock says {digests[1]}…; restore the file, or {accept}"),
        (data + b"more", f"comes with more than {len(data)} bytes, the lock says {len(data)}; {accept} as it is"),
        (data[:-4], f"comes with {len(data) - 4} bytes, the lock says {len(data)}; {accept} as it is"),
        (b"<html>log in</html>", f"comes with 19 bytes, the lock says {len(data)}; {accept} as it is"),
    ):
        hub.front.instead[WEIGHTS] = content
        said = fails(project, "quantmill", "build", "small")
        assert said.endswith(f"acme/tiny at {hub.first}: {WEIGHTS} {problem}")
        assert in_store(project) == []
    hub.front.instead.clear()
    project.run("doit", "download:small")  # nothing of the wrong ones was kept


def test_hostile_names_in_a_listing(project: Project, hub: Hub) -> None:
    for name in ("a\\..\\x.json", "C:x.json", "line\nbreak.json", "../x.json", "/etc/x.json"):
        tree = [{"type": "file", "oid": "0" * 40, "size": 2, "path": n} for n in (name, "config.json", WEIGHTS)]
        hub.front.answers = [("/tree/", 200, {"Content-Type": "application/json"}, json.dumps(tree).encode())]
        said = fails(project, "quantmill", "lock", "small", code=1 if "/" in name else 2)
        if "/" not in name:  # what is not at the top is never asked for
            assert said == f"quantmill: acme/tiny: {name!r} cannot be the name of a base file; rename it there"
        assert not any("x.json" in path for _, path, _ in hub.front.asked)
    assert not list(project.folder.parent.rglob("*x.json"))


def test_a_file_beside_the_weights_that_is_too_large_is_not_fetched(project: Project, hub: Hub) -> None:
    hub.repository.commit({"tokenizer.json": b" " * (SMALL + 1)}, lfs=lambda name: name == "tokenizer.json")
    said = fails(project, "quantmill", "lock", "small", code=1)
    assert "tokenizer.json has 100,000,001 bytes; beside the weights at most 100,000,000 are read" in said
