"""A library is built from a source tree, and one from before b8660 is given C++'s containers."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quantmill.admission import built_library
from quantmill.admission.conformance import IMATRIX_NAME, Call, write
from quantmill.admission.library import CONTAINERS, Library, Tool, form_of
from quantmill.errors import UsageError
from quantmill.imatrix.legacy import parse
from quantmill.toolchain.cmake import BuildFailed

TOY = Path(__file__).parents[1] / "helpers" / "toy_llama"
NEEDED = [shutil.which("cmake"), shutil.which("c++")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    steps: list[tuple[int, int]] = []
    folder = built_library.build(
        TOY, tmp_path_factory.mktemp("built"), 2, lambda done, total: steps.append((done, total))
    )
    assert steps
    assert steps[-1][0] == steps[-1][1]
    return folder


@pytest.mark.skipif(None in NEEDED, reason="needs cmake and a compiler")
def test_containers_are_read_as_they_are_meant(built: Path, tmp_path: Path) -> None:
    assert built_library.form_of(TOY) == form_of("b8589") == CONTAINERS
    library = Library(built, CONTAINERS)
    for model in ("width-336", "tiny"):
        write(tmp_path, model)
    out, said = tmp_path / "out", dict[str, str]()
    for call in (
        Call("width-336", "COPY", guided=False),
        Call("width-336", "Q4_K_M", guided=True, options="pattern and key"),
        Call("tiny", "Q6_K", guided=False, options="prune"),
        Call("tiny", "Q5_0", guided=True, options="output and embedding"),
    ):
        assert library.answer(call, tmp_path / f"{call.model}.gguf", out)
        said[str(call)] = out.read_text()
    library.close()
    entries, _, _ = parse("it", (tmp_path / "width-336.imatrix").read_bytes())
    last = next(entry for entry in entries if entry.name == "blk.2.ffn_down.weight").values.reshape(-1)[-1]
    *_, found = said["width-336, Q4_K_M, with an imatrix, pattern and key"].splitlines()
    assert found.split()[:3] == [str(len(entries)), str(sum(entry.values.size for entry in entries)), "0"]
    assert float(found.split()[3]) == pytest.approx(float(last), rel=1e-4)
    assert len(entries) > 20  # from here on libstdc++ hashes
    assert said["width-336, Q4_K_M, with an imatrix, pattern and key"].splitlines()[:-1] == [
        "15 100 100 100",
        "conformance.number 77",
        f"quantize.imatrix.file {IMATRIX_NAME}",
        "quantize.imatrix.dataset conformance.txt",
        f"quantize.imatrix.entries_count {len(entries)}",
        "quantize.imatrix.chunks_count 5",
        "blk.0.ffn_down=8",
    ]
    assert said["width-336, COPY"] == "0 100 100 110\n"
    assert said["tiny, Q6_K, prune"] == "18 100 100 100\nblk.2.ffn_down=8\nwithout 1\n"
    assert said["tiny, Q5_0, with an imatrix, output and embedding"].startswith("8 8 14 100\n")


@pytest.mark.skipif(None in NEEDED, reason="needs cmake and a compiler")
def test_what_does_not_build_is_told(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(TOY, tree)
    (tree / "llama.cpp").write_text('#include "llama.h"\nint x = "no number";\n')
    with pytest.raises(BuildFailed, match=r"does not build: .*llama\.cpp:2:9: error: .*quantmill\.log"):
        built_library.build(tree, tmp_path / "work", 1)
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    with pytest.raises(UsageError, match="needs a compiler of C and C"):
        built_library.build(tree, tmp_path / "other", 1)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="needs cmake, which is not here"):
        built_library.build(tree, tmp_path / "other", 1)


@pytest.mark.skipif(None in NEEDED, reason="needs cmake and a compiler")
def test_a_build_that_is_ended_leaves_no_compiler(tmp_path: Path) -> None:
    tree, mark = tmp_path / "tree", tmp_path / "compiling"
    shutil.copytree(TOY, tree)
    slow = (
        f"add_custom_target(slow COMMAND sh -c 'echo $$$$ > {mark} && exec sleep 600')\nadd_dependencies(llama slow)\n"
    )
    (tree / "CMakeLists.txt").write_text((tree / "CMakeLists.txt").read_text() + slow)
    command = [sys.executable, "-m", "quantmill.cli", "admit", "b11312", "--source", str(tree)]
    process = subprocess.Popen(command, env={**os.environ, "QUANTMILL_CACHE": str(tmp_path / "cache")}, cwd=tmp_path)
    while not (mark.exists() and mark.read_text().strip()):
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) != 0
    while Path(f"/proc/{mark.read_text().strip()}").exists():
        time.sleep(0.05)


def test_what_is_no_tree_and_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no sources of llama\.cpp, it has no CMakeLists\.txt; give its root"):
        built_library.build(tmp_path, tmp_path / "work", 1)
    gone = tmp_path / "gone"
    for place in (Library, Tool):
        with pytest.raises(UsageError, match="gone: there is no such folder"):
            place(gone)
    with pytest.raises(UsageError, match="takes its parameters is not known; give its sources with --source"):
        form_of("b8600")
    assert os.listdir(tmp_path) == []
