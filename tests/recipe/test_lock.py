"""Locks and local bases: what is read of a folder, what a lock may say, and what download makes of it."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from projects import RECIPE, TINY, Project
from quantmill.architectures.errors import DamagedModel
from quantmill.artifact import Artifact, Context, silent
from quantmill.disk import sha256_file
from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf import GGUFError, Writer, kv, read
from quantmill.recipe import lock
from quantmill.recipe.recipe import Recipe, load
from quantmill.steps import download


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe over a copy of the tiny model, without a lock."""
    (tmp_path / "tiny").mkdir()
    for path in TINY.iterdir():
        if path.suffix in (".json", ".safetensors"):
            shutil.copy(path, tmp_path / "tiny")
    (tmp_path / "small.toml").write_text(RECIPE)
    return load(tmp_path / "small.toml")


def model(recipe: Recipe) -> Path:
    assert recipe.base.path
    return recipe.base.path


def test_a_lock_says_again_what_it_was_given(recipe: Recipe) -> None:
    made = lock.write(recipe, sha256_file)
    assert lock.load(recipe) == made
    assert lock.drift(recipe, made, sha256_file) is None
    assert sorted(made.files) == sorted([*(path.name for path in TINY.glob("*.json")), "model.safetensors"])


def test_a_base_is_locked_alike_from_wherever_the_recipe_is_read(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "small.toml"
    other.parent.mkdir()
    for given, path in (("../tiny", "../tiny"), (str(tmp_path / "tiny"), str(tmp_path / "tiny"))):
        other.write_text(RECIPE.replace('"tiny"', json.dumps(given)))
        assert lock.write(load(other), sha256_file).base == {"path": path}
        monkeypatch.chdir(tmp_path)
        assert lock.current(load(Path("other/small.toml")), True, sha256_file).base == {"path": path}
    recipe.path.write_text(RECIPE.replace('"tiny"', json.dumps(str(tmp_path / "tiny"))))
    assert lock.write(load(recipe.path), sha256_file).base == {"path": "tiny"}
    assert lock.current(load(Path("small.toml")), True, sha256_file).base == {"path": "tiny"}


def test_links_are_followed_and_folders_are_not(recipe: Recipe, tmp_path: Path) -> None:
    """As in the Hub's own cache, where every file of a snapshot is a link."""
    before = lock.resolve(recipe, sha256_file)
    for path in list(model(recipe).iterdir()):
        path.rename(tmp_path / f"blob-{path.name}")
        path.symlink_to(f"../blob-{path.name}")
    (model(recipe) / "below.json").mkdir()
    (model(recipe) / "original").mkdir()
    (model(recipe) / "original" / "config.json").write_text("{}")
    (model(recipe) / "gone.json").symlink_to("nowhere")
    for name in ("._config.json", "consolidated.safetensors", "notes.txt"):
        (model(recipe) / name).write_text("not read")
    assert lock.resolve(recipe, sha256_file) == before


def test_a_name_that_no_lock_can_hold(recipe: Recipe) -> None:
    with open(os.fsencode(model(recipe)) + b"/x\xff.json", "w") as file:
        file.write("{}")
    with pytest.raises(UsageError, match=r"'x\\udcff.json' cannot be the name of a base file; rename it there$"):
        lock.resolve(recipe, sha256_file)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"a": "\\ud800"}', "\xff"])
def test_a_broken_configuration_is_one_sentence(recipe: Recipe, text: str) -> None:
    (model(recipe) / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DamagedModel) as error:
        lock.resolve(recipe, sha256_file)
    problem = r"config\.json: (not valid JSON in UTF-8: |a model's configuration is a JSON object, found list$)"
    assert re.search(problem, str(error.value))
    assert "\n" not in str(error.value)
    assert not lock.path_of(recipe).exists()


