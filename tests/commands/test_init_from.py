"""`quantmill init --from`: releases of different makers' shapes, whose recipes build the same files again."""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forward_models
from projects import TINY, Project
from quantmill import gguf, imatrix
from quantmill.audit.file_audit import AuditOptions, audit_file
from quantmill.audit.release_files import models_in
from quantmill.cli import main
from quantmill.imatrix import Entry, encode
from quantmill.quant.file_plan import parse_override
from quantmill.quant.quantizer import quantize_file
from quantmill.recipe.recipe import Recipe, load
from quantmill.reference.spans import of_tag

IMATRIX = TINY / "imatrix.dat"
TYPES = [("ffn_down", "Q6_K"), (r"blk\.(0|3)\.attn_v", "Q8_0"), ("attn_output", "Q5_K")]


@dataclass
class Release:
    """A folder of files that a maker's tools wrote, and what the call is given beside it."""

    folder: Path
    base: Path
    imatrix: Path | None = None
    given: list[str] = field(default_factory=list)

    def add(self, name: str, ftype: str, tag: str = "b11739", called: str = "", **options: Any) -> Path:
        """Quantize the base to a file of the release."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"{name}.gguf"
        guided = {"imatrix": self.imatrix, "imatrix_name": called or "/models/imatrix.dat"} if self.imatrix else {}
        quantize_file(self.base, path, ftype, reference=of_tag(tag), **guided, **options)
        return path


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The tiny model, a mixture of experts, and one whose rows are no whole blocks of most types."""
    folder = tmp_path_factory.mktemp("bases")
    assert command("convert", TINY, folder / "tiny.gguf") == 0
    odd = replace(forward_models.MODELS["qwen2"], type="F16")
    return {
        "tiny": folder / "tiny.gguf",
        "mixture": forward_models.write_mixture(folder / "mixture.gguf"),
        "odd": forward_models.write(odd, folder / "odd.gguf"),
    }


def zeroed(path: Path) -> Path:
    """The tiny model's imatrix, of which some columns have no importance: arithmetics tell them apart."""
    vectors = {name: vector.copy() for name, vector in imatrix.read(IMATRIX).vectors.items()}
    for vector in vectors.values():
        vector[:32] = 0
    path.write_bytes(encode([Entry(name, 1, vector) for name, vector in vectors.items()], b"text", 3))
    return path


def with_imatrix(at: Path, bases: Mapping[str, Path]) -> Release:
    found = Release(at, bases["tiny"], IMATRIX)
    for ftype in ("Q8_0", "Q6_K_L", "Q4_K_M", "Q4_K_L", "Q2_K_L", "IQ3_M", "IQ2_XS"):
        found.add(f"Maker_Tiny-{ftype}", ftype, "b5490", "/models_out/Tiny.imatrix")
    shutil.copy(found.base, at / "Maker_Tiny-bf16.gguf")
    shutil.copy(IMATRIX, at / "Maker_Tiny.imatrix")
    return found


def dynamic(at: Path, bases: Mapping[str, Path]) -> Release:
    found = Release(at, bases["tiny"], IMATRIX)
    for ftype, types in (("Q4_K_M", TYPES), ("Q2_K", TYPES[1:]), ("Q5_K_S", [("ffn_(up|gate)", "IQ4_XS")])):
        found.add(f"Tiny-UD-{ftype}", ftype, called="imatrix_unsloth.gguf", tensor_types=types)
    found.add("Tiny-Q4_K_M", "Q4_K_M", called="imatrix_unsloth.gguf")
    shutil.copy(found.base, at / "Tiny-BF16.gguf")
    shutil.copy(IMATRIX, at / "imatrix_unsloth.gguf_file")
    return found


def plain(at: Path, bases: Mapping[str, Path]) -> Release:
    found = Release(at, bases["tiny"])
    found.add("tiny-q8_0", "Q8_0")
    found.add("tiny-q4_0", "Q4_0")
    found.add("tiny-f16", "F16")
    found.given = ["--base", str(found.base)]
    return found


