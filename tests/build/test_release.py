"""The default recipe's release, whole: every file is loaded by a real llama.cpp, and generates. And at an older tag."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from projects import ROOT, Project
from quantmill.imatrix import entries, load
from quantmill.reference.spans import newest_tag
from tiny_release.record import DIGESTS, files

GENERATE = """
import json, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx, params.n_gpu_layers, params.warmup, params.cpuparams.n_threads = 256, 0, False, 1
server = xllamacpp.Server(params)
ask = {"prompt": "The king said to his servant that ", "n_predict": 12, "temperature": 0}
done = server.handle_completions(ask)
chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}
print(json.dumps([done["choices"][0]["text"], done["usage"], server.handle_chat_completions(chat)["usage"]]))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("default"))
    shutil.copytree(ROOT / "recipes", made.folder / "recipes")
    return made


@pytest.fixture(scope="module")
def release(project: Project) -> Path:
    """The release that the repository's own recipe and lock make, from nothing, as locked."""
    project.run("quantmill", "build", "tiny", "--locked")
    return project.folder / "release" / "tiny"


@pytest.fixture(scope="module")
def older(project: Project) -> Path:
    """The release that the same recipe makes for b5490, without its evaluation."""
    text = (project.folder / "recipes" / "tiny.toml").read_text()
    whole, _, _ = text.replace(f'llama_cpp = "{newest_tag()}"', 'llama_cpp = "b5490"').partition("[evaluation]")
    (project.folder / "recipes" / "older.toml").write_text(whole)
    project.run("quantmill", "build", "older")
    return project.folder / "release" / "older"


def made(release: Path, name: str) -> Path:
    """An output of the release's imatrix task."""
    pointer = json.loads((release.parent.parent / "build" / release.name / "imatrix.json").read_text())
    return next((release.parent.parent / "cache").rglob(pointer[name]["sha256"]))


def test_its_files_are_those_recorded(release: Path) -> None:
    assert files(release) == json.loads(DIGESTS.read_text())[newest_tag()]
    assert json.loads((release / "release.json").read_text())["llama_cpp"] == newest_tag()
    assert f"llama.cpp [{newest_tag()}](" in (release / "README.md").read_text()


def test_those_of_b5490_are_those_recorded(older: Path) -> None:
    assert files(older) == json.loads(DIGESTS.read_text())["b5490"]


def test_every_file_is_listed_and_whole(release: Path) -> None:
    listed = {entry["name"] for entry in json.loads((release / "release.json").read_text())["files"]}
    found = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}
    assert found == listed | {"SHA256SUMS", "release.json", "provenance.json"}
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=release, check=True)


def test_llama_cpp_loads_and_runs_every_file(release: Path) -> None:
    models = sorted(path for path in release.glob("*.gguf") if not path.name.endswith("-imatrix.gguf"))
    assert len(models) == 27
    for path in models:
        done = subprocess.run([sys.executable, "-c", GENERATE, str(path)], capture_output=True, text=True)
        assert done.returncode == 0, f"{path.name}: {done.stderr[-2000:]}"
        text, usage, chat = json.loads(done.stdout.splitlines()[-1])
        assert usage["completion_tokens"] == 12
        assert chat["completion_tokens"] > 0
        assert text.strip(), path.name


def test_its_importance_matrix_is_llama_imatrix_s(older: Path) -> None:
    """Beside the file that llama-imatrix (llama-cpp-python 0.3.9's, F16 base) makes of the same text: all that is
    stored is the same, in the same order, but for the values' last digits."""
    found, *facts = entries(made(older, "imatrix.dat"))
    expected, *wanted = entries(ROOT / "recipes" / "tiny" / "imatrix.dat")
    assert facts == wanted == [b"tiny/calibration.txt", 106]
    assert [(entry.name, entry.calls) for entry in found] == [(entry.name, entry.calls) for entry in expected]
    off = [np.abs(mine.values / its.values - 1) for mine, its in zip(found, expected, strict=True)]
    assert max(values.max() for values in off) < 0.01
    assert max(float(np.median(values)) for values in off) < 0.001
    report = json.loads(made(older, "report.json").read_text())
    assert (report["chunks"], report["tokens"], report["left_out"]) == (106, 54272, [])
    assert abs(report["perplexity"] / 38.6625 - 1) < 0.001  # its own figure


def test_the_newest_form_holds_the_same_sums(release: Path, older: Path) -> None:
    new, old = load(made(release, "imatrix.gguf"), 512), load(made(older, "imatrix.dat"), 512)
    assert (new.datasets, new.chunks, new.chunk_size) == ((b"tiny/calibration.txt",), 106, 512)
    assert new.tensors.keys() == old.tensors.keys()
    for name, sums in new.tensors.items():
        assert sums.counts.tolist() == [54272]
        mean = old.tensors[name].squares / old.tensors[name].counts.reshape(-1, 1)
        assert np.allclose(sums.squares / 54272, mean, rtol=1e-6)
    reports = [json.loads(made(one, "report.json").read_text()) for one in (release, older)]
    assert reports[0] == reports[1]
