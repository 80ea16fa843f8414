"""A model that reads images, by the real converter: the text model, its projectors, the page, and both at work.

The environment names what it needs, as in test_toolchain_live; where `QUANTMILL_TEST_TOOLS` has a llama-mtmd-cli, that
looks at a picture.
"""

import os
import subprocess
from pathlib import Path

import pytest

from architecture_helpers.small_checkpoints import VOCABULARY
from projects import TINY, Project
from quantmill import gguf

NAMED = ("QUANTMILL_TEST_LLAMA_CPP", "QUANTMILL_TEST_TAG", "QUANTMILL_TEST_TORCH", "QUANTMILL_TEST_TOOLS")
pytestmark = pytest.mark.skipif(not all(name in os.environ for name in NAMED), reason=f"needs {', '.join(NAMED)}")

MAKE = (
    VOCABULARY
    + """
torch.manual_seed(1)
last = len(tokens) - 1
text = dict(
    vocab_size=len(tokens), hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=4096, bos_token_id=last, eos_token_id=last,
    rope_scaling={"type": "mrope", "mrope_section": [8, 12, 12]})
vision = dict(
    depth=4, hidden_size=128, num_heads=4, intermediate_size=256, out_hidden_size=256, fullatt_block_indexes=[1])
ids = dict(image_token_id=1000, video_token_id=1001, vision_start_token_id=1002, vision_end_token_id=1003)
made = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
transformers.Qwen2_5_VLForConditionalGeneration(made).to(torch.bfloat16).save_pretrained(folder)
said = json.loads((folder / "config.json").read_text())  # which transformers says of the part for text alone
said["architectures"] = ["Qwen2_5_VLForConditionalGeneration"]
(folder / "config.json").write_text(json.dumps(said))
pictures = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "patch_size": 14, "merge_size": 2}
pictures |= {"min_pixels": 3136, "max_pixels": 12845056, "temporal_patch_size": 2}
(folder / "preprocessor_config.json").write_text(json.dumps(pictures))
"""
)
RECIPE = """
llama_cpp = "TAG"
prefix = "small"
[base]
path = "model"
name = "Small Model"
[convert]
with = "auto"
[mmproj]
types = ["F16", "BF16", "Q8_0"]
[calibration]
text = "text.txt"
chunks = 4
[imatrix]
with = "auto"
[quants]
matrix = ["BF16", "Q4_K_M"]
"""


def test_a_model_that_reads_images(tmp_path: Path) -> None:
    sources, tag, torch, tools = (os.environ[name] for name in NAMED)
    recipes = tmp_path / "p" / "recipes"
    (recipes / "model").mkdir(parents=True)
    (recipes / "text.txt").write_bytes((TINY / "calibration.txt").read_bytes())
    made = subprocess.run(
        [torch, "-c", MAKE, sources, str(recipes / "model")], check=False, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr[-2000:]
    (recipes / "small.toml").write_text(RECIPE.replace("TAG", tag))
    project, named = Project(tmp_path / "p"), {"QUANTMILL_LLAMA_CPP": str(tmp_path / "ready")}
    ready = ("--python", torch, "--tools", tools, "--to", str(tmp_path / "ready"))
    project.run("quantmill", "toolchain", tag, "--from", sources, *ready)
    project.run("quantmill", "build", "small", **named)
    assert project.run("quantmill", "build", "small", **named).stdout == "nothing to do: everything is up to date\n"
    assert "files are the same" in project.run("quantmill", "reproduce", "release/small").stdout
    release, page = project.folder / "release" / "small", project.release()["README.md"].decode()
    for type_ in ("F16", "BF16", "Q8_0"):
        name = f"mmproj-small-{type_ if type_ == 'Q8_0' else type_.lower()}.gguf"
        assert f"[{name}]({name}) | {type_} |" in page
        with gguf.read(release / name) as file:
            assert file.metadata["general.architecture"].value == "clip"
            assert type_ in {info.type.name for info in file.tensors.values()}
        if not (Path(tools) / "llama-mtmd-cli").is_file():
            continue
        asked = ("-m", str(release / "small-Q4_K_M.gguf"), "--mmproj", str(release / name), "-n", "3", "-c", "4096")
        picture = ("--image", str(Path(sources) / "tools" / "mtmd" / "test-1.jpeg"), "-p", "What is this?")
        done = subprocess.run(
            [f"{tools}/llama-mtmd-cli", *asked, *picture, "--chat-template", "chatml"], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert b"image" in done.stderr + done.stdout
