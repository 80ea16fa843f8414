"""What `quantmill doctor` says of a machine, of a whole one and of ones that lack something."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from quantmill.cli import main


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with nothing in it, and an environment that names nothing."""
    for name in ("QUANTMILL_CACHE", "QUANTMILL_STORE", "QUANTMILL_SIGN", "QUANTMILL_LLAMA_CPP", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-of-user"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, tuple[str, str]]]:
    """Its exit code, and state and text of each line."""
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    return int(left.value.code or 0), {fact["name"]: (fact["state"], fact["text"]) for fact in found}


def test_a_bare_machine_lacks_much_and_nothing_is_wrong(capsys: pytest.CaptureFixture[str], bare: Path) -> None:
    code, said = doctor(capsys)
    assert code == 0
    for name in ("project", "shared store", "signing key", "toolchain", "git", "llama-quantize"):
        assert said[name][0] == "none"
    assert said["store"] == ("ok", said["store"][1])
    assert "made by the first build" in said["store"][1]
    assert not list(bare.iterdir()), "what only looks makes nothing"


def test_a_project_its_store_and_programs_are_named(capsys: pytest.CaptureFixture[str], bare: Path) -> None:
    (bare / "recipes").mkdir()
    (bare / "recipes" / "mine.toml").write_text("")
    (bare / "cache").mkdir()
    (bare.parent / "bin").mkdir()
    git = bare.parent / "bin" / "git"
    git.write_text("")
    git.chmod(0o755)
    code, said = doctor(capsys)
    assert (code, said["project"]) == (0, ("ok", f"{bare}: mine"))
    assert said["store"][1].startswith(f"{bare / 'cache'}; ")
    assert said["git"] == ("ok", str(git))


def test_a_store_where_none_can_be_is_wrong(
    capsys: pytest.CaptureFixture[str], bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "file").write_text("")
    monkeypatch.setenv("QUANTMILL_CACHE", str(bare / "file" / "store"))
    code, said = doctor(capsys)
    assert code == 1
    assert said["store"][0] == "wrong"
    assert str(bare / "file") in said["store"][1]


def test_a_shared_store_that_is_not_mounted_is_wrong(
    capsys: pytest.CaptureFixture[str], bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTMILL_STORE", f"file://{bare}/unmounted")
    code, said = doctor(capsys)
    assert code == 1
    assert said["shared store"][0] == "wrong"
    assert "unmounted" in said["shared store"][1]
    (bare / "unmounted").mkdir()
    code, said = doctor(capsys)
    assert code == 0
    assert said["shared store"][0] == "ok"


def test_a_signing_key_is_found_or_said_to_be_missing(
    capsys: pytest.CaptureFixture[str], bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        main(["key", "new", "team.pem"])
    (bare / "quantmill.toml").write_text(capsys.readouterr().out)
    monkeypatch.setenv("QUANTMILL_SIGN", str(bare / "team.pem"))
    code, said = doctor(capsys)
    assert code == 0
    assert said["signing key"][1].startswith(f"{bare / 'team.pem'}, id ")
    monkeypatch.setenv("QUANTMILL_SIGN", str(bare / "none.pem"))
    code, said = doctor(capsys)
    assert code == 1
    assert said["signing key"][0] == "wrong"
    assert "none.pem" in said["signing key"][1]


def test_a_toolchain_that_is_named_and_not_there_is_wrong(
    capsys: pytest.CaptureFixture[str], bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTMILL_LLAMA_CPP", str(bare / "none"))
    code, said = doctor(capsys)
    assert code == 1
    assert said["toolchain"][0] == "wrong"
    assert str(bare / "none") in said["toolchain"][1]


def test_toolchains_of_the_user_are_listed(capsys: pytest.CaptureFixture[str], bare: Path) -> None:
    from quantmill.toolchain.installed import Toolchain, place

    folder = place("b11739")
    folder.mkdir(parents=True)
    Toolchain("b11739", "0" * 64, program="1" * 64, tools="/x", programs={"llama-bench": ""}, folder=folder).write()
    assert doctor(capsys)[1]["toolchain"] == ("ok", f"b11739 in {folder}: llama-imatrix, llama-bench")


class Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == "Bearer hf_right"
        body = b'{"name": "ada", "type": "user"}' if known else b'{"error": "no such token"}'
        self.send_response(200 if known else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("token", "state", "said"), [("hf_right", "ok", "logged in as ada"), ("hf_wrong", "wrong", "does not take")]
)
def test_the_hub_is_asked_who_one_is(hub: str, token: str, state: str, said: str) -> None:
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
    ended = subprocess.run(
        [sys.executable, "-m", "quantmill.cli", "doctor", "--json"], env=environment, capture_output=True, timeout=120
    )
    fact = next(fact for fact in json.loads(ended.stdout) if fact["name"] == "hub")
    assert (ended.returncode, fact["state"]) == (int(state == "wrong"), state)
    assert said in fact["text"]
    assert token not in fact["text"]


def test_a_level_that_this_machine_lacks_is_wrong() -> None:
    environment = {**os.environ, "QUANTMILL_ISA": "z80"}
    ended = subprocess.run(
        [sys.executable, "-m", "quantmill.cli", "doctor"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 1
    assert any(line.startswith("! kernels") and "z80" in line for line in ended.stdout.splitlines())
    assert ended.stderr == ""