def pure(at: Path, bases: Mapping[str, Path]) -> Release:
    found = Release(at, bases["tiny"])
    for ftype in ("Q4_K_M", "Q6_K", "Q3_K_L"):
        found.add(f"tiny.{ftype}", ftype, "b8305", pure=True)
    found.given = ["--base", str(found.base)]
    return found


def requantized(at: Path, bases: Mapping[str, Path]) -> Release:
    middle = at.with_name("tiny-q8.gguf")
    quantize_file(bases["tiny"], middle, "Q8_0", reference=of_tag("b7836"))
    found = Release(at, middle, given=["--base", str(middle)])
    for ftype in ("Q4_K_S", "Q3_K_M"):
        found.add(f"tiny-{ftype}", ftype, "b7836", allow_requantize=True)
    return found


def shards(at: Path, bases: Mapping[str, Path]) -> Release:
    found = Release(at, bases["tiny"], IMATRIX, ["--imatrix", str(IMATRIX)])
    for ftype in ("Q8_0", "Q5_K_M", "IQ3_XXS"):
        path = found.add(f"tiny-{ftype}", ftype)
        if ftype != "IQ3_XXS":
            gguf.split(path, at / f"tiny-{ftype}", f"tiny-{ftype}", max_size=2_000_000)
            path.unlink()
    found.given += ["--base", str(bases["tiny"])]
    return found


def old(at: Path, bases: Mapping[str, Path]) -> Release:
    at.mkdir()
    found = Release(at, bases["tiny"], zeroed(at / "zero.imatrix"), ["--base", str(bases["tiny"])])
    for ftype in ("Q4_K_M", "Q5_K_S"):
        found.add(f"tiny-{ftype}", ftype, "b5590")
    return found


def mixture(at: Path, bases: Mapping[str, Path]) -> Release:
    found = Release(at, bases["mixture"], given=["--base", str(bases["mixture"])])
    for ftype in ("Q4_K_M", "IQ4_XS", "Q2_K"):
        found.add(f"mixture-{ftype}", ftype, tensor_types=[("ffn_down_exps", "Q6_K")] if ftype == "Q2_K" else [])
    return found


def odd(at: Path, bases: Mapping[str, Path]) -> Release:
    found = Release(at, bases["odd"])
    for ftype in ("Q4_K_M", "Q3_K_S", "Q8_0"):
        found.add(f"odd-{ftype}", ftype)
    shutil.copy(found.base, at / "odd-f16.gguf")
    return found


def ends(at: Path, bases: Mapping[str, Path]) -> Release:
    found = Release(at, bases["tiny"], given=["--base", str(bases["tiny"])])
    found.add("tiny-Q5_K_M", "Q5_K_M", token_embedding_type="Q8_0")
    found.add("tiny-Q4_K_M", "Q4_K_M", token_embedding_type="F16", tensor_types=TYPES[:1])
    found.add("tiny-Q3_K_M", "Q3_K_M", token_embedding_type="IQ4_NL", output_tensor_type="Q6_K")
    return found


def single(at: Path, bases: Mapping[str, Path]) -> Release:
    found = Release(at, bases["tiny"], IMATRIX, ["--base", str(bases["tiny"]), "--imatrix", str(IMATRIX)])
    found.add("a model of mine", "IQ3_XXS", "b6122")
    return found


MAKERS: dict[str, Callable[[Path, Mapping[str, Path]], Release]] = {
    "with_imatrix": with_imatrix,
    "dynamic": dynamic,
    "plain": plain,
    "pure": pure,
    "requantized": requantized,
    "shards": shards,
    "old": old,
    "mixture": mixture,
    "odd": odd,
    "ends": ends,
    "single": single,
}


