"""`quantmill toolchain`: sources from anywhere, an environment, tools, and a sentence for whatever lacks."""

import json
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from projects import Project
from standins.llama_cpp import TAG, sources, tools


def record(folder: Path) -> Any:
    return json.loads((folder / "toolchain.json").read_bytes())


def call(*more: str, source: Path | str = "sources", tag: str = TAG) -> list[str]:
    return ["quantmill", "toolchain", tag, "--from", str(source), *more]


@pytest.fixture
def place(tmp_path: Path) -> Project:
    """A folder with sources and tools in it."""
    sources(tmp_path / "sources")
    tools(tmp_path / "bin")
    return Project(tmp_path)


PYTHON = ("--python", sys.executable)
READY = (*PYTHON, "--tools", "bin")
BUILDS = pytest.mark.skipif(None in (shutil.which("cmake"), shutil.which("c++")), reason="nothing builds here")


def test_sources_are_the_same_from_wherever_they_come(place: Project) -> None:
    folder, top = place.folder, f"llama.cpp-{TAG}"
    (folder / "web").mkdir()
    with tarfile.open(folder / "web" / "sources.tar.gz", "w:gz") as archive:
        archive.add(folder / "sources", top)
    with zipfile.ZipFile(folder / "sources.zip", "w") as packed:
        for path in sorted((folder / "sources").rglob("*")):
            packed.write(path, f"{top}/{path.relative_to(folder / 'sources')}")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/sources.tar.gz"
        found = []
        for number, source in enumerate(("sources", "sources.zip", "web/sources.tar.gz", address)):
            place.run(*call(*PYTHON, "--only", "converter", "--to", f"to{number}", source=source))
            found.append(record(folder / f"to{number}"))
        server.shutdown()
    assert len({one["tree"] for one in found}) == 1
    tree = folder / "to0" / "tree"
    assert not (tree / ".git").exists()
    assert all(not path.stat().st_mode & 0o222 for path in (tree, *tree.rglob("*")))
    assert sorted(path.name for path in (folder / "to0").iterdir()) == ["toolchain.json", "tree"]


def test_it_lies_in_the_users_cache(place: Project) -> None:
    said = place.run(*call(*READY), XDG_CACHE_HOME=str(place.folder / "cache")).stdout
    folder = place.folder / "cache" / "quantmill" / "llama.cpp" / TAG
    assert said.startswith(f"{folder}: llama.cpp {TAG}, sources {record(folder)['tree'][:12]}\n")
    assert record(folder)["backends"] == ["CUDA"]
    assert record(folder)["versions"]["python"] == sys.version.split()[0]


def test_what_is_not_asked_for_again_is_kept(place: Project) -> None:
    place.run(*call(*READY, "--to", "to"))
    before = record(place.folder / "to")
    place.run(*call(*PYTHON, "--only", "converter", "--to", "to"))
    assert record(place.folder / "to") == before
    tools(place.folder / "others", "11000")
    place.run(*call("--only", "tools", "--tools", "others", "--to", "to"), check=2)
    assert record(place.folder / "to") == before
    (place.folder / "sources" / "gguf-py" / "more.py").write_text("")
    place.run(*call(*PYTHON, "--only", "converter", "--to", "to"))
    assert record(place.folder / "to")["tools"] == ""
    assert record(place.folder / "to")["tree"] != before["tree"]


@BUILDS
def test_its_tools_are_built_and_its_environment_made(place: Project) -> None:
    place.run(*call("--to", "to", "--cmake", "STANDIN=ON"))
    found = record(place.folder / "to")
    assert found["python"] == str(place.folder / "to" / "venv" / "bin" / "python")
    assert (found["tools"], found["backends"]) == (str(place.folder / "to" / "tools"), ["CPU"])
    kept = {path.name for path in (place.folder / "to").iterdir()}
    assert kept == {"toolchain.json", "tree", "venv", "tools"}
    assert not (place.folder / "to" / "tree" / "build-info.txt").exists()


@BUILDS
def test_a_build_that_fails_is_told_and_its_words_are_kept(place: Project) -> None:
    (place.folder / "sources" / "main.cpp").write_text("int x = no;\n")
    done = place.run(*call(*PYTHON, "--to", "to"), check=1)
    told = done.stderr.splitlines()[-1]
    assert told.startswith("quantmill: llama.cpp does not build: ")
    assert "main.cpp:1:9: error: " in told
    assert told.endswith(f"; all that cmake said is in {place.folder / 'to' / 'cmake.log'}")
    assert "main.cpp:1:9: error: " in (place.folder / "to" / "cmake.log").read_text()


@BUILDS
def test_a_build_that_is_ended_leaves_no_compiler_here_either(place: Project) -> None:
    mark = place.folder / "compiling"
    with open(place.folder / "sources" / "CMakeLists.txt", "a") as file:
        file.write(f"add_custom_target(slow COMMAND sh -c 'echo $$$$ > {mark} && exec sleep 600')\n")
        file.write("add_dependencies(llama-imatrix slow)\n")
    command = [sys.executable, "-m", "quantmill.cli", *call(*PYTHON, "--to", "to")[1:]]
    process = subprocess.Popen(command, cwd=place.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (mark.exists() and mark.read_text().strip()):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) != 0
    while Path(f"/proc/{mark.read_text().strip()}").exists():
        time.sleep(0.05)


