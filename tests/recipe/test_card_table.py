"""[card] and [publish] of a recipe, and what a model says of itself: read into the page, or refused in one sentence."""

import json
from pathlib import Path

import pytest

from card_facts import made
from projects import Project
from quantmill.card import prompt
from quantmill.card.page import render
from quantmill.checkpoint.about import LENGTH, about
from quantmill.errors import UsageError
from quantmill.recipe.recipe import load

BASE = 'llama_cpp = "b5490"\n[base]\nrepo = "a/b_c"\n[quants]\nmatrix = ["Q8_0"]\n'


def recipe(folder: Path, text: str) -> Path:
    path = folder / "r.toml"
    path.write_text(BASE + text)
    return path


def test_where_a_release_is_published(tmp_path: Path) -> None:
    assert load(recipe(tmp_path, "")).repo is None
    assert load(recipe(tmp_path, '[publish]\nowner = "me"')).repo == "me/a_b_c-GGUF"
    assert load(recipe(tmp_path, '[publish]\nrepo = "me/other"')).repo == "me/other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[publish]\nowner = "me"\nrepo = "me/x"', "publish.repo: it holds the owner already; remove publish.owner"),
        ("[publish]\nkeep_files = 0", "publish.keep_files: a file that is made is kept meanwhile; give 1 or more"),
        ('[publish]\nowner = "a/b"', "publish.owner: 'a/b' is not the name of a Hub user or organization"),
        (
            '[publish]\nrepo = "x"',
            "publish.repo: 'x' is not the name of a Hub repository like someone/Qwen",
        ),
        ('[publish]\nrepo = "../x"', "publish.repo: '../x' is not the name of a Hub repository like"),
        ('[card]\nlanguage = ["English"]', "card.language: 'English' is not a language's code like en or zh-TW"),
        (
            '[card]\ndatasets = ["a/b/c"]',
            "card.datasets: 'a/b/c' is not the name of a Hub data set like open-r1/",
        ),
        (
            '[card]\nlicense = "a\\nb"',
            "card.license: 'a\\nb' is empty or has characters that no page can",
        ),
        ('[card]\ntags = ["a\\u001b[31m"]', "card.tags: 'a\\x1b[31m' is empty or has characters that no"),
        ('[card]\ntags = "gguf"', "card.tags: 'gguf' is not right here; give a list of strings"),
        ('[card]\nlicence = "mit"', "card.licence: there is no such key (did you mean card.license?)"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = recipe(tmp_path, text)
    with pytest.raises(UsageError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: {message}")


def test_what_a_model_says_of_itself(tmp_path: Path) -> None:
    texts = {
        "README.md": "---\nlicense: mit\nlanguage: no\nlicense_name:\n- [a]\ndatasets:\n- a/b\n- {x: y}\n- 3\n"
        f"pipeline_tag: '{'x' * 9999}'\n---\n# x\n",
        "tokenizer_config.json": json.dumps(
            {
                "bos_token": {"content": "<s>"},
                "eos_token": "</s>\n",
                "chat_template": [{"name": "default", "template": "T"}, {"name": "tools", "template": "U"}],
            }
        ),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert about({name: tmp_path / name for name in texts}) == {
        "license": "mit",
        "language": ["no"],
        "pipeline_tag": "x" * LENGTH,
        "datasets": ["a/b", "3"],
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": "T",
    }
    assert about({}) == {}


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ("[mit, apache-2.0]", ["mit", "apache-2.0"]),
        ("[mit]", "mit"),
        ("[]", None),
        ("{a: b}", None),
        ("false", None),
        ("2024-01-31", None),
        ("1.0", "1.0"),
        ("", None),
    ],
)
def test_a_license_of_any_kind_is_read(tmp_path: Path, stated: str, found: object) -> None:
    (tmp_path / "README.md").write_text(f"---\nlicense: {stated}\ntags: one\nbase_model: {{a: b}}\n---\n")
    assert about({"README.md": tmp_path / "README.md"}).get("license") == found


def test_several_licenses_are_all_on_the_page() -> None:
    page = render(made(front={"license": ["mit", "apache-2.0"]}), "en")
    assert "\nlicense:\n- mit\n- apache-2.0\n" in page
    assert "mit, apache-2.0" in page.split("---\n", 2)[2]


def test_a_readme_that_cannot_be_read_can_be_left_out(project: Project) -> None:
    (project.folder / "recipes" / "tiny" / "README.md").write_text("---\nlicense: mit: x\n---\n")
    said = "README.md's front matter is not valid YAML at line 2; correct it, or leave the file out by "
    assert said + "`[base] readme = false`\n" in project.run("quantmill", "lock", "small", check=1).stderr
    assert said + "--no-readme\n" in project.run("quantmill", "convert", "recipes/tiny", "x.gguf", check=1).stderr
    project.run("quantmill", "convert", "recipes/tiny", "x.gguf", "--no-readme")
    project.edit('name = "Small"', 'name = "Small"\nreadme = false')
    project.run("quantmill", "lock", "small")
    written = json.loads(project.recipe.with_suffix(".lock").read_text())
    assert written["base"] == {"path": "tiny", "readme": "false"}
    assert "README.md" not in written["files"]
    project.edit("readme = false", "readme = true")
    assert "the recipe's base is path tiny and the lock's is" in project.run("quantmill", "build", "small", "--locked",
                                                                             check=2).stderr  # fmt: skip


def test_a_gguf_base_says_it_too(project: Project) -> None:
    project.run("quantmill", "convert", "recipes/tiny", "recipes/base.gguf", "--type", "F16")
    project.run("quantmill", "card", "small", "-o", "hf")
    project.edit('path = "tiny"\nname = "Small"', 'gguf = "base.gguf"\ntype = "F16"')
    project.edit('["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', '["F16", "Q8_0", "Q4_K_M", "Q2_K"]')
    project.run("quantmill", "lock", "small")
    said = json.loads(project.recipe.with_suffix(".lock").read_text())["about"]
    assert said["eos_token"] == "<|im_end|>"
    project.run("quantmill", "card", "small", "-o", "gguf")
    found = {name: (project.folder / name / "README.md").read_text() for name in ("hf", "gguf")}
    block = "```text\n<|im_start|>system\n{system_prompt}<|im_end|>\n"
    assert all(block in page for page in found.values())


@pytest.mark.parametrize(
    "template",
    [
        "{{ lipsum() }}",
        "{{ range(1000) | random }}",
        "{{ raise_exception }}",
        "{{ messages.copy }}",
        "{{ messages[0].get }}",
        "{{ cycler('a') }}",
    ],
)
def test_a_prompt_holds_nothing_that_chance_decides(template: str) -> None:
    """Random words and addresses in memory would make another page each time."""
    pages = {prompt.prompt_of({"chat_template": template + "{{ messages[-1].content }}"}) for _ in range(2)}
    (found,) = pages
    assert found is not None
    assert found.refused or found.text == "{prompt}"
