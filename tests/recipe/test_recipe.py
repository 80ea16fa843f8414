"""Recipes: what is accepted, and one clear sentence for everything else."""

import re
from pathlib import Path

import pytest

from projects import ROOT
from quantmill.errors import UsageError
from quantmill.recipe.recipe import KEYS, load
from quantmill.reference.ftypes import STANDARD_MATRIX
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.units import parse_size

GOOD = """
llama_cpp = "b5490"
[base]
path = "model"
[quants]
matrix = ["BF16", "Q4_K_M", "q8_0"]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "r.toml"
    path.write_text(text)
    return path


def test_a_small_recipe(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, GOOD))
    assert (recipe.name, recipe.prefix, recipe.llama_cpp, recipe.generation) == ("r", "r", "b5490", 1)
    assert recipe.ftypes == ("Q4_K_M", "Q8_0")
    assert recipe.base_file
    assert recipe.base.path == tmp_path / "model"
    assert recipe.max_size == 50_000_000_000


def test_the_standard_matrix_is_the_base_and_26_ftypes(tmp_path: Path) -> None:
    text = GOOD.replace('["BF16", "Q4_K_M", "q8_0"]', '"standard"')
    text += f'[imatrix]\nfile = "i.dat"\nsha256 = "{"0" * 64}"\n'
    recipe = load(write(tmp_path, text))
    assert recipe.ftypes == STANDARD_MATRIX
    assert len(recipe.ftypes) == 26
    assert recipe.base_file
    assert recipe.imatrix is not None
    assert recipe.imatrix.name == "i.dat"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'llama_cpp = "b5490"',
            "llama_cpp = 5490",
            "llama_cpp: 5490 is not right here; give a string that is not empty",
        ),
        (
            'llama_cpp = "b5490"',
            'llama_cpp = "b1"',
            "llama_cpp: llama.cpp b1 is not supported; admit it with quantmill admit; the nearest tags that are: b4867",
        ),
        (
            'llama_cpp = "b5490"',
            'llama_cpp = "b5490"\nlama_cpp = "b5490"',
            "lama_cpp: there is no such key (did you mean llama_cpp?)",
        ),
        ("[quants]", "[quant]", "quant: there is no such key (did you mean quants?)"),
        (
            "[quants]",
            "[evaluaton]\nn_ctx = 512\n[quants]",
            "evaluaton: there is no such key (did you mean evaluation?)",
        ),
        ('path = "model"', 'pth = "model"', "base.pth: there is no such key (did you mean base.path?)"),
        (
            "[quants]",
            "[quants.override]\noutput = 'Q8_0'\n[quants]",
            "quants.override: this must be a list of tables; begin each with [[quants.override]]",
        ),
        (
            'path = "model"',
            'path = "model/.."',
            "base.name: 'model/..' does not end in a name; give the model's here",
        ),
        ('path = "model"', "", "base: found none of them; give exactly one of repo, path and gguf"),
        (
            'path = "model"',
            'path = "model"\nrepo = "a/b"',
            "base: found repo and path; give exactly one of repo, path and gguf",
        ),
        ('path = "model"', 'repo = "b"', "base.repo: 'b' is not the name of a Hub repository like Qwen/Qwen3-8B"),
        (
            'path = "model"',
            'path = "model"\nrevision = "main"',
            "base.revision: only a Hub repository (base.repo) has revisions; remove it",
        ),
        (
            'path = "model"',
            'path = "model"\npre_tokenizer = "qwen3"',
            "base.pre_tokenizer: 'qwen3' is no pre-tokenizer of llama.cpp b4867 to b5490 (did you mean qwen2?): "
            + "known are "
            + ", ".join(B4867.pre_tokenizers),
        ),
        ('path = "model"', 'path = "model"\ntype = "Q8_0"', "base.type: 'Q8_0' is not one of BF16, F16, F32"),
        ('["BF16", "Q4_K_M", "q8_0"]', '["Q8_0", "Q8_0"]', "quants.matrix: Q8_0 is listed twice; once is enough"),
        (
            '["BF16", "Q4_K_M", "q8_0"]',
            '"usual"',
            "quants.matrix: 'usual' is not a matrix; write \"standard\" or a list of ftypes",
        ),
        (
            '["BF16", "Q4_K_M", "q8_0"]',
            '["IQ2_XXS"]',
            "quants.matrix: IQ2_XXS needs an importance matrix; give a text in [calibration] or a file in [imatrix], "
            "or leave it out",
        ),
        (
            "[quants]",
            '[split]\nmax_size = "50 apples"\n[quants]',
            "split.max_size: '50 apples' is not a size; write it like 50GB or 300MB",
        ),
        (
            "[quants]",
            '[imatrix]\nfile = "x"\nsha256 = "abc"\n[quants]',
            "imatrix.sha256: 'abc' is not a sha256; give its 64 lower-case hex digits",
        ),
        (
            "[quants]",
            "[imatrix]\n[quants]",
            "imatrix.file: this key is missing; give a ready file, or a text to compute it from: [calibration]",
        ),
        (
            'llama_cpp = "b5490"',
            'llama_cpp = "b5490"\nprefix = "../up"',
            "prefix: '../up' cannot begin file names; use letters, digits, '.', '_', '+' and '-'",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(UsageError) as error:
        load(path)
    assert str(error.value) == f"{path}: {message}"
    assert error.value.exit_code == 2


@pytest.mark.parametrize(("prefix", "more"), [("p" * 243, "p"), ("p" + "\u65e5" * 80, "\u65e5")])
def test_a_prefix_is_no_longer_than_a_disk_takes(tmp_path: Path, prefix: str, more: str) -> None:
    assert load(write(tmp_path, GOOD.replace("[base]", f'prefix = "{prefix}"\n[base]'))).prefix == prefix
    with pytest.raises(UsageError, match=r"prefix: it makes file names of 256 bytes; a disk takes at most 255$"):
        load(write(tmp_path, GOOD.replace("[base]", f'prefix = "{prefix}{more}"\n[base]')))


def test_an_unknown_ftype_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape("quants.matrix: Q4_KM is not an ftype (did you mean Q4_K_M?)")):
        load(write(tmp_path, GOOD.replace("Q4_K_M", "Q4_KM")))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('ftypes = ["Q6_K"]', "quants.override.ftypes: Q6_K is not in the matrix; add it there or remove it here"),
        ('tensors = { "(" = "Q6_K" }', "quants.override.tensors: '(' is not a regular expression"),
        ('output = "Q9"', "quants.override.output: Q9 is not a tensor type"),
        ('outputs = "Q8_0"', "quants.override.outputs: there is no such key (did you mean quants.override.output?)"),
    ],
)
def test_overrides_are_checked(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        load(write(tmp_path, f"{GOOD}\n[[quants.override]]\n{table}\n"))


def test_tensor_overrides_need_a_tag_that_has_them(tmp_path: Path) -> None:
    text = GOOD.replace("b5490", "b4978") + '\n[[quants.override]]\ntensors = { "attn_v" = "Q6_K" }\n'
    with pytest.raises(UsageError, match="llama-quantize of b4978 has no --tensor-type"):
        load(write(tmp_path, text))


def test_not_toml_and_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not valid TOML"):
        load(write(tmp_path, "llama_cpp = \n"))
    with pytest.raises(UsageError, match="there is no such recipe"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "count"), [("50GB", 50_000_000_000), ("1.5 MB", 1_500_000), ("2GiB", 2 << 30), (7, 7), ("0", 0)]
)
def test_sizes(text: str | int, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    "text", ["9" * 400, "9" * 400 + "GB", "9999999999TB", 1 << 63, 10**400], ids=lambda text: str(text)[:30]
)
def test_a_size_that_nothing_has(text: str | int) -> None:
    with pytest.raises(ValueError, match=r"^a size is below 2\^63 bytes; write it like 50GB or 300MB$"):
        parse_size(text)


@pytest.mark.parametrize("number", ["9" * 4301, "0x" + "f" * 4301], ids=["decimal", "hexadecimal"])
def test_a_number_of_too_many_digits_is_no_recipe(tmp_path: Path, number: str) -> None:
    with pytest.raises(UsageError, match=r"r\.toml: not valid TOML: Exceeds the limit \(4300 digits\) for integer"):
        load(write(tmp_path, GOOD.replace('"b5490"', number)))


def test_every_key_is_documented() -> None:
    """recipes/README.md and the schema name the same keys."""
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \|", (ROOT / "recipes" / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(KEYS)


def test_a_mark_of_windows_editors_is_accepted(tmp_path: Path) -> None:
    assert load(write(tmp_path, "\N{BYTE ORDER MARK}" + GOOD)).name == "r"


def test_deep_nesting_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not valid TOML"):
        load(write(tmp_path, "a = " + "[" * 5000))


def test_a_recipe_is_named_as_tasks_can_be(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD).rename(tmp_path / "my recipe.toml")
    with pytest.raises(UsageError, match="'my recipe' cannot name tasks and folders; rename it to letters"):
        load(path)
