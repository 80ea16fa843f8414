"""Commands on a disk that gives errors: each trial makes calls of one kind fail, from one call on, and then heals."""

import errno
import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from projects import new_project

SOURCE = Path(__file__).with_suffix(".c")
KINDS = (
    *("open", "create", "read", "write", "sync", "close", "seek", "truncate", "copy", "map", "lock"),
    *("rename", "link", "unlink", "mkdir", "chmod", "utime", "stat", "fstat", "list", "statvfs"),
)
ERRNOS = ("EIO", "ENOSPC", "EROFS", "EACCES", "EDQUOT", "EMFILE", "ENFILE", "ENOMEM")
BUILD, BUILT, RELEASE = ("doit",), "built", "release/small"
BASE = f"{RELEASE}/small-bf16.gguf"
COMMANDS: dict[tuple[str, ...], str] = {
    BUILD: "new",
    ("quantmill", "build", "small"): "damaged",
    ("doit", "-n", "2"): BUILT,
    ("quantmill", "cache", "verify"): "damaged",
    ("quantmill", "cache", "gc", "--keep", "pointers", "--keep", "releases", "--keep", "0s"): BUILT,
    ("quantmill", "cache", "stat"): BUILT,
    ("quantmill", "verify", RELEASE): BUILT,
    ("quantmill", "plan", "small"): BUILT,
    ("quantmill", "explain", "release:small"): BUILT,
    ("quantmill", "publish", "small", "--dry-run"): BUILT,
    ("quantmill", "lock", "small"): BUILT,
    ("quantmill", "reproduce", RELEASE, "--work", "again"): BUILT,
    ("quantmill", "card", "small"): BUILT,
    ("quantmill", "choose", RELEASE): BUILT,
    ("quantmill", "quantize", BASE, "out.gguf", "Q4_K_M"): BUILT,
    ("quantmill", "split", BASE, "shards", "--max-tensors", "20"): BUILT,
    ("doit", "list", "--all"): BUILT,
    ("doit", "clean", "-a"): BUILT,
}
ENDPOINT = "http://127.0.0.1:9"  # nobody listens: what is asked of the Hub comes last


@dataclass(frozen=True)
class Fault:
    """Calls of `kind` that `command` makes give `error`, from the `at`th of them on: that one, or all."""

    command: tuple[str, ...]
    kind: str
    error: str
    at: int
    lasting: bool

    def __str__(self) -> str:
        many = "all from" if self.lasting else "number"
        return f"{' '.join(self.command)}: {self.kind} {self.error}, {many} {self.at}"


@dataclass
class Found:
    """What came of a trial: `hit` is the paths whose calls failed, `wrong` what is not as it should be."""

    code: int | None
    said: str
    hit: list[str]
    wrong: str = ""


