"""[base]: what a model is called and made of, said by the recipe or by a GGUF file's metadata."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from gguf_files import changed
from projects import TINY
from quantmill.artifact import Artifact, Context
from quantmill.build.graph import card_params
from quantmill.card.card_facts import facts
from quantmill.card.catalogue import words
from quantmill.card.page import render
from quantmill.checkpoint.about import about_gguf
from quantmill.disk import sha256_file
from quantmill.errors import UsageError
from quantmill.gguf import read
from quantmill.recipe import lock as locks
from quantmill.recipe.recipe import Recipe, load
from quantmill.released import ReleasedFile
from quantmill.steps import convert

FILES = (ReleasedFile("r-Q8_0.gguf", "Q8_0", 3_000_000, 1), ReleasedFile("r-Q4_0.gguf", "Q4_0", 2_000_000, 1))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a GGUF file in F16, called Tiny."""
    folder = tmp_path_factory.mktemp("base")
    inputs = {p.name: Artifact(p, "", 0) for p in TINY.iterdir() if p.suffix in (".json", ".safetensors")}
    convert.run(inputs, {"type": "F16", "name": "Tiny", "generation": 1}, folder, Context())
    return folder / "model.gguf"


def recipe(folder: Path, base: str, more: str = "", matrix: str = '["Q8_0", "Q4_0"]') -> Recipe:
    path = folder / "r.toml"
    path.write_text(f'llama_cpp = "b5490"\n[base]\n{base}\n[quants]\nmatrix = {matrix}\n{more}')
    return load(path)


def page(wanted: Recipe) -> str:
    params = card_params(wanted, locks.write(wanted, sha256_file))
    return render(facts(params, FILES), "en")


def data(text: str) -> dict[str, Any]:
    return dict(ModelCard(text).data.to_dict())


def test_a_gguf_base_is_known_as_its_checkpoint_is(tmp_path: Path, converted: Path) -> None:
    found = page(recipe(tmp_path, f'gguf = "{converted}"'))
    same = page(recipe(tmp_path, f'path = "{TINY}"\nname = "Tiny"\nreadme = false'))
    assert "# Tiny in GGUF\n" in found
    assert "context takes" in found
    assert "tokens of context" in found
    rest = found.partition("\n## Prompt format")[2]
    assert rest.replace("r.lock", "") == same.partition("\n## Prompt format")[2].replace("r.lock", "")
    assert data(found).get("base_model") is None
    lock = json.loads((tmp_path / "r.lock").read_text())
    assert lock["config"] is not None
    assert "shape" not in lock


def test_the_type_is_read_from_a_gguf_base(tmp_path: Path, converted: Path) -> None:
    found = recipe(tmp_path, f'gguf = "{converted}"', matrix='["F16", "Q8_0"]')
    assert (found.base.type, found.base_file, found.ftypes) == ("F16", True, ("Q8_0",))
    assert recipe(tmp_path, 'gguf = "none.gguf"').base.type == "BF16"
    again = changed(converted, tmp_path / "again.gguf", general__file_type=15)
    assert recipe(tmp_path, f'gguf = "{again}"\nallow_requantize = true').base.type == "F16"


def test_the_recipe_names_what_a_gguf_base_was_made_of(tmp_path: Path, converted: Path) -> None:
    base = f'gguf = "{converted}"\nname = "Better"\noriginal = "someone/Tiny-Model"'
    found = page(recipe(tmp_path, base))
    assert "# Better in GGUF\n" in found
    assert "Original model: [someone/Tiny-Model](https://huggingface.co/someone/Tiny-Model)" in found
    assert (data(found)["base_model"], data(found)["base_model_relation"]) == ("someone/Tiny-Model", "quantized")
    found = page(recipe(tmp_path, f'{base}\nbase_model = ["a/b", "c/d"]'))
    assert data(found)["base_model"] == ["a/b", "c/d"]
    assert "# Tiny-Model in GGUF\n" in page(recipe(tmp_path, f'path = "{TINY}"\noriginal = "someone/Tiny-Model"'))


