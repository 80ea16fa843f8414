"""Plans: exact bytes before any weight exists."""

import json
import re
from pathlib import Path

import pytest

from projects import Project
from quantmill.forecast.plan import plan_of
from quantmill.recipe.recipe import load

# The shape of Qwen2.5-32B, and what its published quantizations weigh in GB of 10^9 bytes.
QWEN_32B = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 5120,
    "num_hidden_layers": 64,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "intermediate_size": 27648,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-06,
}
PUBLISHED = {
    "BF16": 65.54,
    "Q8_0": 34.82,
    "Q6_K_L": 27.26,
    "Q6_K": 26.89,
    "Q5_K_L": 23.74,
    "Q5_K_M": 23.26,
    "Q5_K_S": 22.64,
    "Q4_1": 20.64,
    "Q4_K_L": 20.43,
    "Q4_K_M": 19.85,
    "Q4_K_S": 18.78,
    "Q4_0": 18.71,
    "IQ4_NL": 18.68,
    "Q3_K_XL": 17.93,
    "IQ4_XS": 17.69,
    "Q3_K_L": 17.25,
    "Q3_K_M": 15.94,
    "IQ3_M": 14.81,
    "Q3_K_S": 14.39,
    "IQ3_XS": 13.71,
    "Q2_K_L": 13.07,
    "IQ3_XXS": 12.84,
    "Q2_K": 12.31,
    "IQ2_M": 11.26,
    "IQ2_S": 10.39,
    "IQ2_XS": 9.96,
    "IQ2_XXS": 9.03,
}


@pytest.fixture
def unresolved(tmp_path: Path) -> Path:
    """A recipe of a Hub repository of which only the configuration is known."""
    path = tmp_path / "big.toml"
    digest = "0" * 64
    path.write_text(
        'llama_cpp = "b5490"\n[base]\nrepo = "some/model-32B"\n[quants]\nmatrix = "standard"\n'
        f'[imatrix]\nfile = "i.dat"\nsha256 = "{digest}"\n'
    )
    lock = {
        "format": 1,
        "base": {"repo": "some/model-32B", "revision": "main"},
        "files": {},
        "config": QWEN_32B,
        "metadata_bytes": None,
    }
    path.with_suffix(".lock").write_text(json.dumps(lock))
    return path


def test_the_sizes_of_a_32b_release_from_its_configuration(unresolved: Path) -> None:
    plan = plan_of(load(unresolved), unresolved.parent)
    assert {row.ftype: row.bytes / 1e9 for row in plan.files} == pytest.approx(PUBLISHED, abs=0.01)
    assert {row.name: row.shards for row in plan.files if row.shards > 1} == {"some_model-32B-bf16/": 2}
    assert not plan.exact
    assert plan.tasks["download:big"].state == "run"
    assert plan.tasks["quant:big/Q4_K_M"].state == "after"
    # base files (unknown here), the converted file twice (whole and in shards), each quantized file once
    assert plan.disk_bytes == pytest.approx(1e9 * (sum(PUBLISHED.values()) + PUBLISHED["BF16"]), rel=0.01)
    assert plan.memory_bytes < 600e6


def test_a_plan_is_exact_to_the_byte(project: Project) -> None:
    planned = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    assert not (project.folder / "recipes" / "small.lock").exists()
    assert planned["exact"]
    assert {task["status"] for task in planned["tasks"]} == {"run", "after"}
    project.run("doit")
    files = project.release()
    assert {row["name"]: row["bytes"] for row in planned["files"]} == {
        name: len(data) for name, data in files.items() if name.endswith(".gguf")
    }
    again = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    assert {task["status"] for task in again["tasks"]} == {"up to date"}
    objects = [path.stat().st_size for path in (project.folder / "cache" / "cas").rglob("*") if path.is_file()]
    assert planned["disk_bytes"] == pytest.approx(sum(objects), rel=0.01)


def test_a_plan_needs_no_weights(project: Project) -> None:
    """With a lock, the configuration and the tokenizer are enough."""
    exact = project.run("quantmill", "plan", "small", "--json").stdout
    project.run("quantmill", "lock", "small")
    weights = project.folder / "recipes" / "tiny" / "model.safetensors"
    with open(weights, "r+b") as file:
        file.truncate(100_000)  # enough to be there, not to be read
    plan = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    assert plan["files"] == json.loads(exact)["files"]


def test_a_plan_for_a_person(project: Project) -> None:
    text = project.run("quantmill", "plan", "small", COLUMNS="20").stdout
    assert re.search(r"small-Q4_K_M\.gguf +Q4_K_M +2\.40 MB +5\.08", text)
    assert "preflight:small\ndownload:small\n2 to run, 15 after these\n" in text


def test_a_gguf_base(project: Project) -> None:
    project.run("quantmill", "convert", "recipes/tiny", "recipes/base.gguf", "--type", "F16")
    project.edit('path = "tiny"\nname = "Small"', 'gguf = "base.gguf"\ntype = "F16"')
    project.edit('["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', '["F16", "Q4_0"]')
    plan = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    assert [row["name"] for row in plan["files"]] == ["small-f16.gguf", "small-Q4_0.gguf"]
    assert project.ran("doit") == [
        "card:small",
        "download:small",
        "index:small",
        "preflight:small",
        "quant:small/Q4_0",
        "release:small",
        "split:small/F16",
        "split:small/Q4_0",
        "verify:small/F16",
        "verify:small/Q4_0",
    ]
    files = project.release()
    assert {row["name"]: row["bytes"] for row in plan["files"]} == {
        name: len(data) for name, data in files.items() if name.endswith(".gguf")
    }
    assert files["small-f16.gguf"] == (project.folder / "recipes" / "base.gguf").read_bytes()