def changes() -> Iterator[tuple[str, Callable[[Any], Any], str]]:
    def at(*keys: str, value: Any) -> Callable[[Any], Any]:
        def change(data: Any) -> Any:
            inner = data
            for key in keys[:-1]:
                inner = inner[key]
            inner[keys[-1]] = value
            return data

        return change

    fact = {"sha256": "0" * 64, "size": 1}
    for name in ("../x.json", "/etc/x", "a/b", "..", "", ".part", "a\nb", "C:x", "a\\b"):
        yield f"name {name!r}", at("files", name, value=fact), f"{name!r} cannot be the name of a base file"
    for sha256 in ("0" * 63, "G" * 64, "../../x", "0" * 64 + "\n"):
        yield f"sha256 {sha256[:8]!r}", at("files", "x", value={**fact, "sha256": sha256}), "x has no sha256 of 64 hex"
    for size in (-1, 1.5, True, "1", None):
        yield f"size {size!r}", at("files", "x", value={**fact, "size": size}), "x has no sha256 of 64 hex"
    yield (
        "commit",
        at("base", value={"repo": "a/b", "revision": "main", "commit": "../.."}),
        "it names no commit of a/b",
    )
    yield "no commit", at("base", value={"repo": "a/b", "revision": "main"}), "it names no commit of a/b"
    yield "format", at("format", value=99), "its format is 99, this quantmill reads 1"
    yield "config", at("config", value=[1]), "its config is no table"
    yield "list", lambda data: [data], "it is not a lock"
    yield "base", at("base", value=["path"]), "it is not a lock"
    yield "files", at("files", value=None), "it is not a lock"
    yield "fact", at("files", "x", value="0" * 64), "it is not a lock"


@pytest.mark.parametrize(("change", "problem"), [pytest.param(c, p, id=i) for i, c, p in changes()])
def test_a_lock_is_checked_when_it_is_read(recipe: Recipe, change: Callable[[Any], Any], problem: str) -> None:
    made = lock.write(recipe, sha256_file)
    lock.path_of(recipe).write_text(json.dumps(change(json.loads(made.text()))))
    with pytest.raises(UsageError) as error:
        lock.load(recipe)
    assert f"small.lock: {problem}" in str(error.value)
    assert str(error.value).endswith("small.toml' and commit the lock")


NO_LOCK = r"small\.lock: it is not a lock \(.*\); run 'quantmill lock .*small\.toml' and commit the lock$"


def test_a_deep_lock_is_no_lock(recipe: Recipe) -> None:
    lock.path_of(recipe).write_text("[" * 100_000)
    with pytest.raises(
        UsageError,
        match=NO_LOCK,
    ):
        lock.load(recipe)


def test_a_lock_that_is_no_text_is_written_anew(recipe: Recipe) -> None:
    path = lock.path_of(recipe)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(
        UsageError,
        match=NO_LOCK,
    ):
        lock.load(recipe)
    made = lock.write(recipe, sha256_file)
    assert lock.load(recipe) == made


def artifact(path: Path, data: bytes) -> Artifact:
    path.write_bytes(data)
    return Artifact(path, hashlib.sha256(data).hexdigest(), len(data))


def facts(**files: bytes) -> dict[str, Any]:
    return {"files": {n: {"sha256": hashlib.sha256(d).hexdigest(), "size": len(d)} for n, d in files.items()}}


def test_download_copies_what_is_here_and_passes_on_what_is_held(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "stranger").write_bytes(b"left by something else")
    (out / "folder").mkdir()
    here, held = artifact(tmp_path / "a", b"here"), artifact(tmp_path / "b", b"held!")
    (out / "a").write_bytes(b"old")
    (out / "a").chmod(0o444)  # killed while the store took it
    seen: list[tuple[int, int]] = []
    context = Context(1, lambda done, total: seen.append((done, total)))
    outputs = download.run({"a": here, "held/b": held}, facts(a=b"here", b=b"held!"), out, context)
    assert outputs == {"b": held}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {"a": b"here"}
    assert seen == [(4, 9), (9, 9)]


