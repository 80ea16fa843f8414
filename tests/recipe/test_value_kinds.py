"""What no key of a recipe takes: nothing, spaces, several lines; of a path of a file, that of a folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from projects import RECIPE
from quantmill.errors import UsageError
from quantmill.recipe.recipe import KEYS, LISTS, load
from quantmill.recipe.value_kinds import KINDS

EMPTY = ("", " ", "\t", "a\nb", "a\x1bb")
FOLDERS = (".", "..", "/", "x.gguf/", "x.gguf/.", "x/..")
# Keys for which more must be there, or something must not.
BASES = {
    "base.gguf": '[base]\ngguf = "m.gguf"\n',
    "base.repo": '[base]\nrepo = "a/b"\n',
    "base.revision": '[base]\nrepo = "a/b"\n',
    "base.path": '[base]\npath = "tiny"\n',
}


def told() -> Iterator[tuple[str, str]]:
    for key, kind in KEYS.items():
        if kind in ("string", "string or list", "list", "table", "file", "size"):
            yield from ((key, value) for value in EMPTY)
        if kind == "file":
            yield from ((key, value) for value in FOLDERS)
    for value in (*FOLDERS, "-/../x", "a b", "a..b", "a/.b"):
        yield "base.revision", value
    for value in ("../..", "a/..", "./a", "a/."):
        yield "base.repo", value


@pytest.mark.parametrize(("key", "value"), list(told()))
def test_a_value_that_says_nothing(key: str, value: str, tmp_path: Path) -> None:
    table, _, last = key.rpartition(".")
    written: Any = json.dumps(value)
    if KEYS[key] in ("list", "table"):
        written = f"[{written}]" if KEYS[key] == "list" else f"{{ {written} = {json.dumps('Q8_0')} }}"
    text = BASES[key].split("\n")[0] + "\n" if key in BASES and key != "base.revision" else BASES.get(key, "")
    line = f"{last} = {written}\n"
    if not table:
        text = line + RECIPE.replace('llama_cpp = "b5490"' if key == "llama_cpp" else 'prefix = "small"', "")
    elif table == "base":
        text = RECIPE[: RECIPE.index("[base]")] + (text or '[base]\npath = "tiny"\n') + line
        text += '[quants]\nmatrix = ["Q8_0"]\n'
    elif table == "quants":
        text = RECIPE[: RECIPE.index("[quants]")] + "[quants]\n" + line
    elif table in LISTS:
        text = f"{RECIPE}\n[[{table}]]\n{line}"
    else:
        text = f"{RECIPE}\n[{table}]\n{line}"
        text += '[calibration]\ntext = "text.txt"\n' if key == "imatrix.memory" else ""
    path = tmp_path / "small.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        load(path)
    said = str(error.value)
    assert said.startswith(f"{path}: {key}: ")
    assert "\n" not in said


def test_every_kind_is_known() -> None:
    assert set(KEYS.values()) == KINDS.keys()