def test_metadata_name_what_a_gguf_base_was_made_of(tmp_path: Path, converted: Path) -> None:
    hub = "https://huggingface.co"
    more = {"general__base_model__count": 1, "general__base_model__0__repo_url": f"{hub}/meta/Big"}
    parent = changed(converted, tmp_path / "parent.gguf", **more)
    found = page(recipe(tmp_path, f'gguf = "{parent}"'))
    assert data(found)["base_model"] == ["meta/Big"]
    assert "base_model_relation" not in data(found)
    assert f"- Which was made of: [meta/Big]({hub}/meta/Big)\n" in found
    own = changed(parent, tmp_path / "own.gguf", general__source__repo_url=f"{hub}/someone/Tiny-Model")
    found = page(recipe(tmp_path, f'gguf = "{own}"'))
    assert data(found)["base_model"] == "someone/Tiny-Model"
    assert "meta/Big" not in found
    evil = changed(converted, tmp_path / "evil.gguf", general__source__repo_url="javascript:alert(1)")
    with read(evil) as file:
        assert "repo" not in about_gguf(file)


def test_what_a_card_may_have_besides(tmp_path: Path, converted: Path) -> None:
    (tmp_path / "more.md").write_text("## Notes\n\nBy *hand*.\n")
    more = (
        '[card]\nthumbnail = "https://example.org/a.png"\nsupport = "See https://example.org/thanks."\n'
        'extra = "more.md"\nprivate = true\n[publish]\nowner = "me"\n'
    )
    wanted = recipe(tmp_path, f'gguf = "{converted}"', more)
    found = page(wanted)
    assert data(found)["thumbnail"] == "https://example.org/a.png"
    assert "\n## Notes\n\nBy *hand*.\n\n## Prompt format\n" in found
    assert found.endswith("\n## Support\n\nSee <https://example.org/thanks>.\n")
    assert words("en")["download.private"] in found
    assert "llama-cli -hf me/r-GGUF:Q4_0\nollama run hf.co/me/r-GGUF:Q4_0\n" in found
    assert "[provenance.json](https://huggingface.co/me/r-GGUF/blob/main/provenance.json)" in found
    assert "quantmill reproduce me/r-GGUF" in found
    links = ("gist.github.com/Artefact2/", "llama.cpp/pull/", "blob/main/r.toml")
    assert [link for link in links if link not in found] == []
    lock = locks.load(wanted)
    assert lock is not None
    (tmp_path / "more.md").write_text("Other.\n")
    assert locks.drift(wanted, lock, sha256_file) == "the text of card.extra changed"
    (tmp_path / "more.md").unlink()  # who builds a release again has the lock alone
    assert locks.drift(wanted, lock, sha256_file) is None
    (tmp_path / "r.lock").unlink()
    with pytest.raises(UsageError, match=r"card\.extra: there is no file .*more\.md; give the path of a Markdown"):
        locks.write(wanted, sha256_file)


@pytest.mark.parametrize(
    ("base", "more", "message"),
    [
        ('repo = "a/b"\noriginal = "c/d"', "", "base.original: base.repo names the original already; remove it"),
        ('gguf = "a"\noriginal = "c"', "", "base.original: 'c' is not the name of a Hub repository like Qwen/Qwen3"),
        ('gguf = "a"\nbase_model = ["c"]', "", "base.base_model: 'c' is not the name of a Hub repository like Qwen"),
        ('gguf = "a"\nbase_model = 1', "", "base.base_model: 1 is not right here; give a string or a list of strings"),
        ('gguf = "a"\nname = "a\\nb"', "", "base.name: 'a\\nb' is empty or has characters that no page can show"),
        ('gguf = "a"', '[card]\nthumbnail = "a.png"', "card.thumbnail: 'a.png' is not the address of a picture like"),
        ('gguf = "a"', '[card]\nprivate = "yes"', "card.private: 'yes' is not right here; give true or false"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, base: str, more: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        recipe(tmp_path, base, more)
    assert str(error.value).startswith(f"{tmp_path / 'r.toml'}: {message}")
