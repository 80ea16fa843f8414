"""A recipe's own importance matrix where the text reached not every expert: told at once, with what helps."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import forward_models as models
from projects import Project
from quantmill import gguf
from quantmill.imatrix import Entry, encode, entries, read

RECIPE = """
llama_cpp = "b5490"
prefix = "small"

[base]
gguf = "base.gguf"
type = "F32"

[calibration]
text = "text.txt"
n_ctx = 128
chunks = 2

[quants]
matrix = ["Q6_K"]
"""
RIGHT = 'write form = "gguf" in [imatrix], which keeps the experts that were reached, or use more text'
NOTE = (
    "no token of the text chose experts 6, 7 of blk.0.ffn_gate_exps.weight, so that the imatrix in this form has no "
    "entry for blk.0.ffn_gate_exps.weight, blk.0.ffn_up_exps.weight, blk.0.ffn_down_exps.weight (82.6 % of the weights)"
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Over a mixture of which the text reaches six of eight experts."""
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "small.toml").write_text(RECIPE)
    (recipes / "text.txt").write_text(models.text(400))
    models.write_mixture(recipes / "base.gguf")
    return Project(tmp_path)


def findings(project: Project) -> list[str]:
    found: list[str] = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)["findings"]
    return found


def test_build_plan_and_page_tell_what_was_left_out(project: Project) -> None:
    assert findings(project) == []  # nothing is known yet
    told = project.run("quantmill", "build", "small").stdout
    assert f"coverage:small\n  note: {NOTE}; {RIGHT}\n" in told
    assert told.index("coverage:small") < told.index("quant:small/Q6_K")
    assert findings(project) == [f"{NOTE}; {RIGHT}"]
    files = project.release()
    said = b"- Without an importance vector: 3 tensors, of which the text reached not every expert\n"
    assert said in files["README.md"]
    assert "imatrix" not in json.loads(files["release.json"])
    project.run("quantmill", "card", "small", "-o", "page")
    assert (project.folder / "page" / "README.md").read_bytes() == files["README.md"]
    assert project.run("quantmill", "build", "small").stdout == "nothing to do: everything is up to date\n"


def test_what_shapes_let_foresee_is_told_once(project: Project) -> None:
    project.edit("[quants]", '[imatrix]\nform = "gguf"\n\n[quants]')
    override = '[[quants.override]]\ntensors = { "attn_vv" = "Q8_0" }\n'
    project.recipe.write_text(project.recipe.read_text() + override)
    assert project.run("quantmill", "build", "small").stdout.count("matches no tensor of this model") == 1
    assert len(findings(project)) == 1


def test_strict_fails_before_anything_is_quantized(project: Project) -> None:
    project.edit("[base]", "strict = true\n\n[base]")
    failed = project.run("quantmill", "build", "small", check=2)
    assert failed.stderr == f"quantmill: coverage:small: {NOTE}; {RIGHT}\n"
    assert "quant:small/Q6_K" not in failed.stdout


def test_what_needs_the_entries_fails_at_once_and_the_newer_form_mends_it(project: Project) -> None:
    project.edit('["Q6_K"]', '["Q6_K", "IQ2_XS"]')
    failed = project.run("quantmill", "build", "small", check=2)
    assert failed.stderr.startswith("quantmill: coverage:small: IQ2_XS: blk.0.ffn_down_exps.weight, blk.0.ffn_")
    assert failed.stderr.endswith(f"; {RIGHT}\n")
    assert "quant:" not in failed.stdout
    project.edit("[quants]", '[imatrix]\nform = "gguf"\n\n[quants]')
    project.edit("[base]", "strict = true\n\n[base]")
    assert "note" not in project.run("quantmill", "build", "small").stdout
    files = project.release()
    assert json.loads(files["release.json"])["imatrix"] == {"form": "gguf"}
    assert files["small.imatrix"].startswith(b"GGUF")
    found = read(project.folder / "release" / "small" / "small.imatrix")
    stack = found.vectors[models.STACKS[0]].reshape(8, -1)
    assert (stack[6:] == 1).all()
    assert not (stack[:3] == 1).all()
    with gguf.read(project.folder / "release" / "small" / "small-IQ2_XS.gguf") as file:
        assert file.metadata["quantize.imatrix.file"].value == "imatrix.gguf"
        assert file.metadata["quantize.imatrix.entries_count"].value == len(found.vectors)
    assert b"Without an importance vector" not in files["README.md"]


