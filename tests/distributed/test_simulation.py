"""Builds on paper: hand-made tasks whose schedule is known, and real plans' sizes."""

import json
from collections.abc import Callable

import pytest

from projects import RECIPE, TINY, Project
from quantmill.build.graph import graph
from quantmill.distributed.parts import uncut
from quantmill.distributed.simulation import TOKENS, SimulatedTask, Team, _recipe_tasks, _run, simulate
from quantmill.forecast.base_file import describe
from quantmill.forecast.costs import Rates, quantize_costs
from quantmill.forecast.evaluation_rates import BESIDE, weigh
from quantmill.forecast.files import file_of
from quantmill.forecast.imatrix_cost import facts_of
from quantmill.forecast.plan import plan_of
from quantmill.recipe.lock import peek
from quantmill.recipe.recipe import load
from quantmill.store.local import sha256_file

TRILLION = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "hidden_size": 6144,
    "intermediate_size": 12288,
    "num_hidden_layers": 122,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 192,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2304,
    "vocab_size": 151936,
}


def test_the_longest_goes_first_and_to_where_its_input_is() -> None:
    # 0 writes 100 bytes that 1 to 3 read; bandwidth 10 bytes a second, so fetching them takes 10 s and sending too
    tasks = [
        SimulatedTask("base", 4.0, writes=100, hub=20),
        SimulatedTask("short", 2.0, reads={0: 100}, after=[0]),
        SimulatedTask("long", 30.0, reads={0: 100}, after=[0]),
        SimulatedTask("middle", 12.0, reads={0: 100}, after=[0]),
        SimulatedTask("end", 2.0, after=[1, 2, 3]),
    ]
    one = _run(tasks, Team(1, 2, 10.0), 1, 7)
    assert one.seconds == 2 + 2 + 1 + 15 + 6 + 1  # two threads; from the Hub, nothing else over the network
    assert (one.sent_bytes, one.fetched_bytes, one.hub_bytes, one.store_bytes) == (0, 0, 20, 100)
    assert one.busy == 1.0
    two = _run(tasks, Team(2, 2, 10.0), 1, 7)
    # base 2 + 2 + 10 to send it; then long at the holder for 15, and middle elsewhere 10 + 6; short after long, end
    assert two.seconds == 14 + 16 + 1
    assert (two.sent_bytes, two.fetched_bytes, two.worker_bytes) == (100, 100, 100)
    assert one.least_seconds == two.least_seconds == 2 + 2 + 15 + 1
    assert one.thread_seconds == two.thread_seconds == 50


def test_a_calibration_text_takes_the_tokens_that_it_has(make_project: Callable[..., Project]) -> None:
    project = make_project(text=RECIPE + '[calibration]\ntext = "text.txt"\nn_ctx = 128\n')
    text = project.recipe.parent / "text.txt"
    text.write_bytes((TINY / "calibration.txt").read_bytes()[:20_000])

    def seconds() -> float:
        recipe = load(project.recipe)
        rates = Rates()
        rates.products = lambda arithmetic: 1e9  # type: ignore[method-assign]
        tasks, _ = _recipe_tasks(recipe, peek(recipe, sha256_file), Team(1, 1, 1e9), rates)
        return next(task.seconds for task in tasks if task.name == "imatrix:small")

    recipe = load(project.recipe)
    lock = peek(recipe, sha256_file)
    base = describe(recipe, lock)
    tokens = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)["imatrix"]["tokens"]
    one = BESIDE * weigh(base.tensors, facts_of(base.kvs), 128).products / 1e9
    assert 0 < tokens < TOKENS
    assert seconds() == pytest.approx(one * tokens)
    project.edit("n_ctx = 128", "n_ctx = 128\nchunks = 3")
    assert seconds() == pytest.approx(one * 3 * 128)