def test_download_refuses_what_the_lock_does_not_name(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(QuantmillError, match=r"/a: a has sha256 [0-9a-f]{16}…, the lock says [0-9a-f]{16}…; restore"):
        download.run({"a": artifact(tmp_path / "a", b"other")}, facts(a=b"here"), out, Context(1, silent))
    assert not list(out.iterdir())
    (tmp_path / "a").unlink()
    with pytest.raises(QuantmillError, match="/a: there is no such file; put it there"):
        download.run({"a": Artifact(tmp_path / "a", "", 0)}, facts(a=b"here"), out, Context(1, silent))


def test_a_base_that_changes_under_a_lock(project: Project) -> None:
    project.run("quantmill", "lock", "small")
    before = project.recipe.with_suffix(".lock").read_text()
    config = project.folder / "recipes" / "tiny" / "config.json"
    config.write_text(config.read_text().replace("{", '{"unused": 1,', 1))
    failed = project.run("quantmill", "build", "small", "--locked", check=2)
    assert failed.stderr == (
        "quantmill: recipes/small.lock: the recipe is to be built as locked, but config.json of the base changed; run "
        "'quantmill lock recipes/small.toml' and commit the lock\n"
    )
    assert project.recipe.with_suffix(".lock").read_text() == before
    project.run("quantmill", "lock", "small")
    assert project.recipe.with_suffix(".lock").read_text() != before


def test_what_is_left_out_of_a_vocabulary_is_said_wherever_the_base_is_named(project: Project) -> None:
    config = project.folder / "recipes" / "tiny" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sep_token_id": 99999}))
    size = json.loads(config.read_text())["vocab_size"]
    note = f"config.json gives the sep token the id 99999, and the vocabulary has {size} tokens: it is left out"
    assert f"note: {note}\n" in project.run("quantmill", "lock", "small").stdout
    assert json.loads(project.recipe.with_suffix(".lock").read_text())["notes"] == [note]
    assert f"note: {note}\n" in project.run("quantmill", "plan", "small").stdout
    assert note in project.run("doit", "preflight:small").stdout
    assert project.run("quantmill", "convert", "recipes/tiny", "x.gguf").stdout.startswith(f"note: {note}\n")


def test_a_gguf_base_that_does_not_load_is_refused_as_it_is_locked(recipe: Recipe, tmp_path: Path) -> None:
    with Writer(tmp_path / "base.gguf", [kv("general.architecture", "qwen2"), kv("tokenizer.ggml.model", "gpt2")], []):
        pass
    recipe.path.write_text(RECIPE.replace('path = "tiny"\nname = "Small"', 'gguf = "base.gguf"'))
    with pytest.raises(GGUFError, match=r"base.gguf: tokenizer.ggml.tokens is missing or no list of texts, so that"):
        lock.resolve(load(recipe.path), sha256_file)


def test_a_folder_of_chat_templates_is_read_and_no_other(project: Project) -> None:
    folder = project.folder / "recipes" / "tiny" / "additional_chat_templates"
    (folder / "deeper").mkdir(parents=True)
    for name in ("tool_use.jinja", "notes.txt", "deeper/x.jinja"):
        (folder / name).write_text("T")
    name = "additional_chat_templates/tool_use.jinja"
    assert [found for found in lock.write(load(project.recipe), sha256_file).files if "/" in found] == [name]
    project.run("doit", "convert:small")
    project.run("quantmill", "convert", "recipes/tiny", "x.gguf", "--name", "Small", "--llama-cpp", "b5490")
    pointer = json.loads((project.folder / "build" / "small" / "convert.json").read_text())
    assert pointer["model.gguf"]["sha256"] == sha256_file(project.folder / "x.gguf")
    with read(project.folder / "x.gguf") as file:
        assert file.metadata["tokenizer.chat_template.tool_use"].value == "T"


def test_a_base_that_changes_while_a_process_goes_on_is_read_again(project: Project) -> None:
    """What was read of a base is kept for the other recipes of it, by what its files hold."""
    recipe = load(project.recipe)
    before = lock.resolve(recipe, sha256_file)
    assert lock.resolve(recipe, sha256_file) == before
    config = project.folder / "recipes" / "tiny" / "config.json"
    config.write_text(config.read_text().replace("{", '{"more": "metadata",', 1))
    after = lock.resolve(recipe, sha256_file)
    assert (after.config or {})["more"] == "metadata"
    assert after.files != before.files