@pytest.fixture(scope="module")
def releases(bases: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Release]:
    folder = tmp_path_factory.mktemp("releases")
    return {name: make(folder / name, bases) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def built(releases: Mapping[str, Release], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Recipe]:
    """The recipes of all of them, in one project that was built once."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "quantmill.toml").touch()
    (folder / "dodo.py").write_text((TINY.parents[1] / "dodo.py").read_text())
    for name, release in releases.items():
        place = next(release.folder.iterdir()) if name == "single" else release.folder
        assert command("-C", folder, "init", name, "--from", place, *release.given) == 0
    project = Project(folder)
    assert "tiny-Q4_K_S" in project.run("quantmill", "plan", "requantized").stdout
    project.run("doit", *(f"release:{name}" for name in releases))
    return {name: load(folder / "recipes" / f"{name}.toml") for name in releases}


def digests(folder: Path) -> dict[str, str]:
    """By name, of shards and whole files."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.gguf")}


@pytest.mark.parametrize("name", MAKERS)
def test_the_recipe_makes_the_same_files(
    releases: Mapping[str, Release], built: Mapping[str, Recipe], name: str
) -> None:
    recipe, release = built[name], releases[name]
    made = recipe.path.parents[1] / "release" / name
    theirs = digests(release.folder)
    ours = digests(made)
    left_out = {"Tiny-UD-Q4_K_M.gguf"} if name == "dynamic" else set()
    assert set(theirs.values()) - {theirs.get(each) for each in left_out} <= set(ours.values())
    assert len(recipe.ftypes) + recipe.base_file == len(models_in(release.folder)) - len(left_out)
    for path in models_in(made):
        found = audit_file(path, release.base, AuditOptions(release.imatrix, recipe.reference, None, 2))
        assert {tensor.word for tensor in found.tensors} == {"same"}, path
        assert found.word == "same"


def test_what_the_recipes_say(built: Mapping[str, Recipe]) -> None:
    texts = {name: recipe.path.read_text() for name, recipe in built.items()}
    data = {name: recipe.data for name, recipe in built.items()}
    assert data["with_imatrix"]["prefix"] == "Maker_Tiny"
    assert data["with_imatrix"]["imatrix"]["name"] == "/models_out/Tiny.imatrix"
    assert "override" not in data["with_imatrix"]["quants"]
    assert data["plain"]["quants"] == {"matrix": ["F16", "Q4_0", "Q8_0"]}
    assert "imatrix" not in data["plain"]
    assert data["pure"]["quants"]["override"] == [{"ftypes": ["Q3_K_L", "Q4_K_M"], "pure": True}]
    assert data["requantized"]["base"]["allow_requantize"]
    assert data["shards"]["split"] == {"max_size": "2MB"}
    assert built["old"].llama_cpp == "b5640"
    assert data["single"]["quants"]["matrix"] == ["IQ3_XXS"]
    assert "# Tiny-UD-Q4_K_M: left out, its mix is Q4_K_M too" in texts["dynamic"]
    tables = data["dynamic"]["quants"]["override"]
    assert {len(table["tensors"]) for table in tables} == {2}
    assert "# a model of mine.gguf is called single-IQ3_XXS.gguf here." in texts["single"]
    assert data["ends"]["quants"]["matrix"] == ["Q3_K_M", "Q4_K_M", "Q5_K_L"]  # the embedding is the output, too
    assert built["ends"].overrides_of("Q4_K_M")[0].token_embedding == "F16"
    assert np.all([recipe.max_size == 50_000_000_000 for name, recipe in built.items() if name != "shards"])


