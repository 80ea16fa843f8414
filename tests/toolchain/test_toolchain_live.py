"""The real converter and llama-imatrix, where the environment names them.

`QUANTMILL_TEST_LLAMA_CPP`: the sources of a llama.cpp of the tag `QUANTMILL_TEST_TAG`; `QUANTMILL_TEST_TORCH`: a Python
with torch, transformers and sentencepiece; `QUANTMILL_TEST_TOOLS`: a folder with llama-imatrix and llama-quantize.
"""

import filecmp
import os
import subprocess
from pathlib import Path

import pytest

from projects import TINY, Project

NAMED = ("QUANTMILL_TEST_LLAMA_CPP", "QUANTMILL_TEST_TAG", "QUANTMILL_TEST_TORCH", "QUANTMILL_TEST_TOOLS")
pytestmark = pytest.mark.skipif(not all(name in os.environ for name in NAMED), reason=f"needs {', '.join(NAMED)}")

MAKE = """
import json, sys, torch, transformers
import sentencepiece
from pathlib import Path

name, text, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
torch.manual_seed(1)
trainer = sentencepiece.SentencePieceTrainer
trainer.train(input=text, model_prefix=str(folder / "tokenizer"), vocab_size=1000, model_type="bpe",
              byte_fallback=True, hard_vocab_limit=False, minloglevel=2)
(folder / "tokenizer.vocab").unlink()
words = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).vocab_size()
config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
(folder / "tokenizer_config.json").write_text(json.dumps(config))
made = getattr(transformers, name + "Config")(
    vocab_size=words, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=4096, bos_token_id=1, eos_token_id=2, pad_token_id=0)
getattr(transformers, name + "ForCausalLM")(made).to(torch.bfloat16).save_pretrained(folder)
"""
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
chunks = 12
[imatrix]
with = "llama.cpp"
[quants]
matrix = ["BF16", "Q4_K_M", "IQ3_XXS"]
"""


@pytest.mark.parametrize("name", ["Phi3", "Gemma2"])
def test_a_checkpoint_becomes_a_release(tmp_path: Path, name: str) -> None:
    sources, tag, torch, tools = (os.environ[name] for name in NAMED)
    recipes = tmp_path / "p" / "recipes"
    (recipes / "model").mkdir(parents=True)
    text = recipes / "text.txt"
    text.write_bytes((TINY / "calibration.txt").read_bytes())
    subprocess.run([torch, "-c", MAKE, name, str(text), str(recipes / "model")], check=True, capture_output=True)
    (recipes / "small.toml").write_text(RECIPE.replace("TAG", tag))
    project, named = Project(tmp_path / "p"), {"QUANTMILL_LLAMA_CPP": str(tmp_path / "ready")}
    ready = ("--python", torch, "--tools", tools, "--to", str(tmp_path / "ready"))
    project.run("quantmill", "toolchain", tag, "--from", sources, *ready)
    project.run("quantmill", "build", "small", **named)
    assert project.run("quantmill", "build", "small", **named).stdout == "nothing to do: everything is up to date\n"
    assert "files are the same" in project.run("quantmill", "reproduce", "release/small").stdout
    release, theirs = tmp_path / "p" / "release" / "small", tmp_path / "theirs.gguf"
    (tmp_path / "imatrix.gguf").write_bytes((release / "small-imatrix.gguf").read_bytes())  # as files call it
    for ftype in ("Q4_K_M", "IQ3_XXS"):
        asked = ("--imatrix", "imatrix.gguf", str(release / "small-bf16.gguf"), str(theirs), ftype, "1")
        subprocess.run([f"{tools}/llama-quantize", *asked], cwd=tmp_path, check=True, capture_output=True)
        assert filecmp.cmp(theirs, release / f"small-{ftype}.gguf", shallow=False), ftype
