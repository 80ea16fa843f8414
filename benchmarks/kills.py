"""Builds that are killed, many at once, and with a clock that is set back: each must leave what the next one finishes.

    python benchmarks/kills.py [--first SEED] [--kills N] [--rounds N] [--clocks N] [--folder DIR]

- kills: SIGKILL to the whole process group of a build, of `cache gc` or of `cache verify`, at a random moment, N times
  in all; whenever a build comes to its end before, the next begins from nothing.
- rounds: eight builds at once from two folders that share a store, with collectors beside that keep nothing, and some
  of the builds killed.
- clocks: a build whose clock is set back an hour as soon as it has begun, beside collectors that keep only what
  pointers and releases name.

After each, a build that nothing disturbs ends with 0; every byte of the release must be that of an undisturbed build,
another build have nothing to do, `cache verify` find nothing, and `cache gc` leave nothing of the dead. Prints the
counts, and a line for whatever was not so; ends with 1 where there is one.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/helpers"))

from projects import RECIPE, Project, new_project  # noqa: E402

CALIBRATED = RECIPE + '[calibration]\ntext = "text.txt"\nn_ctx = 128\nchunks = 8\n'
BUILDS = (("doit",), ("doit", "-n", "2"), ("quantmill", "build", "small"))
COLLECTORS = (("--keep", "0s"), ("--keep", "pointers", "--keep", "0s"), ("--max-size", "1MB"), ())
BUILT = ("--keep", "pointers", "--keep", "releases", "--keep", "0s")
IDLE = "nothing to do: everything is up to date\n"
PATIENCE = 600.0  # seconds until a build counts as one that hangs

# The other side of a clock that is set back: the build began an hour from now.
BACK = """
import os
from quantmill.store.objects import Objects

live = Objects._live


def from_then(self):
    began = not self._alive
    live(self)
    if began and self._since[0]:
        moment = self._since[0] + 3600 * 10**9
        os.utime(self._since[1], ns=(moment, moment))
        self._since = moment, self._since[1]


