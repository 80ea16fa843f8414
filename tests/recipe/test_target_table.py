"""[[quants.target]] and [search]: what is accepted, and one clear sentence for everything else."""

import re
from pathlib import Path

import pytest

from quantmill.errors import UsageError
from quantmill.recipe.recipe import Recipe, load
from quantmill.reference.ftypes import COMMON_TYPES

GOOD = """
llama_cpp = "b11739"
[base]
path = "model"
[calibration]
text = "seen.txt"
[evaluation]
text = "unseen.txt"
[quants]
matrix = ["Q4_K_M"]
[[quants.target]]
name = "fit-4.5"
bits = 4.5
"""
KEY = "quants.target"


def written(folder: Path, *changes: tuple[str, str]) -> Recipe:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "r.toml"
    path.write_text(text)
    return load(path)


def test_a_target(tmp_path: Path) -> None:
    recipe = written(tmp_path)
    (target,) = recipe.targets
    assert (target.name, target.limit, target.allowed) == ("fit-4.5", {"bits": 4.5}, list(COMMON_TYPES))
    assert recipe.search is not None
    assert (recipe.search.text, recipe.search.chunks, recipe.search.n_ctx) == (None, 8, 512)
    (target,) = written(tmp_path, ("bits = 4.5", 'vram = "24GB"')).targets
    assert target.limit == {"vram": 24_000_000_000, "context": 8192}
    (target,) = written(tmp_path, ("bits = 4.5", 'like = "q4_k_m"\ntypes = ["q4_k", "Q8_0"]')).targets
    assert (target.limit, target.allowed) == ({"like": "Q4_K_M"}, ["Q4_K", "Q8_0"])


def test_backends_leave_out_what_they_do_not_run_well(tmp_path: Path) -> None:
    def types(backend: str) -> set[str]:
        (target,) = written(tmp_path, ("bits = 4.5", f'size = "2GB"\nbackends = ["{backend}"]')).targets
        return set(COMMON_TYPES) - set(target.allowed)

    assert types("cuda") == set()
    assert types("arm") == {"IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS"}
    assert types("vulkan") == types("arm") | {"IQ4_NL", "IQ4_XS"}


