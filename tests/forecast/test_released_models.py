"""Plans of config.json alone: fifteen models as released, every file's bytes; and what strange values come to."""

import copy
import json
import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from architecture_helpers.released_models import RELEASED
from quantmill.cli import main
from quantmill.forecast.files import described_files
from quantmill.forecast.plan import plan_of
from quantmill.quant.file_plan import FilePlan
from quantmill.recipe import lock as locks
from quantmill.recipe.recipe import load

# Weights of a block, and its bytes, as ggml has them.
BLOCKS = {
    "F32": (1, 4),
    "BF16": (1, 2),
    "MXFP4": (32, 17),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
    "IQ2_XXS": (256, 66),
    "IQ2_XS": (256, 74),
    "IQ2_S": (256, 82),
    "IQ3_XXS": (256, 98),
    "IQ3_S": (256, 110),
    "IQ4_NL": (32, 18),
    "IQ4_XS": (256, 136),
}
KEPT = 'tensors = { "_exps.weight" = "MXFP4" }'
VALUES: tuple[Any, ...] = (
    *(None, 0, -1, 1, 3, 7, 63, 128, 100000, 2**31, 2**40, 10**400, 0.5, -0.0, 1e-320, math.inf, math.nan),
    *(True, False, "", "x", "8", "default", [], [1], ["x"], [[]], [None], {}, {"x": 1}, {"factor": None}),
)
VARIANTS = 200


def recipe(folder: Path, config: Mapping[str, Any], matrix: str = '["Q4_K_M"]', more: str = "") -> Path:
    """A recipe of a Hub repository of which only config.json is known."""
    path = folder / "big.toml"
    path.write_text(
        'llama_cpp = "b11312"\n[base]\nrepo = "some/model"\n[split]\nmax_size = 0\n'
        f'[quants]\nmatrix = {matrix}\n{more}[imatrix]\nfile = "i.dat"\nsha256 = "{"0" * 64}"\n'
    )
    lock = {"format": 1, "base": {"repo": "some/model", "revision": "main"}, "files": {}, "metadata_bytes": None}
    path.with_suffix(".lock").write_text(json.dumps({**lock, "config": config}))
    return path


