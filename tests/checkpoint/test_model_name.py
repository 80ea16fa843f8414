"""What the converter reads out of a model's name, and what it makes of a card."""

import re
from pathlib import Path
from typing import Any

import pytest

from quantmill.architectures.checkpoint_tensors import TensorSpec
from quantmill.architectures.errors import ModelError
from quantmill.checkpoint.general_keys import general
from quantmill.checkpoint.model_name import Components, components, size_label, title
from quantmill.checkpoint.readme import load
from quantmill.errors import UsageError
from quantmill.reference.llama_cpp.b4867 import B4867

LEFT_OUT = ", or leave the file out by `[base] readme = false`"
# Expected values are those of gguf-py at b5490 (Metadata.get_model_id_components); 200,000 random names agreed too.
NAMES = [
    ("Qwen2.5-32B-Instruct", 0, Components("Qwen2.5-32B-Instruct", None, "Qwen2.5", "Instruct", None, "32B")),
    (
        "open-r1/OlympicCoder-32B",
        32_763_876_352,
        Components("OlympicCoder-32B", "open-r1", "OlympicCoder", None, None, "32B"),
    ),
    ("Mistral-8x7B-v0.1", 0, Components("Mistral-8x7B-v0.1", None, "Mistral", None, "v0.1", "8x7B")),
    ("Llama-3.1-8B-128k", 8_000_000_000, Components("Llama-3.1-8B-128k", None, "Llama-3.1", "128k", None, "8B")),
    ("bloom-7b1", 0, Components("bloom-7b1", None, "bloom", None, None, "7.1B")),
    ("phi-small-3B", 0, Components("phi-small-3B", None, "phi-small", None, None, "3B")),
    ("SomeModel", 0, Components("SomeModel")),
    ("./7B-chat", 0, Components("7B-chat", None, None, "7B-chat", None, None)),
    ("a title in words", 0, Components("a title in words")),
]


@pytest.mark.parametrize(("name", "parameters", "expected"), NAMES)
def test_components(name: str, parameters: int, expected: Components) -> None:
    assert components(name, parameters) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("qwen2.5-32b-Instruct", "Qwen2.5 32b Instruct"), ("QwQ-v2-r1", "QwQ v2 R1"), ("open-r1", "Open R1")],
)
def test_title(text: str, expected: str) -> None:
    assert title(text) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((32_763_876_352, 0, 0, 0), "33B"),
        ((494_032_768, 0, 0, 0), "494M"),
        ((3_085_938_688, 0, 0, 0), "3.1B"),
        ((8_400, 0, 0, 0), "8.4K"),
        ((0, 1_300_000_000, 5_600_000_000, 8), "8x6.9B"),
        ((1_500_000_000_000, 0, 0, 0), "1.5T"),
    ],
)
def test_size_label(counts: tuple[int, int, int, int], expected: str) -> None:
    assert size_label(*counts) == expected


def entries(card: dict[str, Any], config: dict[str, Any] | None = None, name: str | None = "m") -> dict[str, Any]:
    found = general(B4867, card, config or {}, name, [TensorSpec("t", (5000,), (), True)], "qwen2")
    return {entry.key.removeprefix("general."): entry.value for entry in found}


def test_a_card_wins_over_the_config_and_the_config_over_the_name() -> None:
    config = {"_name_or_path": "org/Base-7B-chat"}
    assert entries({"model_name": "Nice"}, config, "Other-1B")["name"] == "Nice"
    assert entries({}, config, "Other-1B") == {
        "architecture": "qwen2",
        "type": "model",
        "name": "Base 7B Chat",
        "organization": "Org",
        "finetune": "7b-chat",  # far from 5000 weights, so no size
        "basename": "Base",
        "size_label": "5.0K",
    }
    assert entries({}, {"_name_or_path": "/home/me/models/x"}, "Other-1B")["name"] == "Other 1B"


def test_parents_and_lists() -> None:
    card = {
        "license": ["mit", "other"],
        "base_model": ["a/B-v2", "https://huggingface.co/c/d", "https://example.org/x", {"name": "X", "doi": 7}],
        "datasets": "e/f",
        "tags": ["t"],
        "pipeline_tag": "text-generation",
        "language": "en",
    }
    found = entries(card)
    assert found["license"] == "mit,other"
    assert found["base_model.count"] == 4
    assert [found.get(f"base_model.{index}.name") for index in range(4)] == ["B v2", "D", None, "X"]
    assert [found.get(f"base_model.{index}.repo_url") for index in range(4)] == [
        "https://huggingface.co/a/B-v2",
        "https://huggingface.co/c/d",
        "https://example.org/x",
        None,
    ]
    assert (found["base_model.0.version"], found["base_model.3.doi"]) == ("v2", "7")
    assert (found["dataset.count"], found["dataset.0.organization"]) == (1, "E")
    assert (found["tags"], found["languages"]) == (["t", "text-generation"], ["en"])


