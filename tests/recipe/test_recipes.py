"""The recipes of real releases: planned and described offline, from what their locks know."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from card_facts import cells, numbers, structure
from projects import ROOT
from quantmill.build.graph import card_params
from quantmill.card.card_facts import CardFacts, facts
from quantmill.card.catalogue import LANGUAGES, page_name
from quantmill.card.page import render
from quantmill.errors import UsageError
from quantmill.forecast.plan import plan_of
from quantmill.recipe import lock as locks
from quantmill.recipe.recipe import Recipe, load
from quantmill.reference.ftypes import STANDARD_MATRIX
from quantmill.release.offer import of_recipe

# Recipe: base, llama.cpp tag, license (the last one's page states none), whether the template opens a <think>.
RELEASES = {
    "olympiccoder-32b": ("open-r1/OlympicCoder-32B", "b4867", "apache-2.0", True),
    "tessa-t1-3b": ("Tesslate/Tessa-T1-3B", "b4978", "apache-2.0", False),
    "qwen3-8b": ("Qwen/Qwen3-8B", "b5200", "apache-2.0", False),
    "qwq-32b-rpr-v4": ("ArliAI/QwQ-32B-ArliAI-RpR-v4", "b5432", "apache-2.0", True),
    "inf-o1-pi0": ("infly/inf-o1-pi0", "b5490", None, False),
}
# What the published files weigh, in GB of 10^9 bytes, in the order of their page.
SIZES_32B = """
bf16 65.54, Q8_0 34.82, Q6_K_L 27.26, Q6_K 26.89, Q5_K_L 23.74, Q5_K_M 23.26, Q5_K_S 22.64, Q4_1 20.64, Q4_K_L 20.43,
Q4_K_M 19.85, Q4_K_S 18.78, Q4_0 18.71, IQ4_NL 18.68, Q3_K_XL 17.93, IQ4_XS 17.69, Q3_K_L 17.25, Q3_K_M 15.94,
IQ3_M 14.81, Q3_K_S 14.39, IQ3_XS 13.71, Q2_K_L 13.07, IQ3_XXS 12.84, Q2_K 12.31, IQ2_M 11.26, IQ2_S 10.39, IQ2_XS 9.96,
IQ2_XXS 9.03
"""
SIZES = {
    "olympiccoder-32b": SIZES_32B,
    "qwq-32b-rpr-v4": SIZES_32B,
    "inf-o1-pi0": SIZES_32B,
    "qwen3-8b": "bf16 16.39, Q8_0 8.71, Q6_K_L 7.03, Q6_K 6.73, Q5_K_L 6.24, Q5_K_M 5.85, Q5_K_S 5.72",
    "tessa-t1-3b": "bf16 6.18, Q8_0 3.29, Q6_K_L 2.61, Q6_K 2.54",
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)


def recipe_of(name: str) -> Recipe:
    return load(ROOT / "recipes" / f"{name}.toml")


def published(name: str) -> list[tuple[str, float]]:
    return [(label, float(size)) for label, size in (row.split() for row in SIZES[name].strip().split(","))]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CardFacts]:
    """Each recipe's facts."""
    folder, found = tmp_path_factory.mktemp("root"), {}
    for name in RELEASES:
        recipe = recipe_of(name)
        offer = of_recipe(recipe, folder)
        found[name] = facts(card_params(recipe, offer.lock), offer.files, offer.bench, offer.chart)
    return found


def test_every_recipe_here_is_known() -> None:
    assert {path.stem for path in (ROOT / "recipes").glob("*.toml")} == {*RELEASES, "tiny"}


@pytest.mark.parametrize("name", RELEASES)
def test_a_plan_from_the_lock_alone(name: str, tmp_path: Path) -> None:
    repo, tag, _, _ = RELEASES[name]
    prefix = repo.replace("/", "_")
    recipe = recipe_of(name)
    assert (recipe.base.repo, recipe.llama_cpp, recipe.repo) == (repo, tag, f"quantmill/{prefix}-GGUF")
    plan = plan_of(recipe, tmp_path)
    assert len(plan.files) == 27
    assert {row.ftype for row in plan.files} == {"BF16", *STANDARD_MATRIX}
    assert [row.bytes for row in plan.files] == sorted((row.bytes for row in plan.files), reverse=True)
    for row, (label, size) in zip(plan.files, published(name), strict=False):
        split = size > 50
        assert row.name == (f"{prefix}-{label}/" if split else f"{prefix}-{label}.gguf")
        assert row.shards == (2 if split else 1)
        assert row.bytes / 1e9 == pytest.approx(size, abs=0.01)
        assert row.fallbacks == ()
    assert not plan.exact
    assert plan.tasks[f"download:{name}"].state == "run"


