"""`quantmill init --ci`: the workflow that it writes, whose shell is run here as a runner does."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from projects import RECIPE, ROOT, TINY
from quantmill import __version__
from quantmill.cli import main

PLACE = Path(".github") / "workflows" / "quantmill.yml"
BIN = Path(sys.executable).parent
GIT = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
EVIL = "recipes/$(touch owned)`touch owned` '\"; touch owned #\n@all.toml"
NOTES = '#!/bin/sh\n{ echo "$(basename "$0")"; printf "<%s>" "$@"; echo; env; } >> "$NOTES"\n'


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


class Repository:
    """A git repository with a project in it, and a runner's folders beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.runner = folder / "project", folder / "runner"
        (self.folder / "recipes").mkdir(parents=True)
        self.runner.mkdir()
        shutil.copytree(TINY, self.folder / "recipes" / "tiny")
        self.write("recipes/small.toml", RECIPE)
        self.write("recipes/other.toml", RECIPE.replace('"small"', '"other"'))
        self.git("init", "-q", "-b", "main")
        self.commit()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self.folder, env={**os.environ, **GIT}, check=True)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "change")

    def merged(self) -> None:
        """What is changed becomes a pull request's branch, and HEAD what GitHub checks out of it."""
        self.git("switch", "-q", "-c", "change")
        self.commit()
        self.git("switch", "-q", "main")
        self.git("merge", "-q", "--no-ff", "-m", "merge", "change")

    def step(self, job: str, name: str, check: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one step's shell, by which nothing of an expression is in the text."""
        (found,) = (step for step in workflow(self.folder)["jobs"][job]["steps"] if step.get("name") == name)
        assert "${{" not in found["run"]
        paths = {
            "RUNNER_TEMP": self.runner,
            "GITHUB_ENV": self.runner / "env",
            "GITHUB_STEP_SUMMARY": self.runner / "sum",
        }
        known = {**os.environ, **dict.fromkeys(found.get("env", {}), ""), **{k: str(v) for k, v in paths.items()}}
        known |= {"PATH": f"{self.runner}/bin:{BIN}:{os.environ['PATH']}", **environment}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", found["run"]]
        done = subprocess.run(command, cwd=self.folder, env=known, capture_output=True, text=True, timeout=300)
        assert done.returncode == check, done.stderr
        return done

    def stand_in(self, program: str, text: str = NOTES) -> Path:
        """In the place of a program that would reach the Hub or GitHub; what its calls are is in the file."""
        path = self.runner / "bin" / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return self.runner / "notes"


def workflow(folder: Path) -> Any:
    return yaml.safe_load((folder / PLACE).read_text())


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    found = Repository(tmp_path)
    monkeypatch.chdir(found.folder)
    assert call("init", "--ci") == 0
    found.commit()
    return found


def test_nothing_is_overwritten_and_there_must_be_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(folder: Path) -> str:
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        before = sorted(tmp_path.rglob("*"))
        assert call("init", "--ci") == 2
        assert sorted(tmp_path.rglob("*")) == before
        return capsys.readouterr().err

    assert "here is none" in said(tmp_path / "none")
    project = tmp_path / "top" / "project"
    (project / "recipes").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", project.parent], check=True)
    assert f"begins at {project.parent}" in said(project)
    (project.parent / "recipes").mkdir()
    monkeypatch.chdir(project.parent / "recipes")
    assert call("init", "--ci") == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(str(PLACE))
    kept = (project.parent / PLACE).read_bytes()
    assert "it exists, and nothing is overwritten" in said(project.parent)
    assert (project.parent / PLACE).read_bytes() == kept
    (project.parent / PLACE).unlink()
    (project.parent / PLACE).symlink_to("nowhere")
    assert "it exists" in said(project.parent)


def test_what_each_job_may(repository: Repository) -> None:
    """Actions have a major version, secrets are of the release alone, rights are the least, shell has no expression."""
    found = workflow(repository.folder)
    assert found["permissions"] == {}
    assert found["env"] == {"QUANTMILL": f"quantmill[sign]=={__version__}"}
    assert set(found[True]) == {"pull_request", "push"}  # `on` is a truth value in YAML
    assert {name: job["permissions"] for name, job in found["jobs"].items()} == {
        "plan": {"contents": "read"},
        "comment": {"pull-requests": "write"},
        "release": {"contents": "read"},
    }
    for name, job in found["jobs"].items():
        assert ("secrets." in yaml.dump(job)) == (name == "release")
        for step in job["steps"]:
            assert "uses" not in step or re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
            assert "${{" not in step.get("run", "")
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False
    assert found["jobs"]["release"]["if"] == "github.event_name == 'push'"
    assert found["jobs"]["release"]["environment"] == "release"
    assert "head.repo.full_name == github.repository" in found["jobs"]["comment"]["if"]


def plan(repository: Repository, check: int = 0) -> tuple[list[str], str]:
    """The recipes that the plan step plans, and what it writes."""
    repository.step("plan", "Plan", check)
    text = (repository.folder / "plan.md").read_text()
    assert (repository.runner / "sum").read_text() == text
    (repository.runner / "sum").unlink()
    assert text.startswith("<!-- quantmill plan -->\n")
    shown = text.splitlines()[2:]
    assert all(not line or line.startswith("    ") for line in shown), "all is shown as it is, and is no markup"
    return re.findall(r"^    \$ quantmill plan (.*)$", text, re.M), text


def test_a_recipe_that_changed_is_planned(repository: Repository) -> None:
    repository.write("recipes/small.toml", RECIPE.replace('"Q2_K"', '"Q3_K_M"'))
    repository.write("recipes/README.md", "text")
    repository.write("README.md", "text")
    repository.merged()
    planned, text = plan(repository)
    assert planned == ["recipes/small.toml"]
    for said in ("small-Q3_K_M.gguf", "bits/weight", "to run", "disk ", "on this machine"):
        assert said in text


@pytest.mark.parametrize("changed", ["recipes/tiny/README.md", "recipes/text.txt", "quantmill.toml"])
def test_what_is_of_no_one_recipe_bears_on_all(repository: Repository, changed: str) -> None:
    repository.write(changed, "")
    (repository.folder / "recipes" / "other.toml").unlink()
    repository.write("recipes/new.toml", RECIPE)
    repository.merged()
    assert plan(repository)[0] == ["recipes/new.toml", "recipes/small.toml"]


def test_names_and_recipes_are_not_obeyed(repository: Repository) -> None:
    repository.write(EVIL, RECIPE)
    repository.write("recipes/-rf.toml", "llama_cpp = '```\\n# @all ${{ secrets.HF_TOKEN }}'\n")
    repository.write("recipes/a].toml", RECIPE)
    repository.merged()
    planned, text = plan(repository, check=1)
    assert len(planned) == 3
    assert "quantmill: " in text
    assert not [*repository.folder.rglob("owned"), *repository.runner.rglob("owned")]


def test_a_comment_is_made_once_and_then_changed(repository: Repository) -> None:
    names = {"REPOSITORY": "acme/models", "NUMBER": "7", "NOTES": str(repository.runner / "notes")}
    repository.write("plan.md", "<!-- quantmill plan -->\n" + "é" * 70_000)
    mine = NOTES + 'case "$*" in *--paginate*) [ -z "$MINE" ] || printf "%s\\n" "$MINE" ;; esac\n'
    notes = repository.stand_in("gh", mine)
    for there, asked in (
        ("", "<repos/acme/models/issues/7/comments>"),
        ("12\n34", "<repos/acme/models/issues/comments/12>"),
    ):
        repository.step("comment", "Comment", MINE=there, **names)
        calls = re.findall(r"^gh\n(<.*)$", notes.read_text(), re.M)
        body = f"<-F><body=@{repository.runner}/body.md>"
        assert len(calls) == 2
        assert calls[1] == "<api><--silent>" + ("<-X><PATCH>" if there else "") + asked + body
        notes.unlink()
    assert 50_000 < len((repository.runner / "body.md").read_bytes()) <= 60_000
    (repository.runner / "body.md").read_text()


def test_a_tag_names_its_recipe(repository: Repository) -> None:
    for tag in ("release/small", "release/small/2", "release/small/a/b"):
        repository.step("release", "Find the recipe", TAG=tag)
    assert (repository.runner / "env").read_text() == "NAME=small\n" * 3
    for tag in ("release/none", "release/", "release/../small", "release/$(touch owned)"):
        assert "names no recipe" in repository.step("release", "Find the recipe", 1, TAG=tag).stderr
    assert not [*repository.folder.rglob("owned")]


def test_a_tag_is_built_and_a_sample_again(repository: Repository) -> None:
    subprocess.run([BIN / "quantmill", "lock", "small"], cwd=repository.folder, check=True, capture_output=True)
    repository.commit()
    repository.step("release", "Build", NAME="small")
    done = repository.step("release", "Build a sample again", NAME="small")
    assert "2 of 2 sampled files are the same" in done.stdout
    for path in (repository.folder / "release" / "small").glob("*.gguf"):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:])
    repository.step("release", "Build a sample again", 1, NAME="small")


