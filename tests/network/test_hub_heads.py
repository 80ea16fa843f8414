"""Bases on the Hub whose weights cannot be converted, or are more than config.json says: told by their headers, as the
base is locked, before they are fetched."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import hf_hub_download

from convert_golden import models as golden
from hub_bases import LOCAL, Hub
from hub_bases import hub as hub  # fixtures, these two
from hub_bases import project as project
from hub_helpers import WEIGHTS, fails, lock_of
from projects import Project
from quantmill.network.hub import HTTP_LIMIT, HubFile
from quantmill.recipe.hub_heads import fetch_heads

INDEX = "model.safetensors.index.json"
Tensors = dict[str, tuple[str, Any]]


def checkpoint(folder: Path, change: dict[str, tuple[str, Any]], shards: int = 1, **config: Any) -> dict[str, bytes]:
    """The files of a small model with other tensors in the place of some, or beside its own."""
    facts = golden.config("Qwen2ForCausalLM", "qwen2", tie_word_embeddings=True) | config
    shapes = golden.shapes_of(facts, ("q", "k", "v"))
    tokenizer = golden.byte_level(golden.split(golden.QWEN2), golden._QWEN_TOKENS, {"type": "NFC"})
    files = {"tokenizer.json": tokenizer, "tokenizer_config.json": golden._QWEN_CONFIG}
    golden.write(folder, facts, "BF16", files, shapes)
    tensors: Tensors = {name: ("BF16", np.full(shape, 0x3C00, "<u2")) for name, shape in shapes.items()} | change
    if shards > 1:
        (folder / WEIGHTS).unlink()
        names = [f"model-{number:05d}-of-{shards:05d}.safetensors" for number in range(1, shards + 1)]
        index = {name: names[at % shards] for at, name in enumerate(tensors)}
        (folder / INDEX).write_text(json.dumps({"weight_map": index}))
        for file in names:
            golden.save_safetensors(folder / file, {name: tensors[name] for name in tensors if index[name] == file})
    else:
        golden.save_safetensors(folder / WEIGHTS, tensors)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def published(hub: Hub, files: dict[str, bytes]) -> None:
    """Make them all that the repository has, the weights in LFS."""
    for path in hub.repository.folder.iterdir():
        if path.is_file():
            path.unlink()
    hub.repository.commit(files, lfs=lambda name: name.endswith(".safetensors"))


DOWN = "model.layers.0.mlp.down_proj"
F8 = ("F8_E4M3", np.zeros((64, 96), np.uint8))
ONES = ("F32", np.ones(64, "<f4"))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("command", ["lock", "plan", "build"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{DOWN}.weight": F8}, f"the tensor '{DOWN}.weight' is F8_E4M3; BF16, F16, F32 and F64 can be converted"),
        ({f"{DOWN}.weight_scale_inv": ONES}, f"quantized already (FP8, by {DOWN}.weight_scale_inv), which cannot be"),
        ({f"{DOWN}.SCB": ONES}, f"quantized already (bitsandbytes, 8 bits, by {DOWN}.SCB), which cannot be"),
        ({f"{DOWN}.qweight": ONES}, f"quantized already (GPTQ or AWQ, by {DOWN}.qweight), which cannot be"),
    ],
)
def test_what_is_quantized_is_refused_before_it_is_fetched(
    project: Project, hub: Hub, tmp_path: Path, command: str, shards: int, change: Tensors, said: str
) -> None:
    published(hub, checkpoint(tmp_path / "model", change, shards))
    assert said in fails(project, "quantmill", command, "small", code=2)
    assert not project.recipe.with_suffix(".lock").exists()
    assert not [name for name in hub.front.sent if name.endswith(".safetensors")]


def test_config_json_says_it_first(project: Project, hub: Hub, tmp_path: Path) -> None:
    published(hub, checkpoint(tmp_path / "model", {}, quantization_config={"quant_method": "gptq"}))
    assert "(gptq, `quantization_config`)" in fails(project, "quantmill", "lock", "small", code=2)
    assert hub.front.heads == []


def test_a_shape_that_config_json_does_not_give(project: Project, hub: Hub, tmp_path: Path) -> None:
    published(hub, checkpoint(tmp_path / "model", {"model.norm.weight": ("BF16", np.zeros(65, "<u2"))}))
    assert "by config.json it should be [64]" in fails(project, "quantmill", "lock", "small")


def test_a_file_that_plain_http_does_not_bring_is_not_asked_for(tmp_path: Path) -> None:
    listed = {WEIGHTS: HubFile(HTTP_LIMIT + 1, "0" * 64, "0" * 40)}
    assert fetch_heads("acme/tiny", "0" * 40, [WEIGHTS], listed, tmp_path) == {}


@pytest.mark.parametrize("ranges", [True, False])
def test_sizes_are_exact_where_the_checkpoint_has_more(
    project: Project, hub: Hub, tmp_path: Path, ranges: bool
) -> None:
    """An output matrix beside embeddings that config.json calls tied; also of a server that sends whole files alone."""
    files = checkpoint(tmp_path / "model", {"lm_head.weight": ("BF16", np.full((288, 64), 0x3C00, "<u2"))})
    published(hub, files)
    hub.front.ranges = ranges
    planned = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    project.run("quantmill", "lock", "small")
    assert lock_of(project)["output"] is True
    shutil.copytree(tmp_path / "model", project.folder / "recipes" / "tiny")
    project.recipe.write_text(LOCAL)
    local = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    assert [file["bytes"] for file in planned["files"]] == [file["bytes"] for file in local["files"]]
    assert planned["exact"] is True


def test_only_headers_are_read_and_none_of_what_is_here(project: Project, hub: Hub) -> None:
    """Of a file of 7 MB; and of one in the Hub's own cache, which a build has left there or another program."""
    project.run("quantmill", "lock", "small")
    asked = sum(size for name, size in hub.front.heads if name == WEIGHTS)
    assert 0 < asked <= 1 << 18
    assert WEIGHTS not in hub.front.sent
    cache = f"{os.environ['HF_HOME']}/hub"
    hf_hub_download("acme/tiny", WEIGHTS, revision=hub.first, endpoint=hub.front.url, cache_dir=cache)
    hub.front.reset()
    project.run("quantmill", "lock", "small")
    assert hub.front.heads == []