def test_a_gguf_base_is_what_the_recipe_says(project: Project) -> None:
    project.run("quantmill", "convert", "recipes/tiny", "recipes/base.gguf", "--type", "F16")
    project.edit('path = "tiny"\nname = "Small"', 'gguf = "base.gguf"\ntype = "BF16"')
    message = 'base.type: the GGUF base is F16, the recipe takes it for BF16; write type = "F16" in [base]\n'
    assert project.run("quantmill", "plan", "small", check=2).stderr == f"quantmill: {message}"
    assert project.run("doit", check=2).stderr == f"quantmill: preflight:small: {message}"
    project.edit('\ntype = "BF16"', "")  # and where it says nothing, what the file is
    project.edit('["BF16", "Q8_0"', '["F16", "Q8_0"')
    plan = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    assert plan["files"][0]["name"] == "small-f16.gguf"


def test_a_base_that_exists_only_quantized(project: Project) -> None:
    """It is called by its file's ftype, whatever most of its weights are, and taken when that is said."""
    project.run("quantmill", "convert", "recipes/tiny", "recipes/bf16.gguf")
    project.run(
        "quantmill", "quantize", "recipes/bf16.gguf", "recipes/base.gguf", "Q4_K_M", "--token-embedding-type", "Q8_0"
    )
    project.edit('path = "tiny"\nname = "Small"', 'gguf = "base.gguf"')
    project.edit('["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', '["Q4_K_M", "Q3_K_S"]')
    right = 'give a file in BF16, F16 or F32, or write type = "Q4_K_M" and allow_requantize = true in [base]'
    message = f"quantmill: base.type: the GGUF base is Q4_K_M, so quantized already; {right}\n"
    assert project.run("quantmill", "plan", "small", check=2).stderr == message
    project.edit("[base]", '[base]\ntype = "Q4_K_M"')
    said = "base.type: 'Q4_K_M' is not one of BF16, F16, F32, or allow_requantize = true for a base that is quantized"
    assert said in project.run("quantmill", "plan", "small", check=2).stderr
    project.edit("[base]", "[base]\nallow_requantize = true")
    plan = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    project.run("quantmill", "build", "small")
    files = project.release()
    assert {row["name"]: row["bytes"] for row in plan["files"]} == {
        name: len(data) for name, data in files.items() if name.endswith(".gguf")
    }
    assert files["small-Q4_K_M.gguf"] == (project.folder / "recipes" / "base.gguf").read_bytes()
    call = ("recipes/base.gguf", "again.gguf", "Q3_K_S")
    project.run("quantmill", "quantize", *call, check=2)
    project.run("quantmill", "quantize", *call, "--allow-requantize")
    assert files["small-Q3_K_S.gguf"] == (project.folder / "again.gguf").read_bytes()
    assert json.loads(files["release.json"])["requantized"] == "Q4_K_M"
    assert b"had as Q4_K_M only: every other file is quantized a second time\n" in files["README.md"]
    project.edit('gguf = "base.gguf"', 'path = "tiny"')
    wrong = "base.allow_requantize: only a GGUF base (base.gguf) is quantized already; remove it"
    assert wrong in project.run("quantmill", "plan", "small", check=2).stderr


def test_what_must_fail_is_said_first(project: Project) -> None:
    """IQ2_M is a mix that takes no imatrix's word for it, but most of its tensors are of a type that needs one."""
    project.edit('"Q2_K"', '"IQ2_M"')
    plan = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    assert plan["findings"][0].startswith("IQ2_M: blk.0.attn_k.weight, blk.0.attn_q.weight and 18 more (")
    assert plan["findings"][0].endswith(
        "become IQ2_S, which needs an importance vector of each, and there is none; give a matrix (`[imatrix] file`), "
        "or a text to measure one on ([calibration])"
    )
    failed = project.run("doit", check=2)
    assert failed.stderr.startswith("quantmill: preflight:small: IQ2_M: blk.0.attn_k.weight, ")
    assert project.run("doit", check=2).stdout.startswith("preflight:small\n1 run, ")  # nothing before it


def test_a_plan_says_that_the_imatrix_is_missing_or_another(project: Project) -> None:
    project.recipe.write_text(project.recipe.read_text() + f'\n[imatrix]\nfile = "i.dat"\nsha256 = "{"0" * 64}"\n')
    plan = project.run("quantmill", "plan", "small").stdout
    assert "Sizes are within a few MB: there is no file recipes/i.dat yet.\n" in plan
    (project.folder / "recipes" / "i.dat").write_bytes(b"another")
    failed = project.run("quantmill", "plan", "small", check=2)
    assert failed.stderr.startswith("quantmill: recipes/small.toml: imatrix.sha256: recipes/i.dat has sha256 ")


def test_an_override_that_matches_nothing_is_said(project: Project) -> None:
    override = '[[quants.override]]\nftypes = ["Q4_K_M"]\ntensors = { "attn_vv" = "Q8_0", "ffn_up" = "Q8_0" }\n'
    project.recipe.write_text(project.recipe.read_text() + override)
    said = "Q4_K_M: the override 'attn_vv' matches no tensor of this model"
    assert json.loads(project.run("quantmill", "plan", "small", "--json").stdout)["findings"] == [said]