def other_tag(folder: Path) -> list[str]:
    (folder / "sources").rename(folder / "llama.cpp-b11000")
    return call(*READY, source="llama.cpp-b11000")


def lacking(name: str) -> Callable[[Path], list[str]]:
    def change(folder: Path) -> list[str]:
        (folder / "sources" / name).unlink()
        return call(*READY)

    return change


def broken_archive(folder: Path) -> list[str]:
    with tarfile.open(folder / "whole.tar.gz", "w:gz") as archive:
        archive.add(folder / "sources", "llama.cpp")
    data = (folder / "whole.tar.gz").read_bytes()
    (folder / "half.tar.gz").write_bytes(data[: len(data) // 2])
    return call(*READY, source="half.tar.gz")


def outward_archive(folder: Path) -> list[str]:
    with tarfile.open(folder / "out.tar", "w") as archive:
        archive.add(folder / "sources" / "main.cpp", "../main.cpp")
    return call(*READY, source="out.tar")


def other_tools(folder: Path) -> list[str]:
    tools(folder / "others", "11000")
    return call(*PYTHON, "--tools", "others")


def no_package(folder: Path) -> list[str]:
    path = folder / "sources" / "convert_hf_to_gguf.py"
    path.write_text("import a_package_that_nobody_has\n" + path.read_text())
    return call(*READY)


def no_text(folder: Path) -> list[str]:
    (folder / "text").write_text("text")
    return call(*READY, source="text")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lacking("convert_hf_to_gguf.py"), "sources: not a llama.cpp: it has no convert_hf_to_gguf.py; give its sou"),
        (lacking("CMakeLists.txt"), "sources: not a llama.cpp: it has no CMakeLists.txt; give its sources"),
        (lambda folder: call(*READY, source="none"), "none: there is no such folder or archive; give the sources"),
        (no_text, "text: neither a tar nor a zip archive; give the sources as one, or as a folder"),
        (broken_archive, "half.tar.gz: the archive cannot be unpacked ("),
        (outward_archive, "out.tar: the archive cannot be unpacked ("),
        (other_tag, f"llama.cpp-b11000: these are the sources of llama.cpp b11000, not of {TAG}; give those"),
        (other_tools, f"others/llama-imatrix: it is of llama.cpp b11000, not of {TAG}; give that one's"),
        (
            lambda folder: call(*PYTHON, "--tools", "sources"),
            "sources: there is no llama-imatrix in it; give",
        ),
        (lambda folder: call("--python", "none", "--tools", "bin"), "none: there is no such interpreter; give the"),
        (no_package, "ModuleNotFoundError: No module named 'a_package_that_nobody_has'; give an interpreter"),
        (lambda folder: call(*READY, tag="master"), "'master' is not a llama.cpp tag such as b11739 or v0.5.0"),
        (lambda folder: call(*READY, "--cmake", "A=B"), "--cmake is for tools that are built, and --tools names ready"),
        (lambda folder: call(*READY, "--only", "tools"), "--python is not for --only tools; leave one of the two out"),
    ],
)
def test_whatever_lacks_is_a_sentence(place: Project, change: Callable[[Path], list[str]], problem: str) -> None:
    command = change(place.folder)
    done = place.run(*command, "--to", "to", check=None)
    told = [line for line in done.stderr.splitlines() if line.startswith("quantmill: ")]
    assert done.returncode in (1, 2)
    assert len(told) == 1
    assert problem in told[0]
    assert not (place.folder / "to" / "toolchain.json").exists()


@pytest.mark.parametrize(("has", "lacks"), [((), "cmake"), (("cmake",), "C++ compiler")])
def test_what_builds_is_missed_before_anything_begins(place: Project, has: tuple[str, ...], lacks: str) -> None:
    programs = place.folder / "programs"
    programs.mkdir()
    for name in has:
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    done = place.run(*call(*PYTHON, "--to", "to"), check=2, PATH=str(programs))
    assert done.stderr.startswith(f"quantmill: there is no {lacks} to build llama.cpp's tools with; install ")
    assert not (place.folder / "to").exists()


def test_a_record_that_cannot_be_read_is_a_sentence(place: Project) -> None:
    from standins.llama_cpp import standin_project

    place.run(*call(*READY, "--to", "to"))
    project = standin_project(place.folder / "p")
    (place.folder / "to" / "toolchain.json").write_text('{"format": 1, "tag": []}')
    named = str(place.folder / "to")
    done = project.run("quantmill", "plan", "small", check=2, QUANTMILL_LLAMA_CPP=named)
    assert "toolchain.json: not a toolchain's record; make it anew: quantmill toolchain TAG --from" in done.stderr
    place.run(*call(*READY, "--to", "to", tag="b11313"), check=2)  # its tools say that they are of another
    place.run(*call(*PYTHON, "--only", "converter", "--to", "to", tag="b11313"))
    done = project.run("quantmill", "plan", "small", check=2, QUANTMILL_LLAMA_CPP=named)
    assert f"it has llama.cpp b11313, and {TAG} is wanted; name another by QUANTMILL_LLAMA_CPP" in done.stderr
