"""Models of classes that only llama.cpp's converter knows, each from a small random checkpoint to a whole release.

The environment names what it needs, as in test_toolchain_live; `QUANTMILL_TEST_TOOLS` needs llama-perplexity and
llama-bench too. The vocabulary is one of those that llama.cpp's sources bring.
"""

import filecmp
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from architecture_helpers.small_checkpoints import VOCABULARY
from projects import TINY, Project

NAMED = ("QUANTMILL_TEST_LLAMA_CPP", "QUANTMILL_TEST_TAG", "QUANTMILL_TEST_TORCH", "QUANTMILL_TEST_TOOLS")
pytestmark = pytest.mark.skipif(not all(name in os.environ for name in NAMED), reason=f"needs {', '.join(NAMED)}")

MAKE = (
    VOCABULARY
    + """
name, changes = sys.argv[3], json.loads(sys.argv[4])
torch.manual_seed(1)
last = len(tokens) - 1
known = dict(
    vocab_size=len(tokens), hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=4096, bos_token_id=last, eos_token_id=last, pad_token_id=last)
made = getattr(transformers, name + "Config")(**{**known, **changes})
getattr(transformers, name + "ForCausalLM")(made).to(torch.bfloat16).save_pretrained(folder)
"""
)
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 256}
# The class, and what of its configuration is not as in most.
CLASSES: dict[str, dict[str, object]] = {
    "Olmo3": {"num_hidden_layers": 4, "sliding_window": 64},
    "Apertus": {},
    "Lfm2": {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "HunYuanDenseV1": {"head_dim": 64},
    "SeedOss": {"head_dim": 64},
    "GptOss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 64, "sliding_window": 64},
    "Exaone4": {"num_hidden_layers": 4, "sliding_window": 64},
    "SmolLM3": {},
    "Arcee": {},
    "FalconH1": {"head_dim": 64, "mamba_d_ssm": 256, "mamba_n_heads": 4, "mamba_d_head": 64, "mamba_d_state": 32},
    "GraniteMoeHybrid": {
        "vocab_size": 50264,
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 256,
        "mamba_n_heads": 8,
        "mamba_d_head": 64,
        "mamba_d_state": 32,
    },
}
RECIPE = """
llama_cpp = "TAG"
prefix = "small"
[base]
path = "model"
name = "Small Model"
[convert]
with = "llama.cpp"
[calibration]
text = "text.txt"
chunks = 4
[imatrix]
with = "llama.cpp"
[evaluation]
text = "other.txt"
chunks = 2
with = "llama.cpp"
[bench]
with = "llama.cpp"
tests = ["pp16", "tg4"]
ftypes = ["Q4_K_M"]
repetitions = 1
[quants]
matrix = ["BF16", "Q4_K_M", "IQ3_XXS"]
"""
LOAD = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.warmup = sys.argv[1], 128, 1, False
answer = xllamacpp.Server(params).handle_completions({"prompt": "Once upon", "n_predict": 2})
print("ANSWER", len(answer["choices"]), flush=True)
import os
os._exit(0)
"""


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment that names a toolchain of those sources and tools."""
    sources, tag, torch, tools = (os.environ[name] for name in NAMED)
    folder = tmp_path_factory.mktemp("toolchain")
    ready = ("--python", torch, "--tools", tools, "--to", str(folder / "ready"))
    Project(folder).run("quantmill", "toolchain", tag, "--from", sources, *ready)
    return {"QUANTMILL_LLAMA_CPP": str(folder / "ready")}


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_becomes_a_release(tmp_path: Path, named: dict[str, str], name: str) -> None:
    sources, tag, torch, tools = (os.environ[name] for name in NAMED)
    recipes = tmp_path / "p" / "recipes"
    (recipes / "model").mkdir(parents=True)
    text = (TINY / "calibration.txt").read_text()
    (recipes / "text.txt").write_text(text)
    (recipes / "other.txt").write_text("Nothing of this is in it: " + " ".join(reversed(text.split())))
    call = [torch, "-c", MAKE, sources, str(recipes / "model"), name, json.dumps(CLASSES[name])]
    made = subprocess.run(call, check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
    (recipes / "small.toml").write_text(RECIPE.replace("TAG", tag))
    project = Project(tmp_path / "p")
    project.run("quantmill", "build", "small", **named)
    release = project.folder / "release" / "small"
    before = project.release()
    assert project.run("quantmill", "build", "small", **named).stdout == "nothing to do: everything is up to date\n"
    shutil.rmtree(project.folder / "build")
    shutil.rmtree(project.folder / "release")
    assert project.run("quantmill", "build", "small", **named).stdout.splitlines()[-1].startswith("0 run, ")
    assert project.release() == before
    assert "files are the same" in project.run("quantmill", "reproduce", "release/small").stdout
    (tmp_path / "imatrix.gguf").write_bytes((release / "small-imatrix.gguf").read_bytes())  # as files call it
    theirs = tmp_path / "theirs.gguf"
    for ftype in ("Q4_K_M", "IQ3_XXS"):
        asked = ("--imatrix", "imatrix.gguf", str(release / "small-bf16.gguf"), str(theirs), ftype, "1")
        subprocess.run([f"{tools}/llama-quantize", *asked], cwd=tmp_path, check=True, capture_output=True)
        assert filecmp.cmp(theirs, release / f"small-{ftype}.gguf", shallow=False), ftype
        done = subprocess.run(
            [sys.executable, "-c", LOAD, str(release / f"small-{ftype}.gguf")], capture_output=True, check=False
        )
        assert b"ANSWER 1" in done.stdout, done.stderr[-2000:]