def test_a_release_has_its_secrets_where_it_needs_them(repository: Repository) -> None:
    notes = repository.stand_in(
        "quantmill", NOTES + '[ -z "$QUANTMILL_SIGN" ] || stat -c "mode %a" "$QUANTMILL_SIGN"\n'
    )
    known = {"NAME": "small", "NOTES": str(notes)}
    done = repository.step("release", "Build", HF_TOKEN="hf", QUANTMILL_KEY="-----KEY-----\nx", **known)
    told = notes.read_text()
    assert "<build><recipes/small.toml><--locked>" in told
    assert "HF_TOKEN=hf" in told
    assert "QUANTMILL_KEY=" not in told
    assert "AWS_ACCESS_KEY_ID" not in told, "a secret that is not there is no empty one"
    assert done.stdout == "mode 600\n"
    assert not (repository.runner / "team.key").exists()
    notes.unlink()
    repository.step("release", "Build a sample again", **known)
    repository.step("release", "Publish", HF_TOKEN="hf", **known)
    told = notes.read_text()
    assert "<reproduce><release/small><--sample><2>" in told
    assert "<publish><recipes/small.toml><--yes>" in told
    assert told.count("HF_TOKEN=") == 1


def test_the_calls_are_ones_that_the_program_takes(repository: Repository) -> None:
    from quantmill.cli import parser

    text = (repository.folder / PLACE).read_text()
    calls = re.findall(r"^ *(?:run: )?quantmill ([a-z]+ .*?)(?: >.*)?$", text, re.M)
    assert len(calls) == 4
    for each in calls:
        words = each.replace('"', "").split()
        parser(words).parse_args(words)
    assert stat.S_ISREG((repository.folder / PLACE).lstat().st_mode)
    assert ROOT not in repository.folder.parents
