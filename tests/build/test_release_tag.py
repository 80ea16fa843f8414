"""A release's tag, its statement, and what it holds of its own making."""

import hashlib
import json
from dataclasses import replace
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from projects import RECIPE, ROOT, TINY, Project
from quantmill.build import release_tag
from quantmill.disk import sha256_file
from quantmill.errors import UsageError
from quantmill.recipe import lock as locks
from quantmill.recipe import toml_text
from quantmill.steps import STEPS
from quantmill.recipe.recipe import load
from quantmill.store.key import canonical
from quantmill.store.local import Store

BASE = sorted(f"tiny/{path.name}" for path in TINY.iterdir() if path.suffix in (".json", ".safetensors"))
KEYS = st.text(max_size=8)
SCALARS = st.text(max_size=12) | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
VALUES = st.recursive(
    SCALARS | st.lists(SCALARS, max_size=3),
    lambda inner: (
        st.dictionaries(KEYS, inner, max_size=3) | st.lists(st.dictionaries(KEYS, inner, max_size=2), max_size=2)
    ),
    max_leaves=8,
)
CALIBRATED = (
    RECIPE.replace("[quants]", '[calibration]\ntext = "text.txt"\nchunks = 2\n\n[quants]')
    + '\n[publish]\nowner = "someone"\n'
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_toml_text_reads_as_what_it_was_made_of(data: dict[str, Any]) -> None:
    assert tomli.loads(toml_text.text(data)) == data


@pytest.fixture
def calibrated(make_project: Callable[..., Project]) -> Project:
    project = make_project(text=CALIBRATED)
    shutil.copy(ROOT / "recipes" / "tiny" / "calibration.txt", project.folder / "recipes" / "text.txt")
    return project


def tag(project: Project) -> str:
    recipe = load(project.recipe)
    return release_tag.tag(recipe, locks.peek(recipe, sha256_file))


def test_the_tag_is_llama_cpp_s_and_12_hex(calibrated: Project) -> None:
    assert re.fullmatch(r"b5490-[0-9a-f]{12}", tag(calibrated))
    before = tag(calibrated)
    calibrated.recipe.write_text(
        "# a comment\n" + CALIBRATED.replace(" = ", "  =  ").replace("[quants]", "[quants] # x")
    )
    assert tag(calibrated) == before


def neighbours(data: bytes) -> Iterator[bytes]:
    """The text with one byte other than it was, each in turn: the next character, another case, a digit."""
    for at, byte in enumerate(data):
        for other in {byte ^ 1, byte ^ 32, 48 + byte % 10} - {byte}:
            yield data[:at] + bytes([other]) + data[at + 1 :]


def test_the_tag_moves_with_any_byte_of_the_recipe(calibrated: Project) -> None:
    """A recipe with another byte is refused, or says the same (a comment, a space, a quote), or has another tag."""
    digest = cache(sha256_file)
    recipe = load(calibrated.recipe)
    lock = locks.peek(recipe, digest)
    before, said = release_tag.tag(recipe, lock), canonical(recipe.data)
    outcomes = Counter[str]()
    seen = {before: said}
    for data in neighbours((CALIBRATED + "# a comment\n").encode()):
        calibrated.recipe.write_bytes(data)
        try:
            found = load(calibrated.recipe)
            tagged = release_tag.tag(found, locks.peek(found, digest))
        except UsageError:
            outcomes["refused"] += 1
            continue
        same = canonical(found.data) == said
        assert (tagged == before) == same, data
        outcomes["same" if same else "moved"] += 1
        assert seen.setdefault(tagged, canonical(found.data)) == canonical(found.data)
    assert outcomes["moved"] > 50
    assert outcomes["refused"] > 300
    assert outcomes["same"] > 10


def test_the_tag_moves_with_any_byte_of_the_lock(calibrated: Project) -> None:
    """As above: what JSON takes for the same, spaces between its values, is what no byte of a release is made of."""
    recipe = load(calibrated.recipe)
    lock, path = locks.write(recipe, sha256_file), locks.path_of(recipe)
    text = json.dumps({**json.loads(lock.text()), "config": {"hidden_size": 64}, "about": {"chat_template": "{{ x }}"}})
    whole = locks.parse(path, text)
    before = release_tag.tag(recipe, whole)
    outcomes = Counter[str]()
    for data in neighbours(text.encode()):
        try:
            found = locks.parse(path, data.decode())
        except (UsageError, UnicodeDecodeError):
            outcomes["refused"] += 1
            continue
        same = json.loads(data) == json.loads(text)
        assert (release_tag.tag(recipe, found) == before) == same, data
        outcomes["same" if same else "moved"] += 1
    assert outcomes["moved"] > 500
    assert outcomes["refused"] > 300


@pytest.mark.parametrize("name", ["text.txt", *BASE])
def test_the_tag_moves_with_any_byte_of_text_or_base(calibrated: Project, name: str) -> None:
    """Through the store's memory of digests, which must notice a write that leaves the size as it is."""
    recipe, path = load(calibrated.recipe), calibrated.folder / "recipes" / name
    store = Store(calibrated.folder / "cache")
    before = tag(calibrated)
    size = path.stat().st_size
    first = 0
    if name.endswith(".safetensors"):  # a header that is no JSON is refused
        first = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    at = (
        [first, size - 1, *random.Random(name).sample(range(first + 1, size - 1), 8)]
        if name.endswith((".txt", ".safetensors"))
        else []
    )
    if not at:  # JSON, of which another byte may be refused: what is between two values
        data = path.read_bytes()
        at = [where for where in (data.find(b" "), data.rfind(b" ")) if where >= 0] or [data.index(b"\n")]
    tags = {before}
    for where in at:
        with open(path, "r+b") as file:
            file.seek(where)
            byte = file.read(1)[0]
            file.seek(where)
            file.write(bytes([9 if byte in b" \n" else byte ^ 1]))
        lock = locks.peek(recipe, store.hints.digest_of)
        tags.add(release_tag.tag(recipe, lock))
    assert len(tags) == 1 + len(set(at))


def test_the_tag_moves_with_lock_name_generation_and_steps(
    calibrated: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load(calibrated.recipe)
    lock = locks.peek(recipe, sha256_file)
    seen = {release_tag.tag(recipe, lock)}
    path = locks.path_of(recipe)
    locks.write(recipe, sha256_file)
    text = path.read_text()
    path.write_text(text.replace(lock.files["config.json"].sha256, "0" * 64))
    seen.add(release_tag.tag(recipe, locks.load(recipe) or lock))
    path.write_text(text)
    assert release_tag.tag(recipe, locks.load(recipe) or lock) in seen
    other = calibrated.recipe.rename(calibrated.recipe.with_name("smaller.toml"))
    seen.add(release_tag.tag(load(other), lock))
    monkeypatch.setitem(STEPS, "quant", replace(STEPS["quant"], version=999))
    seen.add(release_tag.tag(recipe, lock))
    assert len(seen) == 4


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One release, with an importance matrix computed over two chunks."""
    project = Project(tmp_path_factory.mktemp("proof"))
    shutil.copytree(ROOT / "recipes" / "tiny", project.folder / "recipes" / "tiny")
    shutil.copy(ROOT / "recipes" / "tiny" / "calibration.txt", project.folder / "recipes" / "text.txt")
    project.recipe.write_text(CALIBRATED)
    project.run("quantmill", "build", "small")
    return project


def test_it_holds_recipe_lock_and_matrix(built: Project) -> None:
    files = built.release()
    assert tomli.loads(files["small.toml"].decode()) == tomli.loads(CALIBRATED)
    assert files["small.lock"] == (built.folder / "recipes" / "small.lock").read_bytes()
    pointer = json.loads((built.folder / "build" / "small" / "imatrix.json").read_bytes())
    assert hashlib.sha256(files["small.imatrix"]).hexdigest() == pointer["imatrix.dat"]["sha256"]


def test_plan_and_release_say_the_same_tag(built: Project) -> None:
    plan = json.loads(built.run("quantmill", "plan", "small", "--json").stdout)
    assert json.loads(built.release()["release.json"])["tag"] == plan["release_tag"] == tag(built)
    assert f"release {tag(built)}" in built.run("quantmill", "plan", "small").stdout


def test_the_statement_names_everything_by_its_digest(built: Project) -> None:
    files = built.release()
    statement = json.loads(files.pop("provenance.json"))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert {entry["name"]: entry["digest"]["sha256"] for entry in statement["subject"]} == digests
    made = statement["predicate"]["buildDefinition"]
    found = {entry["name"]: entry for entry in made["resolvedDependencies"]}
    base = {f"download/{path.name}": path for path in (built.folder / "recipes" / "tiny").iterdir()}
    for name, path in {**base, "calibration/text-1.txt": built.folder / "recipes" / "text.txt"}.items():
        if path.suffix in (".json", ".safetensors") or name.startswith("calibration/"):
            assert found[name]["digest"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["small.lock"]["digest"]["sha256"] == digests["small.lock"]
    assert found["quantmill"]["annotations"]["generation"] == 1
    reports = {entry["name"] for entry in statement["predicate"]["runDetails"]["byproducts"]}
    assert reports == {"BF16.json", "Q8_0.json", "Q4_K_M.json", "Q2_K.json"}


def test_clean_removes_all_of_it(built: Project, tmp_path: Path) -> None:
    copy = Project(tmp_path / "copy")
    shutil.copytree(built.folder, copy.folder, symlinks=True)
    shutil.copy(ROOT / "dodo.py", copy.folder / "dodo.py")
    (copy.folder / "dodo.py").write_text((ROOT / "dodo.py").read_text().replace('"tiny"', '"small"'))
    copy.run("doit")
    copy.run("doit", "clean", "-a")
    assert not (copy.folder / "release" / "small").exists()