def test_one_worker_computes_each_tensor_once(project: Project) -> None:
    recipe = load(project.recipe)
    lock = peek(recipe, sha256_file)
    quants = {name: node for name, node in graph(recipe, lock).items() if node.step.name == "quant"}
    base = describe(recipe, lock)
    files, _ = quantize_costs(quants, base)
    assert files["quant:small/Q8_0"] == set()
    rest = uncut(quants, base).rest
    assert all(seconds > 0 for name, seconds in rest.items() if not name.endswith("Q8_0"))
    again = uncut({**quants, "quant:small/again": quants["quant:small/Q4_K_M"]}, base).rest
    assert again["quant:small/again"] == 0.0
    assert file_of(quants["quant:small/Q2_K"], base).n_bytes > 0


def test_a_recipe_from_its_folder_needs_no_network(project: Project) -> None:
    recipe = load(project.recipe)
    found = simulate([recipe], project.folder, Team(1, 1, 1e9))
    assert found.hub_bytes == found.sent_bytes == found.fetched_bytes == 0
    assert found.release_bytes == sum(row.bytes for row in plan_of(recipe, project.folder).files)
    assert found.tasks == len(graph(recipe, peek(recipe, sha256_file)))
    assert found.seconds == pytest.approx(found.thread_seconds)


def test_a_thousand_billion_weights_from_a_config(project: Project) -> None:
    recipe = project.folder / "recipes" / "huge.toml"
    recipe.write_text(
        'llama_cpp = "b5490"\n[base]\nrepo = "team/huge"\n[quants]\nmatrix = ["BF16", "Q8_0", "Q4_K_M"]\n'
    )
    lock = {"format": 1, "base": {"repo": "team/huge", "revision": "main"}, "files": {}, "config": TRILLION}
    recipe.with_suffix(".lock").write_text(json.dumps(lock | {"metadata_bytes": None}))
    plan = json.loads(project.run("quantmill", "plan", "huge", "--json").stdout)
    assert 0.99e12 < plan["files"][0]["bytes"] / 2 < 1.02e12
    command = ("quantmill", "plan", "huge", "--simulate", "--workers", "8", "--threads", "32", "--bandwidth", "5GB/s")
    once = json.loads(project.run(*command, "--json").stdout)
    many = json.loads(project.run(*command, "--times", "30", "--json").stdout)
    for key in ("recipes", "hub_bytes", "release_bytes"):
        assert many[key] == 30 * once[key]
    assert once["release_bytes"] == sum(file["bytes"] for file in plan["files"])
    assert 0 < plan["files"][0]["bytes"] - once["hub_bytes"] < 10_000  # the shards' headers
    assert once["least_seconds"] <= once["seconds"] <= many["seconds"]
    assert once["tasks"] > len(plan["tasks"])  # cut into parts


def test_calls_that_make_no_sense(project: Project) -> None:
    for options, sentence in (
        (("small", "small"), "one recipe has a plan, 2 are named; name one, or add --simulate"),
        (("small", "--workers", "3"), "--workers is an option of --simulate; add that, or leave it out"),
    ):
        assert project.run("quantmill", "plan", *options, check=2).stderr == f"quantmill: {sentence}\n"
    for text, problem in (
        ("fast/s", "'fast' is not a size; write it like 50GB or 300MB"),
        ("0", "a network that carries nothing; write it like 1.25GB"),
    ):
        said = project.run("quantmill", "plan", "small", "--simulate", "--bandwidth", text, check=2).stderr
        assert said.splitlines()[-1] == f"quantmill plan: error: argument --bandwidth: {problem}"


def test_the_text_of_a_simulation(project: Project) -> None:
    command = ("quantmill", "plan", "small", "--simulate", "--workers", "2")
    lines = project.run(*command).stdout.splitlines()
    assert lines[0].startswith("1 recipes, ")
    assert project.run(*command, "--times", "30").stdout.startswith("30 recipes, ")
    assert [line.split()[0] for line in lines[1:]] == ["time", "work", "network", "store"]