Objects._live = from_then
"""


class Trials:
    """Projects below `folder`, what their release is, and what was found."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.counts, self.faults = folder, Counter[str](), 0
        (folder / "tmp").mkdir()
        os.environ["TMPDIR"] = str(folder / "tmp")
        project = self.project("undisturbed")
        began = time.monotonic()
        project.run("doit")
        self.length, self.want = time.monotonic() - began, project.release()

    def project(self, name: str) -> Project:
        """A new one of that name."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        project = new_project(self.folder / name, CALIBRATED)
        shutil.copy(ROOT / "recipes/tiny/calibration.txt", project.folder / "recipes/text.txt")
        return project

    def told(self, where: str, what: str) -> None:
        self.faults += 1
        print(f"{where}: {what}", flush=True)

    def look(self, where: str, project: Project, **environment: str) -> None:
        """After the last kill: a build, and all that must be so after it."""
        done = project.run("doit", check=None, **environment)
        said = done.stdout + done.stderr
        if done.returncode or "Traceback" in said:
            self.told(where, f"the last build ended with {done.returncode}: {said[-2000:]}")
        if (found := project.release()) != self.want:
            wrong = sorted(name for name in found | self.want if found.get(name) != self.want.get(name))
            self.told(where, f"wrong: {wrong}")
        for command in (("doit",), ("quantmill", "cache", "verify"), ("quantmill", "cache", "gc", *BUILT)):
            done = project.run(*command, check=None, **environment)
            if done.returncode or done.stderr or (command == ("doit",) and done.stdout != IDLE):
                self.told(where, f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")

    def left(self, where: str, *folders: Path) -> None:
        """What the dead have left, which nobody takes up any more."""
        for folder in (*folders, self.folder / "tmp"):
            paths = [path for path in folder.rglob("*") if path.name.endswith((".tmp", ".part", "-journal"))]
            for name in ("cache/work", "cache/part", "cache/live", "cache/withdrawn", "tmp"):
                paths += (folder / name).glob("*")
            if paths:
                self.told(where, f"left over: {[str(path.relative_to(self.folder)) for path in paths]}")

    def start(self, project: Project, command: tuple[str, ...], **environment: str) -> subprocess.Popen[bytes]:
        """A program of this environment in a process group of its own; what it says is kept in a file."""
        with open(self.folder / f"said-{self.counts['started']}", "wb") as said:
            self.counts["started"] += 1
            return subprocess.Popen(
                [str(Path(sys.executable).parent / command[0]), *command[1:]],
                cwd=project.folder,
                env={**os.environ, **environment},
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        """All that was said since it was last asked for."""
        paths = sorted(self.folder.glob("said-*"))
        text = "".join(path.read_text(errors="replace") for path in paths)
        for path in paths:
            path.unlink()
        return text


def kill(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kills(trials: Trials, seed: int, number: int) -> None:
    """One project after another, each killed until a build comes to its end."""
    done, finished = 0, 0
    counts: Counter[str] = Counter()
    while done < number:
        where, rng = f"kills, seed {seed + finished}", random.Random(seed + finished)
        project, ended = trials.project("killed"), False
        while not ended and done < number:
            building = rng.random() < 0.8
            care = rng.choice((("quantmill", "cache", "verify"), ("quantmill", "cache", "gc", *rng.choice(COLLECTORS))))
            process = trials.start(project, rng.choice(BUILDS) if building else care)
            try:
                code = process.wait(rng.uniform(0.05, trials.length / (2 if building else 4)))
                ended = building
                if code:
                    trials.told(where, f"{process.args!r} ended with {code}")
            except subprocess.TimeoutExpired:
                kill(process)
                done += 1
                counts["builds" if building else "cache"] += 1
        if "Traceback" in (said := trials.said()):
            trials.told(where, f"a traceback: {said[-2000:]}")
        trials.look(where, project)
        trials.left(where, project.folder)
        finished += 1
    print(f"kills: {done} ({dict(sorted(counts.items()))}), {finished} projects finished", flush=True)


def concurrent(trials: Trials, seed: int, number: int) -> None:
    """Rounds of eight builds of two folders with one store, collectors beside."""
    counts: Counter[str] = Counter()
    for turn in range(number):
        where, rng = f"round {turn}, seed {seed + turn}", random.Random(seed + turn)
        first, second = trials.project("first"), trials.project("second")
        places = {"QUANTMILL_CACHE": str(first.folder / "cache")}
        running = [trials.start(second if n % 4 == 3 else first, BUILDS[n % 3], **places) for n in range(8)]
        collecting: list[subprocess.Popen[bytes]] = []
        killed: set[int] = set()
        began = time.monotonic()
        while any(process.poll() is None for process in running) and time.monotonic() - began < PATIENCE:
            alive = [process for process in running if process.poll() is None]
            if rng.random() < 0.5:
                command = ("quantmill", "cache", "gc", *rng.choice(COLLECTORS))
                collecting.append(trials.start(rng.choice((first, second)), command, **places))
                collecting[-1].wait()
            elif rng.random() < 0.4 and alive and len(killed) < 6:
                process = rng.choice(alive)
                kill(process)
                killed.add(process.pid)
            else:
                time.sleep(rng.uniform(0.1, 1))
        for process in [process for process in running if process.poll() is None]:
            trials.told(where, f"{process.args!r} hangs")
            kill(process)
        said = trials.said()
        for process in running + collecting:
            if process.returncode and process.pid not in killed:
                trials.told(where, f"{process.args!r} ended with {process.returncode}: {said[-2000:]}")
        if "Traceback" in said:
            trials.told(where, f"a traceback: {said[-2000:]}")
        counts += Counter(builds=8, killed=len(killed), collectors=len(collecting))
        for project in (first, second):
            trials.look(where, project, **places)
        trials.left(where, first.folder, second.folder)
    print(f"concurrent: {dict(counts)}", flush=True)


def clocks(trials: Trials, seed: int, number: int) -> None:
    """Builds with a clock that was set back, collectors beside: no step may run twice."""
    counts: Counter[str] = Counter()
    for turn in range(number):
        where, rng = f"clock {turn}, seed {seed + turn}", random.Random(seed + turn)
        project = trials.project("back")
        (project.folder / "sitecustomize.py").write_text(BACK)
        path = os.pathsep.join(filter(None, [str(project.folder), os.environ.get("PYTHONPATH", "")]))
        process = trials.start(project, rng.choice(BUILDS), PYTHONPATH=path)
        while process.poll() is None:
            collected = project.run("quantmill", "cache", "gc", *BUILT, check=None)
            counts["collectors"] += 1
            if collected.returncode:
                trials.told(where, f"the collector ended with {collected.returncode}: {collected.stderr}")
        said = trials.said()
        if process.returncode or "Traceback" in said:
            trials.told(where, f"the build ended with {process.returncode}: {said[-2000:]}")
        lines = "".join(path.read_text() for path in (project.folder / "cache/log").iterdir()).splitlines()
        runs = Counter(task for _, what, task in (line.split(" ", 2) for line in lines) if what == "run")
        if twice := [task for task, count in runs.items() if count > 1]:
            trials.told(where, f"made twice, for it was collected: {twice}")
        trials.look(where, project)
        trials.left(where, project.folder)
        counts["builds"] += 1
    print(f"clocks: {dict(counts)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kills", type=int, default=326)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--clocks", type=int, default=4)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        trials = Trials(Path(folder))
        for trial, number in ((kills, options.kills), (concurrent, options.rounds), (clocks, options.clocks)):
            trial(trials, options.first, number)
    print(f"{trials.faults} faults")
    sys.exit(bool(trials.faults))


if __name__ == "__main__":
    main()
