"""An imatrix computed by several workers, range by range and group by group, has the bytes of one step."""

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from architecture_helpers.hybrid_models import HYBRID_MODELS
from forward_models import LENGTH, MODELS, Small, text, write
from quantmill.artifact import Artifact, ByteRange, Context
from quantmill.build.graph import Edge, Node
from quantmill.build.node_key import Facts
from quantmill.distributed import waves
from quantmill.engine.budget import BASE, budget
from quantmill.engine.errors import TooLittleMemory
from quantmill.engine.evaluation import Run, open_model
from quantmill.errors import QuantmillError
from quantmill.steps import imatrix, wave
from quantmill.store.local import sha256_file

PARAMS = {"arithmetic": "f32", "texts": [["a", "a", None]], "n_ctx": LENGTH, "from_chunk": 0}
CASES = [
    ("qwen2", 5, {}, 2),
    ("gemma3", 5, {"process_output": True}, 3),
    ("gemma3", 5, {"process_embedding": True}, 2),
    ("mixtral", 4, {"process_output": True, "arithmetic": "bf16x2"}, 2),
    ("qwen3moe", 3, {"n_ctx": 64}, 4),
    ("llama", 2, {}, 3),  # a range without a chunk
    ("qwen2", 4, {"perplexity": False}, 2),
    ("llama", 4, {"perplexity": False, "process_output": True}, 2),
    ("gemma4", 3, {}, 2),  # keys and values go with the states
]
SMALL = MODELS | HYBRID_MODELS


def artifact(path: Path) -> Artifact:
    return Artifact(path, sha256_file(path), path.stat().st_size)


class Machines:
    """Workers in threads of this process, each wave in a folder of its own."""

    def __init__(self, folder: Path, given: Mapping[str, Artifact], memory: int) -> None:
        self.folder, self.given, self.memory = folder, given, memory
        self.made: dict[str, dict[str, Artifact]] = {}
        self.lock = threading.Lock()

    def send(self, node: Node) -> Facts:
        inputs = {**self.given, **{e.name: self.made[e.node][e.output] for e in node.edges if e.node != "base"}}
        out = self.folder / node.name.replace("/", "-")
        out.mkdir()
        wave.run(inputs, {**node.params, "memory": self.memory}, out, Context())
        with self.lock:
            self.made[node.name] = {path.name: artifact(path) for path in out.iterdir()}
        return {name: {"sha256": file.sha256, "size": file.size} for name, file in self.made[node.name].items()}

    def find(self, key: str) -> ByteRange | None:
        (last,) = (outputs for outputs in self.made.values() if "collected" in outputs)
        listed = json.loads(last["lent.json"].path.read_bytes())
        return ByteRange(last["collected"].path, **listed[key]) if key in listed else None


def least(model: Path, chunks: int, params: Mapping[str, Any]) -> int:
    """The least memory, in steps of 4 KiB, that a wave can do with: the text's states are in a file then."""
    with open_model(model, "it") as opened:
        for memory in range(BASE, BASE << 1, 1 << 12):
            with suppress(TooLittleMemory):
                assert budget(opened, Run(params["arithmetic"], memory=memory), chunks, params["n_ctx"]).spilled
                return memory
    raise AssertionError("a small model needs little")


def node(params: Mapping[str, Any]) -> Node:
    return Node("imatrix:small", "imatrix", params, (Edge("base", "model.gguf", "model.gguf"),), 1)


@pytest.mark.parametrize(("name", "chunks", "more", "workers"), CASES)
@pytest.mark.parametrize("spilled", [False, True])
def test_waves_have_the_bytes_of_one_step(
    tmp_path: Path, name: str, chunks: int, more: Mapping[str, Any], workers: int, spilled: bool
) -> None:
    small: Small = replace(SMALL[name], layers=max(5, SMALL[name].layers))
    params = {**PARAMS, **more}
    (tmp_path / "a").write_text(text(chunks * params["n_ctx"]))
    given = {"model.gguf": artifact(write(small, tmp_path / "model.gguf")), "texts/a": artifact(tmp_path / "a")}
    (tmp_path / "one").mkdir(), (tmp_path / "many").mkdir(), (tmp_path / "waves").mkdir()
    imatrix.run(given, params, tmp_path / "one", Context())
    machines = Machines(
        tmp_path / "waves",
        given,
        least(given["model.gguf"].path, -(-chunks // workers), params) if spilled else 1 << 33,
    )
    rows = waves.cut(node(params), workers, small.layers)
    assert len(rows) == workers
    assert [wave.params["layers"][0] for wave in rows[0]] == list(range(small.layers))
    last = waves.run(rows, machines.send)
    assert "collected" in last
    imatrix.run(given, params, tmp_path / "many", Context(find=machines.find))
    for file in ("imatrix.dat", "report.json"):
        assert (tmp_path / "many" / file).read_bytes() == (tmp_path / "one" / file).read_bytes()
    assert not [path for path in (tmp_path / "waves").rglob("*") if ".work" in path.parts]
    # the step took those sums and computed none: with others, it writes another file
    damaged = machines.find(imatrix.lent_key(given, params))
    assert damaged is not None
    data = bytearray(damaged.path.read_bytes())
    data[-9] ^= 1
    damaged.path.write_bytes(data)
    (tmp_path / "again").mkdir()
    imatrix.run(given, params, tmp_path / "again", Context(find=machines.find))  # its digest is wrong: not used
    assert (tmp_path / "again" / "imatrix.dat").read_bytes() == (tmp_path / "one" / "imatrix.dat").read_bytes()


def test_what_decides_the_bytes_is_in_the_key_of_what_is_lent(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    (tmp_path / "y").write_bytes(b"y")
    x, y = artifact(tmp_path / "x"), artifact(tmp_path / "y")
    given = {"model.gguf": x, "texts/a": x}
    keys = [
        imatrix.lent_key(given, PARAMS),
        imatrix.lent_key({**given, "model.gguf": y}, PARAMS),
        imatrix.lent_key({**given, "texts/a": y}, PARAMS),
        *(
            imatrix.lent_key(given, {**PARAMS, name: value})
            for name, value in (
                ("arithmetic", "bf16x2"),
                ("n_ctx", 64),
                ("chunks", 1),
                ("from_chunk", 1),
                ("process_output", True),
                ("process_embedding", True),
                ("perplexity", False),
                ("texts", [["a", "b", None]]),
            )
        ),
    ]
    assert len(set(keys)) == len(keys)
    assert imatrix.lent_key({**given, "states": y}, {**PARAMS, "memory": 1}) == keys[0]


def test_a_wave_that_fails_ends_those_that_wait_for_it() -> None:
    sent = []

    def send(node: Node) -> Facts:
        sent.append(node.name)
        if node.name.endswith(".0.1"):
            raise QuantmillError("its disk is full")
        return {}

    with pytest.raises(QuantmillError, match="its disk is full"):
        waves.run(waves.cut(node(PARAMS), 2, 8), send)
    assert set(sent) == {"part:small/imatrix.0.0", "part:small/imatrix.0.1", "part:small/imatrix.1.0"}