class Bench:
    """Projects below `folder`, one for each state that commands begin in, and the preloaded library."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library, self.log = folder / "faults.so", folder / "log"
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", self.library, SOURCE, "-ldl"], check=True)
        self.project = new_project(folder / "project")
        with open(self.project.recipe, "a") as file:
            file.write('[publish]\nowner = "someone"\n')
        self._keep("new")
        self.project.run(*BUILD)
        self.want = self.project.release()
        self._keep(BUILT)
        released = self.project.folder / RELEASE / "small-Q2_K.gguf"
        quantized = next(path for path in self._objects() if path.samefile(released))
        quantized.chmod(0o644)
        with open(quantized, "r+b") as file:
            file.seek(-500, os.SEEK_END)
            file.write(b"scribble")
        self._keep("damaged")
        self._counts: dict[tuple[str, ...], Counter[str]] = {}

    def _keep(self, state: str) -> None:
        subprocess.run(["cp", "-a", self.project.folder, self.folder / state], check=True)

    def begin(self, state: str) -> None:
        """Make the project what it is in that state."""
        shutil.rmtree(self.project.folder)
        subprocess.run(["cp", "-a", self.folder / state, self.project.folder], check=True)

    def _objects(self) -> list[Path]:
        return [path for path in (self.project.folder / "cache" / "cas").rglob("*") if path.is_file()]

    def _run(self, command: tuple[str, ...], **environment: str) -> subprocess.CompletedProcess[str]:
        self.log.unlink(missing_ok=True)
        preload = {"LD_PRELOAD": str(self.library), "FAULT_BELOW": str(self.project.folder), "FAULT_LOG": str(self.log)}
        return subprocess.run(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            cwd=self.project.folder,
            env={**os.environ, "HF_ENDPOINT": ENDPOINT, **preload, **environment},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
        )

    def counts(self, command: tuple[str, ...]) -> Counter[str]:
        """How many calls of each kind a command makes that nothing disturbs."""
        if command not in self._counts:
            self.begin(COMMANDS[command])
            self._run(command)
            self._counts[command] = Counter(self.log.read_text().split("\n")[:-1])
        return self._counts[command]

    def paths(self, command: tuple[str, ...], kind: str) -> list[str]:
        """The paths of the calls of one kind that a command makes that nothing disturbs."""
        self.begin(COMMANDS[command])
        self._run(command, FAULT_KIND=kind, FAULT_AT="1", FAULT_ERRNO="0")
        return self.log.read_text().splitlines()

    def kept(self) -> set[str]:
        """The objects and records of the project's store."""
        places = (self.project.folder / "cache" / name for name in ("cas", "ac"))
        return {path.name for place in places for path in place.rglob("*") if path.is_file()}

    def fault(self, seed: int) -> Fault:
        """One at random: half of them hit a build from nothing."""
        rng = random.Random(seed)
        command = BUILD if rng.random() < 0.5 else rng.choice([*COMMANDS])
        counts = self.counts(command)
        kind = rng.choice([kind for kind in KINDS if counts[kind]])
        return Fault(command, kind, rng.choice(ERRNOS), rng.randint(1, counts[kind]), rng.random() < 0.3)

    def trial(self, fault: Fault, heal: bool = True) -> Found:
        """The command as its calls fail, and an undisturbed build after it, where it is to heal."""
        self.begin(COMMANDS[fault.command])
        faulty = {
            "FAULT_KIND": fault.kind,
            "FAULT_ERRNO": str(getattr(errno, fault.error)),
            "FAULT_AT": str(fault.at),
            "FAULT_LAST": "0" if fault.lasting else str(fault.at),
        }
        try:
            done = self._run(fault.command, **faulty)
        except subprocess.TimeoutExpired as slow:
            return Found(None, str(slow.stdout), [], "it hung")
        hit = self.log.read_text().splitlines() if self.log.exists() else []
        found = Found(done.returncode, done.stdout + done.stderr, hit)
        found.wrong = self._wrong(fault, done) or (self._unhealed() if heal else "")
        return found

    def _wrong(self, fault: Fault, done: subprocess.CompletedProcess[str]) -> str:
        if "Traceback" in done.stdout + done.stderr or "Exception ignored" in done.stderr:
            return "a traceback"
        if done.returncode not in (0, 1):
            return f"code {done.returncode}"
        told = done.stderr.splitlines()
        if done.returncode and not told and not re.search("damaged|differ", done.stdout):
            return "it failed and said nothing"
        if strange := [line for line in told if not line.startswith("quantmill: ")]:
            return f"no sentence: {strange[0]}"
        if nameless := [line for line in told if not re.search(r"/\S|Hub|\w\.\w|: recipes: ", line)]:
            return f"no path: {nameless[0]}"
        builds = fault.command in (BUILD, ("doit", "-n", "2"))
        if builds and not done.returncode and self.project.release() != self.want:
            return "it ended with 0, and the release is not whole"
        return ""

    def _unhealed(self) -> str:
        healed = subprocess.run(
            [str(Path(sys.executable).parent / BUILD[0])], cwd=self.project.folder, capture_output=True, text=True
        )
        if healed.returncode:
            return f"the next build failed: {healed.stdout}{healed.stderr}"
        if self.project.release() != self.want:
            return "the next build ended with 0, and the release is not whole"
        for path in self._objects():
            if path.name[0] != "." and hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
                return f"a wrong object is left: {path.name}"
        return ""
