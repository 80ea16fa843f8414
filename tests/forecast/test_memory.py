"""What steps may take of memory: in the plan, and within what the process may use."""

from pathlib import Path

import pytest

from projects import RECIPE, Project
from quantmill.engine.run import Run
from quantmill.forecast.evaluation_rates import memory, weigh
from quantmill.forecast.plan import plan_of
from quantmill.gguf.types import TYPES
from quantmill.host import usable_memory
from quantmill.recipe.recipe import load


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/memory.max": "5000", "a/b/memory.max": "max"}, 5000),
        ("0::/a/b\n", {"a/memory.max": "5000", "a/b/memory.max": "4000"}, 4000),
        ("0::/\n", {"memory.max": "3000"}, 3000),
        ("3:cpu:/x\n2:memory:/a\n", {"memory/a/memory.limit_in_bytes": "2000"}, 2000),
        ("2:memory:/a\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 8000 * 1024),
        ("", {}, 8000 * 1024),
    ],
)
def test_a_control_group_limits_memory(groups: str, files: dict[str, str], expected: int, tmp_path: Path) -> None:
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:  8000 kB\n")
    (proc / "self" / "cgroup").write_text(groups)
    for name, text in files.items():
        (sys / "fs" / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (sys / "fs" / "cgroup" / name).write_text(text)
    assert usable_memory(proc, sys) == expected


def test_every_step_is_in_the_plan(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.recipe.write_text(RECIPE + '[bench]\ntests = ["pp8"]\n')
    plan = plan_of(load(project.recipe), project.folder)
    assert plan.memory.keys() == {name.partition(":")[0] for name in plan.tasks}
    assert plan.memory["bench"] > plan.files[0].bytes
    monkeypatch.setattr("quantmill.forecast.plan.usable_memory", lambda: 200_000_000)
    told = plan_of(load(project.recipe), project.folder).findings
    assert "download may take 300.00 MB of memory, of which this process may use 200.00 MB" in told


def test_a_pass_takes_no_more_than_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantmill.engine.run.usable_memory", lambda: 1_000_000_000)
    assert Run(memory=8 << 30).memory == 1_000_000_000
    assert Run(memory=5).memory == 5


def test_a_pass_takes_what_it_was_measured_to_take() -> None:
    """SmolLM2-135M, whose output matrix is larger than a layer: benchmarks/plan_against_fact.py --recipe."""
    shapes = {"attn_q": (576, 576), "attn_k": (576, 192), "attn_v": (576, 192), "attn_output": (576, 576)}
    shapes |= {"ffn_gate": (576, 1536), "ffn_up": (576, 1536), "ffn_down": (1536, 576)}
    type_ = TYPES["BF16"]
    tensors = [("token_embd.weight", (576, 49152), type_)]
    tensors += [(f"blk.{i}.{name}.weight", shape, type_) for i in range(30) for name, shape in shapes.items()]
    work = weigh(tensors, {"attention.head_count": 9, "attention.key_length": 64}, 512)
    for tokens, models, measured in ((38400, 1, 305e6), (4096, 1, 232e6), (4096, 2, 468e6)):
        assert memory(work, tokens, 8 << 30, models) == pytest.approx(measured, rel=0.2)
    unpredicted = weigh(tensors, {"attention.head_count": 9, "attention.key_length": 64}, 512, perplexity=False)
    assert memory(unpredicted, 4096, 8 << 30) < 150e6
    assert memory(work, 4096, 200_000_000) == 200_000_000


def test_rows_that_are_looked_up_are_no_work() -> None:
    tensors = [("token_embd.weight", (64, 100), TYPES["F32"]), ("blk.0.ffn_up.weight", (64, 96), TYPES["F32"])]
    looked_up = ("per_layer_token_embd.weight", (1 << 13, 1 << 18), TYPES["F32"])
    assert weigh([*tensors, looked_up], {}, 128) == weigh(tensors, {}, 128)
