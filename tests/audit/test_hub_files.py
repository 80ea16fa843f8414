"""show and audit of files in a repository of the Hub, of which headers and drawn rows alone are sent."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hub_bases import Hub
from hub_bases import hub as hub  # the fixture
from hub_bases import project as project  # the fixture
from hub_helpers import fails
from projects import Project
from quantmill import gguf
from quantmill.gguf.types import TYPES
from quantmill.quant.quantizer import quantize_file

ROWS, NAME = 12_000, "blk.0.ffn_up.weight"


@pytest.fixture
def sizes(hub: Hub, tmp_path: Path) -> dict[str, int]:
    """The repository has a base and what is made of it."""
    weights = np.random.default_rng(8).standard_normal((ROWS, 1024)) * 0.02
    kvs = [gguf.kv("general.architecture", "llama"), gguf.kv("llama.block_count", 1)]
    base, path = tmp_path / "base.gguf", tmp_path / "x-Q4_K_S.gguf"
    with gguf.Writer(base, kvs, [gguf.TensorEntry(NAME, (1024, ROWS), TYPES["F16"])]) as writer:
        writer.append(weights.astype("<f2").tobytes())
    quantize_file(base, path, "Q4_K_S")
    hub.repository.commit({file.name: file.read_bytes() for file in (base, path)})
    return {file.name: file.stat().st_size for file in (base, path)}


def test_files_of_the_hub(hub: Hub, project: Project, sizes: dict[str, int]) -> None:
    hub.front.reset()
    [shown] = json.loads(project.run("quantmill", "show", "acme/tiny/x-Q4_K_S.gguf", "--json").stdout)
    assert shown["files"] == [{"name": "acme/tiny/x-Q4_K_S.gguf", "size": sizes["x-Q4_K_S.gguf"]}]
    assert shown["mix"]["ftype"] == "Q4_K_S"
    assert hub.front.heads == [("x-Q4_K_S.gguf", 1 << 16)]
    hub.front.reset()
    call = ("quantmill", "audit", "acme/tiny/x-Q4_K_S.gguf", "--base", "acme/tiny/base.gguf")
    found: Any = json.loads(project.run(*call, "--sample", "2%", "--json").stdout)
    assert found["files"][0]["verdict"] == "same"
    assert found["files"][0]["rows"] == 240
    assert 0 < sum(size for _, size in hub.front.heads) <= 0.03 * sum(sizes.values())
    assert not hub.front.sent
    assert "give --sample 2%, or download it" in fails(project, *call, code=2)
    both: Any = json.loads(project.run("quantmill", "show", "acme/tiny", "--json").stdout)
    assert [each["files"][0]["name"] for each in both] == ["acme/tiny/base.gguf", "acme/tiny/x-Q4_K_S.gguf"]
    assert "it has no file y.gguf" in fails(project, "quantmill", "show", "acme/tiny/y.gguf", code=2)
    hub.front.ranges = False
    assert "does not send the range asked for" in fails(project, *call, "--sample", "2%", code=1)
