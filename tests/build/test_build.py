"""Builds, run as a person runs them: what is computed, what is not, and what is said."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from projects import ALL_TASKS, TINY, Project
from quantmill.store.mapped_writes import moves_times


def test_a_build_makes_the_release_and_a_second_one_does_nothing(project: Project) -> None:
    assert project.ran("doit") == ALL_TASKS
    files = project.release()
    assert sorted(files) == [
        "README.ja.md",
        "README.md",
        "README.zh-CN.md",
        "README.zh-TW.md",
        "SHA256SUMS",
        "provenance.json",
        "release.json",
        "small-Q2_K.gguf",
        "small-Q4_K_M.gguf",
        "small-Q8_0.gguf",
        "small-bf16.gguf",
        "small.lock",
        "small.toml",
    ]
    sums = dict(reversed(line.split("  ")) for line in files["SHA256SUMS"].decode().splitlines())
    assert sums == {
        n: hashlib.sha256(b).hexdigest()
        for n, b in files.items()
        if n not in ("SHA256SUMS", "release.json", "provenance.json")
    }
    assert json.loads(files["release.json"])["llama_cpp"] == "b5490"
    assert project.run("doit").stdout == "nothing to do: everything is up to date\n"
    assert project.run("quantmill", "build", "small").stdout == "nothing to do: everything is up to date\n"


def test_comment_in_recipe_does_not_rebuild(project: Project) -> None:
    project.run("doit")
    project.edit("[quants]", "# a comment\n[quants]  # and another")
    assert project.run("doit").stdout == "nothing to do: everything is up to date\n"


def test_one_override_rebuilds_exactly_what_it_concerns(project: Project) -> None:
    project.run("doit")
    before = project.release()
    project.recipe.write_text(
        project.recipe.read_text()
        + '\n[[quants.override]]\nftypes = ["Q4_K_M"]\ntensors = { "blk.0.attn_v" = "Q8_0" }\n'
    )
    explained = project.run("quantmill", "explain", "quant:small/Q4_K_M").stdout
    assert explained == 'quant:small/Q4_K_M: run: tensor_types none → [["blk.0.attn_v","Q8_0"]]\n'
    assert project.run("quantmill", "explain", "quant:small/Q2_K").stdout == "quant:small/Q2_K: up to date\n"
    assert project.ran("doit") == [
        "card:small",
        "preflight:small",
        "quant:small/Q4_K_M",
        "release:small",
        "split:small/Q4_K_M",
        "verify:small/Q4_K_M",
    ]
    after = project.release()
    assert {name for name in after if after[name] != before[name]} == {
        "README.ja.md",
        "README.md",
        "README.zh-CN.md",
        "README.zh-TW.md",
        "SHA256SUMS",
        "provenance.json",
        "release.json",
        "small-Q4_K_M.gguf",
        "small.toml",
    }
    project.edit('Q8_0" }', 'Q8_0" }  # back to what the file had been, by another spelling')
    assert project.ran("doit") == []


def test_going_back_takes_everything_from_the_store(project: Project) -> None:
    project.run("doit")
    before = project.release()
    project.edit('"Q2_K"', '"Q3_K_S"')
    assert project.ran("doit") == [
        "card:small",
        "preflight:small",
        "quant:small/Q3_K_S",
        "release:small",
        "split:small/Q3_K_S",
        "verify:small/Q3_K_S",
    ]
    assert "small-Q2_K.gguf" not in project.release()
    project.edit('"Q3_K_S"', '"Q2_K"')
    assert project.ran("doit") == []
    assert project.release() == before


def test_another_name_changes_the_metadata_and_so_every_file(project: Project) -> None:
    project.run("doit")
    project.edit('"Small"', '"Smaller"')
    assert project.ran("doit") == [task for task in ALL_TASKS if task not in ("download:small", "preflight:small")]


def test_an_output_that_stays_the_same_stops_the_rebuild(project: Project) -> None:
    """A changed file of the base that the conversion does not read: only convert runs, by early cutoff, and
    the release is told anew, whose lock and tag are others."""
    project.run("doit")
    model = project.folder / "recipes" / "tiny"
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "quantmill_unused": 1}))
    assert project.ran("doit") == ["convert:small", "download:small", "preflight:small", "release:small"]


def test_a_clone_with_the_same_store_computes_nothing(make_project: Callable[..., Project]) -> None:
    one, other = make_project("one"), make_project("other")
    store = str(one.folder / "cache")
    one.run("doit", QUANTMILL_CACHE=store)
    done = other.run("doit", QUANTMILL_CACHE=store)
    where, counts = done.stdout.splitlines()[-2:]
    assert where == "the release is in release/small"
    assert counts.startswith(f"0 run, {len(ALL_TASKS)} from the store, 0 failed")
    assert other.release() == one.release()


def test_doit_commands_do_what_a_doit_user_expects(project: Project) -> None:
    listed = project.run("doit", "list", "--all", "-q").stdout.split()
    assert set(ALL_TASKS) <= set(listed)
    assert project.ran("doit", "quant:small/Q8_0") == [
        "convert:small",
        "download:small",
        "index:small",
        "preflight:small",
        "quant:small/Q8_0",
    ]
    assert "up-to-date" in project.run("doit", "info", "quant:small/Q8_0").stdout
    project.run("doit")
    tree = project.folder / "release" / "small"
    (tree / "mine.txt").write_text("not yours to remove")
    project.run("doit", "forget")
    assert project.ran("doit") == []
    project.run("doit", "clean", "-a")
    assert not list((project.folder / "build").rglob("*.json"))
    assert [path.name for path in tree.iterdir()] == ["mine.txt"]
    assert project.ran("doit") == []
    assert "small-Q8_0.gguf" in project.release()


def test_a_lost_database_and_lost_pointers_cost_nothing(project: Project) -> None:
    project.run("doit")
    before = project.release()
    shutil.rmtree(project.folder / "build")
    shutil.rmtree(project.folder / "release")
    assert project.ran("doit") == []
    assert project.release() == before


def test_a_lost_object_is_made_again(project: Project) -> None:
    project.run("doit")
    before = project.release()
    pointer = json.loads((project.folder / "build" / "small" / "quant" / "Q2_K.json").read_text())
    digest = pointer["model.gguf"]["sha256"]
    (project.folder / "cache" / "cas" / digest[:2] / digest).unlink()
    assert "quant:small/Q2_K: run" in project.run("quantmill", "explain", "quant:small/Q2_K").stdout
    assert project.ran("doit") == ["quant:small/Q2_K"]
    assert project.release() == before


def test_a_file_missing_from_the_release_is_laid_out_again(project: Project) -> None:
    project.run("doit")
    before = project.release()
    (project.folder / "release" / "small" / "small-Q2_K.gguf").unlink()
    assert project.ran("doit") == []
    assert project.release() == before


def test_parallel_tasks_and_threads_change_no_byte(make_project: Callable[..., Project]) -> None:
    one, other = make_project("one"), make_project("other")
    one.run("quantmill", "build", "small", "--threads", "1")
    other.run("doit", "-n", "3", TZ="Asia/Tokyo", LC_ALL="C")
    assert one.release() == other.release()


def test_files_above_the_limit_are_split(make_project: Callable[..., Project]) -> None:
    project = make_project(text=make_project("x").recipe.read_text() + '\n[split]\nmax_size = "2MB"\n')
    project.run("doit")
    names = list(project.release())
    assert "small-bf16/small-bf16-00001-of-00004.gguf" in names
    assert "small-Q2_K.gguf" in names
    plan = json.loads(project.run("quantmill", "plan", "small", "--json").stdout)
    shards = {row["name"]: (row["shards"], row["bytes"]) for row in plan["files"]}
    tree = project.folder / "release" / "small"
    for name, (count, size) in shards.items():
        files = list((tree / name).iterdir()) if name.endswith("/") else [tree / name]
        assert (len(files), sum(file.stat().st_size for file in files)) == (count, size)


def test_only_builds_one_file(project: Project) -> None:
    ran = project.ran("quantmill", "build", "small", "--only", "q4_k_m")
    assert ran == [
        "convert:small",
        "download:small",
        "index:small",
        "preflight:small",
        "quant:small/Q4_K_M",
        "split:small/Q4_K_M",
        "verify:small/Q4_K_M",
    ]


@pytest.mark.parametrize("command", ["verify", "show", "audit", "report", "reproduce"])
def test_a_release_that_is_called_as_its_recipe(project: Project, command: str) -> None:
    (project.folder / "release" / "small").mkdir(parents=True)
    assert " (did you mean release/small?); " in project.run("quantmill", command, "small", check=2).stderr


def test_a_target_is_told_as_it_is_written(project: Project) -> None:
    with project.recipe.open("a") as recipe:
        recipe.write("".join(f'[{name}]\ntext = "{TINY / name}.txt"\n' for name in ("calibration", "evaluation")))
        recipe.write('[[quants.target]]\nname = "fit-4.5"\nbits = 4.5\n')
    failed = project.run("quantmill", "build", "small", "--only", "fit-4", check=2)
    assert "fit-4 is not in its matrix (did you mean fit-4.5?): BF16 Q8_0 Q4_K_M Q2_K fit-4.5\n" in failed.stderr


def test_only_what_is_in_the_matrix(project: Project) -> None:
    failed = project.run("quantmill", "build", "small", "--only", "Q5_0", check=2)
    assert failed.stderr == (
        "quantmill: recipes/small.toml: Q5_0 is not in its matrix (did you mean Q8_0?): BF16 Q8_0 Q4_K_M Q2_K\n"
    )


def test_names_nearly_as_long_as_a_disk_takes(make_project: Callable[..., Project]) -> None:
    project, name = make_project(), "n" * 240
    project.edit('"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"Q8_0"')
    project.edit('prefix = "small"', f'prefix = "{"p" * 230}"')
    project.recipe.rename(project.recipe.with_stem(name))
    project.run("quantmill", "build", name)
    assert (project.folder / "release" / name / f"{'p' * 230}-Q8_0.gguf").is_file()
    assert project.run("quantmill", "build", name).stdout == "nothing to do: everything is up to date\n"


def test_locked_refuses_a_base_that_moved(project: Project) -> None:
    failed = project.run("quantmill", "build", "small", "--locked", check=2)
    assert failed.stderr == (
        "quantmill: recipes/small.lock: the recipe is to be built as locked, but it is missing; "
        "run 'quantmill lock recipes/small.toml' and commit the lock\n"
    )
    project.run("quantmill", "lock", "small")
    project.run("quantmill", "build", "small", "--locked", "--only", "Q8_0")
    config = project.folder / "recipes" / "tiny" / "config.json"
    config.write_text(config.read_text() + "\n")
    failed = project.run("quantmill", "build", "small", "--locked", check=2)
    assert "but config.json of the base changed" in failed.stderr


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ('"Q2_K"', '"Q2_KK"', 2, "quants.matrix: Q2_KK is not an ftype (did you mean Q2_K?)"),
        (
            '"b5490"',
            '"b9999"',
            2,
            "llama_cpp: llama.cpp b9999 is not supported; admit it with quantmill admit; the nearest tags that are: b9982 "
            "and b10068",
        ),
        ('"tiny"', '"tiny2"', 2, "base.path: there is no folder recipes/tiny2; give a model's folder"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(project: Project, old: str, new: str, code: int, message: str) -> None:
    project.edit(old, new)
    for command in (("quantmill", "build", "small"), ("quantmill", "plan", "small"), ("doit",)):
        failed = project.run(*command, check=code)
        assert message in failed.stderr
        assert "Traceback" not in failed.stderr
        assert failed.stderr.count("\n") == 1


def test_pickled_weights_are_refused_by_name(project: Project) -> None:
    model = project.folder / "recipes" / "tiny"
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    failed = project.run("quantmill", "build", "small", check=2)
    assert failed.stderr == (
        "quantmill: recipes/tiny: its weights are pickled (pytorch_model.bin), which can run code when read; "
        "give a model whose weights are safetensors\n"
    )


def test_damaged_weights_fail_the_work_and_leave_nothing(project: Project) -> None:
    weights = project.folder / "recipes" / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    failed = project.run("quantmill", "build", "small", check=1)
    assert failed.stderr.startswith("quantmill: convert:small: model.safetensors: ")
    assert "Traceback" not in failed.stderr
    assert not list((project.folder / "cache" / "work").iterdir())
    # The download's record, whose bytes are what they are, and preflight's.
    assert len(os.listdir(project.folder / "cache" / "ac")) == 2


def test_a_wrong_imatrix_is_refused(project: Project) -> None:
    (project.folder / "recipes" / "i.dat").write_bytes(b"not it")
    project.recipe.write_text(project.recipe.read_text() + f'\n[imatrix]\nfile = "i.dat"\nsha256 = "{"0" * 64}"\n')
    failed = project.run("quantmill", "build", "small", check=1)
    found = hashlib.sha256(b"not it").hexdigest()[:16]
    assert (
        f"imatrix:small: recipes/i.dat: it has sha256 {found}…, imatrix.sha256 of the recipe is 0000000000000000…; "
        "restore the file, or write its own\n"
    ) in failed.stderr


def test_nothing_to_do_opens_no_weights(project: Project) -> None:
    """Every file that a no-op doit opens, by Python's audit hook: none is a weight, none is large but for libraries."""
    if not moves_times(project.folder):
        pytest.skip("a file system whose files are hashed each time")
    project.run("doit")
    log = project.folder / "opened"
    hook = (
        "import sys; log = open(sys.argv.pop(), 'w'); "
        "sys.addaudithook(lambda event, facts: event == 'open' and print(facts[0], file=log)); "
        "from doit.doit_cmd import DoitMain; code = DoitMain().run([]); log.flush(); sys.exit(code)"
    )
    done = project.run("python", "-c", hook, str(log))
    assert done.stdout == "nothing to do: everything is up to date\n"
    opened = [Path(line) for line in log.read_text().splitlines()]
    ours = [path for path in opened if path.is_file() and path.is_relative_to(project.folder)]
    assert len(ours) > 20
    assert max(path.stat().st_size for path in ours if path.suffix != ".db") < 10_000
    assert not [path for path in opened if path.suffix in (".gguf", ".safetensors")]