@pytest.mark.parametrize(
    "name",
    [
        "Q4_K_M",
        "q4_k_m",
        "Q4_K",
        "fit-Q4_K_M",
        "Q4_K_XL",
        "UD-Q4_K_XL",
        "IQ9_X",
        "bf16",
        "my.F16",
        "TQ1_0",
        "MXFP4_MOE",
    ],
)
def test_no_name_reads_like_a_stock_ftype(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{KEY}.name: {name!r} reads like a stock ftype, which it is not")):
        written(tmp_path, ("fit-4.5", name))


@pytest.mark.parametrize("name", ["a/b", ".x", "a b", "x-00001-of-00002", "imatrix", "page", "Evaluation", "x.search"])
def test_a_name_can_end_a_file_s_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{KEY}.name: {name!r} cannot end a file's name; use letters")):
        written(tmp_path, ("fit-4.5", name))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "fit-4.5"', "", f"{KEY}.name: this key is missing; every target needs a name"),
        ("bits = 4.5", "", f"{KEY}: fit-4.5: found none of them; give exactly one of bits, size, vram and like"),
        ("bits = 4.5", 'bits = 4.5\nlike = "Q4_K_M"', f"{KEY}: fit-4.5: found bits and like; give exactly"),
        ("bits = 4.5", "bits = 0", f"{KEY}.bits: 0 are no bits a weight; give a number like 4.5"),
        ("bits = 4.5", "bits = 33", f"{KEY}.bits: 33 are no bits a weight"),
        pytest.param("bits = 4.5", f"bits = 1{'0' * 400}", f"{KEY}.bits: 1000", id="beyond"),
        ("bits = 4.5", "bits = nan", f"{KEY}.bits: nan are no bits a weight"),
        ("bits = 4.5", "bits = true", f"{KEY}.bits: True is not right here; give a number"),
        ("bits = 4.5", 'size = "much"', f"{KEY}.size: 'much' is not a size"),
        ("bits = 4.5", "size = 0", f"{KEY}.size: a file of 0 bytes holds nothing"),
        ("bits = 4.5", 'vram = "much"', f"{KEY}.vram: 'much' is not the memory of graphics cards"),
        ("bits = 4.5", 'vram = "2x24GB"', f"{KEY}.vram: '2x24GB' is not the memory of one graphics card"),
        ("bits = 4.5", 'vram = "24GB"\ncontext = 0', f"{KEY}.context: tokens of context belong to `vram`"),
        ("bits = 4.5", "bits = 4.5\ncontext = 5", f"{KEY}.context: tokens of context belong to `vram`"),
        ("bits = 4.5", 'like = "Q9"', f"{KEY}.like: "),
        ("bits = 4.5", 'bits = 4.5\ntypes = ["Q9"]', f"{KEY}.types: Q9 is not a tensor type"),
        ("bits = 4.5", 'bits = 4.5\ntypes = ["F16"]', f"{KEY}.types: F16: llama.cpp "),
        ("bits = 4.5", 'bits = 4.5\ntypes = ["NVFP4"]', f"{KEY}.types: NVFP4: llama.cpp "),
        ("bits = 4.5", 'bits = 4.5\nbackends = ["cude"]', f"{KEY}.backends: 'cude' is no backend (did you mean"),
        (
            "bits = 4.5",
            'bits = 4.5\ntypes = ["Q4_K"]\nbackends = ["cuda"]',
            f"{KEY}.backends: `types` says which",
        ),
        ("bits = 4.5", 'bits = 4.5\nobjective = "top1"', f"{KEY}.objective: 'top1' is not one of kld"),
        ("bits = 4.5", "bits = 4.5\nbit = 4", f"{KEY}.bit: there is no such key (did you mean {KEY}.bits?)"),
        ("[[quants.target]]", "[quants.target]", f"{KEY}: this must be a list of tables; begin each with [[{KEY}]]"),
        ("bits = 4.5", 'bits = 4.5\n[[quants.target]]\nname = "FIT-4.5"\nbits = 3', f"{KEY}.name: 'fit-4.5' names"),
        ('[calibration]\ntext = "seen.txt"', "", f"{KEY}: it is searched with an importance matrix; give"),
        ('[evaluation]\ntext = "unseen.txt"', "", f"{KEY}: whether it is better than a stock file is"),
        ('path = "model"', 'gguf = "m.gguf"\nallow_requantize = true', f"{KEY}: a base that is quantized already has"),
        ('llama_cpp = "b11739"', 'llama_cpp = "b4867"', f"{KEY}: llama-quantize of b4867 has no --tensor-type"),
        (
            '[calibration]\ntext = "seen.txt"',
            f'[imatrix]\nfile = "i.dat"\nsha256 = "{"0" * 64}"',
            "search: there is no [calibration] whose text could be searched on; give one by `text` or `url`",
        ),
        ("[quants]", "[search]\nchunks = 0\n[quants]", "search.chunks: 0 chunks measure nothing; leave it out for 8"),
        ("[quants]", '[search]\nmemory = "no"\n[quants]', "search.memory: 'no' is not a size"),
        ("[quants]", "[search]\nn_ctx = 513\n[quants]", "search.n_ctx: 513 leaves a batch of fewer than"),
        (
            "[quants]",
            '[search]\nname = "x"\n[quants]',
            "search.name: it belongs to a text; give one",
        ),
        ("[quants]", '[search]\ntext = "a"\nurl = "https://a/b"\n[quants]', "search: give either `text`"),
        (
            "[quants]",
            "[search]\nchunk = 3\n[quants]",
            "search.chunk: there is no such key (did you mean",
        ),
        (
            GOOD[GOOD.index("[[quants") :],
            "[search]\nchunks = 3",
            "search: nothing is searched for without a [[quants.t",
        ),
        (
            "bits = 4.5",
            'bits = 4.5\n[[quants.override]]\nftypes = ["fit-4.5"]\npure = true',
            "quants.override.pure: fit-4.5 has no type of its own; remove it or `pure`",
        ),
        (
            "bits = 4.5",
            'bits = 4.5\n[[quants.override]]\nftypes = ["fit-4"]',
            "quants.override.ftypes: fit-4 is not an ftype",
        ),
    ],
)
def test_a_wrong_target_is_told_in_one_sentence(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        written(tmp_path, (old, new))
    said = str(error.value)
    assert said.startswith(f"{tmp_path / 'r.toml'}: {message}")
    assert "\n" not in said