def test_an_imatrix_that_is_not_at_hand_is_measured_anew(bases: Mapping[str, Path], tmp_path: Path) -> None:
    release = Release(tmp_path / "release", bases["tiny"], IMATRIX)
    release.add("tiny-IQ2_XS", "IQ2_XS", called="gone.imatrix")
    release.add("tiny-Q4_K_M", "Q4_K_M", called="gone.imatrix")
    assert command("-C", tmp_path, "init", "anew", "--from", release.folder, "--base", release.base) == 0
    recipe = load(tmp_path / "anew/recipes/anew.toml")
    assert recipe.calibration
    assert recipe.imatrix
    assert recipe.imatrix.name == "gone.imatrix"
    assert recipe.ftypes == ("IQ2_XS", "Q4_K_M")
    said = " ".join(line.lstrip("# ") for line in recipe.path.read_text().splitlines())
    assert "The release's imatrix (gone.imatrix, of " in said
    assert "2 within rounding" not in said
    assert "not all is what this base gives" in said
    assert "importance matrix: " in Project(tmp_path / "anew").run("quantmill", "plan", "anew").stdout


def test_a_release_that_holds_its_recipe_says_so(
    bases: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = Release(tmp_path / "release", bases["tiny"])
    release.add("tiny-Q6_K", "Q6_K")
    release.add("tiny-found", "Q4_K_M", override_kv=[parse_override("quantmill.mix=str:KL divergence")])
    (release.folder / "release.json").write_text('{"recipe": "mine"}')
    assert command("-C", tmp_path, "init", "again", "--from", release.folder) == 2
    assert "give --base (mine.toml in it is the recipe that made it)\n" in capsys.readouterr().err
    assert command("-C", tmp_path, "init", "again", "--from", release.folder, "--base", release.base) == 0
    said = (tmp_path / "again/recipes/again.toml").read_text()
    assert "made it, mine.toml, which quantmill reproduce" in said
    assert "# tiny-found.gguf: its types were searched, as a [[quants.target]] does.\n" in said
    for odd in ('{"recipe": "a/b"}', '{"recipe": 7}', "[]", "{"):
        (release.folder / "release.json").write_text(odd)
        assert command("-C", tmp_path, "init", "odd", "--from", release.folder) == 2
        assert capsys.readouterr().err.endswith("give --base\n")


def test_a_checkpoint_is_a_base_too(bases: Mapping[str, Path], tmp_path: Path) -> None:
    release = Release(tmp_path / "release", bases["tiny"])
    release.add("tiny-Q6_K", "Q6_K", "b8305")
    assert command("-C", tmp_path, "init", "hf", "--from", release.folder, "--base", TINY) == 0
    recipe = load(tmp_path / "hf/recipes/hf.toml")
    assert (recipe.base.path, recipe.base.name) == (tmp_path / "hf/recipes" / recipe.data["base"]["path"], "Tiny")
    assert "The base's bytes were not compared" in recipe.path.read_text()
    assert "tiny-Q6_K.gguf" in Project(tmp_path / "hf").run("quantmill", "plan", "hf").stdout


def test_what_there_is_nothing_to_go_by_is_refused(
    bases: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = Release(tmp_path / "release", bases["tiny"])
    path = release.add("tiny-Q6_K", "Q6_K")
    (tmp_path / "damaged.gguf").write_bytes(path.read_bytes()[:5000])
    (tmp_path / "text.gguf").write_text("no model")
    for arguments, said in (
        ((release.folder,), "no file of it is unquantized, and none says what it was made of; give --base"),
        ((path, "--base", bases["tiny"], "--imatrix", IMATRIX), "names an imatrix; leave --imatrix out"),
        ((path, "--base", bases["tiny"], "--imatrix", tmp_path / "none"), "there is no such file"),
        ((tmp_path / "damaged.gguf", "--base", bases["tiny"]), "damaged.gguf: "),
        ((tmp_path / "text.gguf", "--base", bases["tiny"]), "text.gguf: "),
        ((path, "--base", tmp_path / "none.gguf"), "none.gguf: there is no such file or folder"),
    ):
        assert command("-C", tmp_path, "init", "wrong", "--from", *arguments) in (1, 2)
        shown = capsys.readouterr().err
        assert said in shown
        assert len(shown.splitlines()) == 1
        assert not (tmp_path / "wrong").exists()