def test_a_number_that_python_makes_no_text_of_is_said() -> None:
    with pytest.raises(ModelError) as error:
        entries({"author": 16**5000})
    assert str(error.value) == "README.md's front matter has a number of thousands of digits; a text would be right"


def test_a_model_without_a_name_is_said() -> None:
    with pytest.raises(UsageError, match=r"^nothing names the model: the recipe's `\[base\] name` would$"):
        entries({}, name=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# no front matter\n", {}),
        ("---\nlanguage:\n- no\n- en\n---\nnot: this\n", {"language": ["no", "en"]}),
        ("---\n- a list\n---\n", {}),
        ("---\na: 1\n", {"a": 1}),
        ("---\nA rule: and: a text\n", {}),
        ("---\n---\n", {}),
        ("---\r\nlicense: mit\r\n---\r\n", {"license": "mit"}),
        ("\ufeff--- \nlicense: mit\n---  \nx: y: z", {"license": "mit"}),
        ("---\nlicense: mit\ntags:\n\t- a\n\t- b\t\n---\n", {"license": "mit", "tags": ["a", "b"]}),
        (b"---\nauthor: Ren\xe9 \xc3\xa9\n---\n caf\xe9 \xff\n", {"author": "Ren\u00e9 \u00e9"}),
    ],
)
def test_front_matter(tmp_path: Path, text: str | bytes, expected: dict[str, Any]) -> None:
    (tmp_path / "README.md").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert load(tmp_path / "README.md") == expected


def test_bad_front_matter_is_said(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\na: b: c\n---\n")
    right = rf"correct it{re.escape(LEFT_OUT)}"
    with pytest.raises(ModelError, match=rf"^README.md's front matter is not valid YAML at line 2; {right}$"):
        load(tmp_path / "README.md")


@pytest.mark.parametrize(
    "value",
    ["2024-02-30", "!!int x", "!!int ''", "!!float x", "!!bool x", "!!timestamp x", "1:" * 400 + "1.5", "[" * 10_000],
)
def test_a_value_that_yaml_cannot_make_is_said(tmp_path: Path, value: str) -> None:
    (tmp_path / "README.md").write_text(f"---\na: {value}\n---\n")
    with pytest.raises(ModelError, match=r"^README.md's front matter is not valid YAML; correct it, or leave"):
        load(tmp_path / "README.md")


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
        f"a: &a {'x' * 10_000}\nb: [{', '.join(['*a'] * 2_000)}]\n",
        "a: &a [*a]\n",
        "a: &a {b: *a, c: *a}\n",
        "a: &a [*a, *a]\n",
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40)),
        f"a: &a {{? {'x' * 10_000} : 1}}\nb: [{', '.join(['*a'] * 2_000)}]\n",
    ],
)
def test_front_matter_without_an_end_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(f"---\n{text}---\n")
    with pytest.raises(ModelError) as error:
        load(tmp_path / "README.md")
    assert str(error.value) == (
        f"README.md's front matter has aliases that make it endless; write out what they stand for{LEFT_OUT}"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 300)),
            "has values in values, 301 deep, and 100 at most are read; correct it",
        ),
        ("a: " + "1:" * 200_000 + "1\n", "has a number of thousands of digits; write a text"),
        ("a: " + "9" * 5000 + "\n", "has a number of thousands of digits; write a text"),
        ("a: " + "x" * 2_000_000 + "\n", "has 2,000,004 characters, and at most 2,000,000 are read; shorten it"),
    ],
)
def test_front_matter_that_would_take_long_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "README.md").write_text(f"---\n{text}---\n")
    with pytest.raises(ModelError) as error:
        load(tmp_path / "README.md")
    assert str(error.value) == f"README.md's front matter {said}{LEFT_OUT}"


def test_a_merge_is_a_table_s_values(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\na: &a {b: 1}\nd: {<<: *a, c: 2}\n---\n")
    assert load(tmp_path / "README.md") == {"a": {"b": 1}, "d": {"b": 1, "c": 2}}


def test_aliases_that_end_are_fine(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\na: &a [b, c]\nd: *a\n---\n")
    assert load(tmp_path / "README.md") == {"a": ["b", "c"], "d": ["b", "c"]}


def test_front_matter_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\na: !!python/object/apply:os.system [true]\n---\n")
    with pytest.raises(ModelError, match="is not valid YAML"):
        load(tmp_path / "README.md")