@pytest.mark.parametrize("name", RELEASES)
def test_a_page_from_the_lock_alone(name: str, known: dict[str, CardFacts]) -> None:
    repo, tag, license_, thinks = RELEASES[name]
    page = render(known[name], "en")
    data = ModelCard(page).data.to_dict()
    assert data["quantized_by"] == "quantmill"
    assert data["pipeline_tag"] == "text-generation"
    assert data["base_model"] == repo
    assert data["base_model_relation"] == "quantized"
    assert data.get("license") == license_
    assert f"[{tag}](https://github.com/ggml-org/llama.cpp/releases/tag/{tag})" in page
    assert f"[{repo}](https://huggingface.co/{repo})" in page
    assert "[calibration_datav3.txt](https://gist.github.com/bartowski1182/" in page
    turns = "<|im_start|>system\n{system_prompt}<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n"
    assert turns + "<|im_start|>assistant\n" + ("<think>\n```" if thinks else "```") in page
    prefix = repo.replace("/", "_")
    rows = [row for row in cells(page) if row[0].startswith(f"[{prefix}-")]
    hub = f"https://huggingface.co/quantmill/{prefix}-GGUF"
    for row, (label, size) in zip(rows, published(name), strict=False):
        split = size > 50
        link = f"[{prefix}-{label}/]({hub}/tree/main/{prefix}-{label})"
        assert row[0] == (link if split else f"[{prefix}-{label}.gguf]({hub}/blob/main/{prefix}-{label}.gguf)")
        assert row[1] == label.replace("bf16", "BF16")
        assert float(row[2].removesuffix(" GB")) == pytest.approx(size, abs=0.0101)
        assert row[3] == ("yes, 2 parts" if split else "no")
    assert len(rows) == 27
    assert ("In this model one matrix serves as both." in page) == (name == "tessa-t1-3b")
    for language in LANGUAGES[1:]:
        other = render(known[name], language)
        assert structure(other) == structure(page)
        assert numbers(other)[3:] == numbers(page)[3:]


def test_a_linter_finds_nothing_in_their_pages(known: dict[str, CardFacts], tmp_path: Path) -> None:
    for name in RELEASES:
        for language in LANGUAGES:
            (tmp_path / f"{name}-{page_name(language)}").write_text(render(known[name], language))
    options = ("-d", "MD013", "--set", "extensions.front-matter.enabled=$!True")
    program = (sys.executable, "-m", "pymarkdown", *options, "scan", str(tmp_path))
    done = subprocess.run(program, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize("name", RELEASES)
def test_what_only_the_hub_knows_is_open_and_said(name: str) -> None:
    recipe = recipe_of(name)
    lock = locks.load(recipe)
    assert lock is not None
    if lock.files:  # somebody locked it: then nothing is open
        assert lock.unresolved == ()
        return
    open_ = "base.commit, files, calibration, metadata_bytes, about"
    assert ", ".join(lock.unresolved) == open_
    for locked in (True, False):
        with pytest.raises(UsageError) as error:
            locks.current(recipe, locked, lambda path: "")
        assert str(error.value) == (
            f"{recipe.path.with_suffix('.lock')}: it is not resolved yet ({open_}); run 'quantmill lock {recipe.path}' "
            "and commit the lock"
        )


def test_a_lock_says_what_is_open_as_texts(tmp_path: Path) -> None:
    recipe = recipe_of("tiny")
    (tmp_path / "tiny.toml").write_text(recipe.path.read_text())
    data = json.loads(recipe.path.with_suffix(".lock").read_text()) | {"unresolved": [1]}
    (tmp_path / "tiny.lock").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=re.escape("tiny.lock: its unresolved is no list of texts; run ")):
        locks.load(load(tmp_path / "tiny.toml"))