def test_for_later_tags_the_matrix_is_a_gguf_that_keeps_what_was_reached(project: Project) -> None:
    project.edit("b5490", "b11739")
    project.edit("[base]", "strict = true\n\n[base]")
    sizes = {
        file["name"]: file["bytes"]
        for file in json.loads(project.run("quantmill", "plan", "small", "--json").stdout)["files"]
    }
    assert "note" not in project.run("quantmill", "build", "small").stdout
    files = project.release()
    assert {name for name in files if "imatrix" in name} == {"small-imatrix.gguf"}
    assert {name: len(files[name]) for name in sizes} == sizes
    assert "imatrix" not in json.loads(files["release.json"])
    tree = project.folder / "release" / "small"
    vectors = read(tree / "small-imatrix.gguf").vectors
    with gguf.read(tree / "small-imatrix.gguf") as file:
        facts = {key: entry.value for key, entry in file.metadata.items()}
        assert list(facts.items()) == [
            ("general.type", "imatrix"),
            ("imatrix.datasets", ["text.txt"]),
            ("imatrix.chunk_count", 2),
            ("imatrix.chunk_size", 128),
        ]
    with gguf.read(tree / "small-Q6_K.gguf") as file:
        assert file.metadata["quantize.imatrix.file"].value == "imatrix.gguf"
        assert file.metadata["quantize.imatrix.dataset"].value == "text.txt"
        assert file.metadata["quantize.imatrix.entries_count"].value == len(vectors)
    project.run("quantmill", "verify", "release/small")
    project.run("quantmill", "choose", "release/small")
    assert project.run("quantmill", "build", "small").stdout == "nothing to do: everything is up to date\n"
    # As a ready file, it is named as it was.
    digest = hashlib.sha256(files["small-imatrix.gguf"]).hexdigest()
    (project.folder / "recipes" / "made.gguf").write_bytes(files["small-imatrix.gguf"])
    text = project.recipe.read_text()
    ready = f'[imatrix]\nfile = "made.gguf"\nsha256 = "{digest}"\n\n[quants]'
    project.recipe.write_text(text[: text.index("[calibration]")] + ready + text.split("[quants]")[1])
    project.run("quantmill", "build", "small")
    assert project.release()["small-imatrix.gguf"] == files["small-imatrix.gguf"]


def test_for_later_tags_the_legacy_form_keeps_it_too(project: Project) -> None:
    project.edit("b5490", "b11739")
    project.edit("[quants]", '[imatrix]\nform = "dat"\n\n[quants]')
    assert "note" not in project.run("quantmill", "build", "small").stdout
    files = project.release()
    assert {name for name in files if "imatrix" in name} == {"small.imatrix"}
    names = [entry.name for entry in entries(project.folder / "release" / "small" / "small.imatrix")[0]]
    assert names == sorted(names)
    assert models.STACKS[0] in names
    assert json.loads(files["release.json"])["imatrix"] == {"form": "dat"}


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ('form = "new"', "imatrix.form: 'new' is not one of dat, gguf"),
        ("zero_as_one = 1", "imatrix.zero_as_one: 1 is not right here; give true or false"),
    ],
)
def test_what_a_recipe_says_wrong(project: Project, new: str, message: str) -> None:
    project.edit("[quants]", f"[imatrix]\n{new}\n\n[quants]")
    assert message in project.run("quantmill", "plan", "small", check=2).stderr


def test_zeros_of_a_ready_file_are_weighed_alike_and_recorded(project: Project) -> None:
    with gguf.read(project.folder / "recipes" / "base.gguf") as file:
        shapes = {name: info.shape for name, info in file.tensors.items() if models.STACKS[0] in name}
    vector = np.ones((8, 256), np.float32)
    vector[3] = 0
    data = encode([Entry(name, 1, vector.reshape(-1)) for name in shapes], b"text", 1)
    (project.folder / "recipes" / "i.dat").write_bytes(data)
    project.edit('[calibration]\ntext = "text.txt"\nn_ctx = 128\nchunks = 2\n', "")
    ready = f'[imatrix]\nfile = "i.dat"\nsha256 = "{hashlib.sha256(data).hexdigest()}"\n'
    project.edit("[quants]", f"{ready}\n[quants]")
    told = project.run("quantmill", "build", "small").stdout
    said = "expert 3 of blk.0.ffn_down_exps.weight (3.44 % of the weights) have an importance of zero and become zeros"
    assert f"  note: Q6_K: {said}; write zero_as_one = true in [imatrix]" in told
    assert "verify:small/Q6_K\n  note: the weights of expert 3 of blk.0.ffn_down_exps.weight lost as much as" in told
    before = project.release()
    project.edit("[quants]", "zero_as_one = true\n\n[quants]")
    told = project.run("quantmill", "build", "small").stdout
    assert "an importance of zero" not in told
    assert "lost as much as" not in told
    after = project.release()
    assert json.loads(after["release.json"])["imatrix"] == {"zero_as_one": True}
    assert b"an importance of zero, its columns weigh alike\n" in after["README.md"]
    header = 4096
    assert after["small-Q6_K.gguf"][:header] == before["small-Q6_K.gguf"][:header]
    assert after["small-Q6_K.gguf"] != before["small-Q6_K.gguf"]