@pytest.mark.parametrize("name", RELEASED)
def test_every_file_of_a_released_model_by_its_config(tmp_path: Path, name: str) -> None:
    """What no other code of ours says: how many weights there are, how many stay F32, the bytes of a block."""
    model = RELEASED[name]
    matrix = '"standard"' if not model.packed else '["BF16", "MXFP4_MOE", "Q8_0", "Q4_K_M"]'
    kept = f'[[quants.override]]\nftypes = ["Q8_0", "Q4_K_M"]\n{KEPT}\n' if model.packed else ""
    wanted = load(recipe(tmp_path, model.config, matrix, kept))
    lock = locks.load(wanted)
    assert lock is not None
    found = described_files(wanted, lock, lambda _: "")
    plain = 4 * (model.plain + model.factors)
    rest, packed = model.weights - model.plain - model.packed, model.packed // 32 * 17
    for label, (row, file) in found.items():
        assert sum(math.prod(tensor.shape) for tensor in file.tensors) == model.weights + model.factors
        data = 0
        for tensor in file.tensors:
            weights, size = BLOCKS[tensor.type.name]
            assert tensor.shape[0] % weights == 0
            data += math.prod(tensor.shape) // weights * size
        if label in ("BF16", "Q8_0"):
            assert data == plain + packed + (2 * rest if label == "BF16" else rest // 32 * 34)
        head = 39 * len(file.tensors) * 3 + 40 * 262208  # names and places of tensors, and a vocabulary
        assert 0 < row.bytes - data < head
        assert row.bits_per_weight == pytest.approx(8 * data / (model.weights + model.factors))
    gigabytes = {label: round(found[label][0].bytes / 1e9, 2) for label, _ in model.gigabytes}
    assert gigabytes == pytest.approx(dict(model.gigabytes), abs=0.011)
    assert isinstance(found["Q8_0"][1], FilePlan)


def test_what_llama_cpp_computes_otherwise_is_said(tmp_path: Path) -> None:
    findings = plan_of(load(recipe(tmp_path, RELEASED["Kimi-K2"].config)), tmp_path).findings
    assert "config.json's `rope_scaling.beta_fast` is 1.0; llama.cpp's deepseek2 computes by 32" in findings


def test_weights_in_mxfp4_are_kept_or_refused(tmp_path: Path) -> None:
    """As llama-quantize refuses them; before anything is fetched."""
    config = RELEASED["gpt-oss-20b"].config
    told = [plan_of(load(recipe(tmp_path, config, '["Q8_0"]', more)), tmp_path).findings for more in ("", _override())]
    assert told[0][0].startswith("Q8_0: blk.0.ffn_down_exps.weight, blk.0.ffn_gate_exps.weight and 70 more (91.4 %")
    assert told[0][0].endswith(f"keep them MXFP4 by [[quants.override]] ({KEPT}), or take the ftype MXFP4_MOE")
    assert told[1] == ()


def _override() -> str:
    return f'[[quants.override]]\nftypes = ["Q8_0"]\n{KEPT}\n'


def places(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from places(value, (*above, key))


def variant(seed: int) -> tuple[dict[str, Any], str]:
    """A released model's config.json with one key or two gone, null or of another value; what was done."""
    chance = random.Random(seed)
    name = chance.choice(sorted(RELEASED))
    config, done = copy.deepcopy(RELEASED[name].config), [name]
    for _ in range(chance.choice([1, 1, 2])):
        *above, key = chance.choice(list(places(config)))
        table: dict[str, Any] = config
        for part in above:
            table = table[part]
        kind, old = chance.choice(["gone", "null", "other", "other"]), table.pop(key)
        if kind != "gone":
            table[key] = None if kind == "null" else chance.choice([*near(old), *VALUES])
        done.append(f"{kind} {'.'.join((*above, key))} {table.get(key)!r}")
    return config, ", ".join(done)


def near(value: Any) -> list[Any]:
    """Values that are not much another."""
    if isinstance(value, bool):
        return [not value, int(value), str(value)]
    if isinstance(value, int | float):
        return [value * 2, value // 2, value + 1, -value, str(value), [value], value / 2]
    if isinstance(value, list):
        return [[*value, 1], value[:-1], [*value[1:], {}]]
    return [f"{value}x"] if isinstance(value, str) else []


def test_no_variant_of_a_config_is_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is planned, or refused by one sentence, as an error of use."""
    ended: dict[Any, int] = {}
    for seed in range(VARIANTS):
        config, done = variant(seed)
        with pytest.raises(SystemExit) as caught:
            main(["plan", str(recipe(tmp_path, config))])
        said, error = caught.value.code, capsys.readouterr().err
        assert said in (0, 2), (seed, done, error)
        if said == 2:
            assert (error.startswith("quantmill: "), error.count("\n"), "config.json" in error) == (True, 1, True), done
        ended[said] = ended.get(said, 0) + 1
    assert min(ended[0], ended[2]) > VARIANTS // 5


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("Llama-3.3-70B", {"rope_scaling": {"rope_type": "llama3", "factor": -8.0}}, "factors that are not positive"),
        ("Llama-3.3-70B", {"rope_scaling": {"rope_type": "llama3", "low_freq_factor": [1]}}, "`rope_scaling.low_freq"),
        ("gpt-oss-20b", {"intermediate_size": 48}, "rows of 48 weights; MXFP4 needs a multiple of 32"),
        ("gemma-3-4b-it", {"text_config": [1]}, "`text_config` is neither null nor a table"),
        ("DeepSeek-V3", {"q_lora_rank": None}, "`q_lora_rank` is None beside 61 layers"),
        ("DeepSeek-V3", {"num_hidden_layers": 27}, "`q_lora_rank` is 1536 beside 27 layers"),
    ],
)
def test_what_a_build_would_refuse_later_the_plan_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["plan", str(recipe(tmp_path, RELEASED[name].config | change))])
    assert (caught.value.code, said in capsys.readouterr().err) == (2, True)
