"""One flipped bit anywhere in a project, and how many builds it takes until the release is right again.

    python benchmarks/rot.py [--first SEED] [--between N] [--during N] [--folder DIR]

Builds a small release, then, for each seed, flips one bit of one file below cache/, build/ or release/, and runs doit
until it ends with exit code 0. By turns the file's times are left as they come, its modification time is put back, or
the bit flips as on a disk and the seal of an object stays whole: then `quantmill cache verify` is run first. With
`--during` the build begins anew, and bits flip every now and then while it runs. Prints a line for each seed that was
not right after one build, and at last the counts; ends with 1 when a build ended with 0 and a wrong byte in the
release, when two builds were not enough, or when there was a traceback. A bit that flips after a build has said that it
is done, while its process still ends, counts apart: no build can have looked at it.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from quantmill.disk import AGE

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/helpers"))

from projects import Project, new_project  # noqa: E402

AREAS = ("cache", "build", "release")
MODES = ("moved", "kept", "sealed")


def flip(rng: random.Random, folder: Path, mode: str) -> str:
    """Flip a bit; returns where."""
    area = rng.choice(AREAS)
    paths = [p for p in sorted((folder / area).rglob("*")) if p.is_file() and p.name != "README.md"]
    path = rng.choice([p for p in paths if p.stat().st_size])
    stat = path.stat()
    at, bit = rng.randrange(stat.st_size), rng.randrange(8)
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))
    path.chmod(stat.st_mode)
    if mode == "kept":
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    if mode == "sealed" and stat.st_mtime_ns < stat.st_ctime_ns - AGE // 2:
        moment = path.stat().st_ctime_ns - AGE
        os.utime(path, ns=(moment, moment))
    elif mode == "sealed":
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return f"{path.relative_to(folder)} at {at}.{bit}, {mode}"


class Build:
    """doit in the folder; `closed`: when it said that it was done, which is after its last look."""

    def __init__(self, folder: Path) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(["doit"], cwd=folder, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        self.closed, self._lines = float("inf"), list[str]()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self._lines.append(line)
            if " failed in " in line:
                self.closed = time.monotonic()

    def end(self) -> str:
        """What it has said, once it has ended."""
        self.process.wait()
        self._reader.join()
        return "".join(self._lines)


def trial(seed: int, project: Project, want: dict[str, bytes], during: bool, counts: Counter[str]) -> str:
    """Damage, and builds until one ends well; what is to be told of it."""
    rng, folder, said = random.Random(seed), project.folder, ""
    mode, where, last = MODES[seed % 3], [], 0.0
    if during:
        for area in AREAS:
            shutil.rmtree(folder / area, ignore_errors=True)
        build = Build(folder)
        while build.process.poll() is None:
            time.sleep(rng.uniform(0.05, 0.6))
            if build.process.poll() is not None:
                break
            try:
                where.append(flip(rng, folder, mode))
                last = time.monotonic()
            except (OSError, IndexError):  # it has just gone, or there is none yet
                continue
        said = build.end()
        if build.process.returncode == 0 and project.release() != want and mode != "sealed":
            wrong = sorted(name for name, data in project.release().items() if want.get(name) != data)
            late = last > build.closed
            counts["flipped after the build's last look" if late else "wrong bytes after the build that was hit"] += 1
            if not late:
                print(f"{seed}: ended with 0, wrong: {wrong}, flipped: {where}", flush=True)
    else:
        where.append(flip(rng, folder, mode))
    if mode == "sealed":
        said += run(folder, "quantmill", "cache", "verify")[1]
    builds, code, right = 0, 1, False
    while code and builds < 4:
        code, text = run(folder, "doit")
        builds, said, right = builds + 1, said + text, project.release() == want
    verdict = "right" if right and code == 0 else "WRONG BYTES" if code == 0 else "FAILED"
    if builds > 2 and verdict == "right":
        verdict = "SLOW"
    if "Traceback" in said:
        verdict += ", TRACEBACK"
    counts[f"{verdict} after {builds}"] += 1
    return "" if verdict == "right" and builds == 1 else f"{seed}: {verdict} after {builds}: {where}\n{said[-2000:]}"


def run(folder: Path, *command: str) -> tuple[int, str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--between", type=int, default=1000)
    parser.add_argument("--during", type=int, default=200)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    bad = 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        project = new_project(Path(folder))
        run(project.folder, "doit")
        want = project.release()
        for title, number in (("between builds", options.between), ("during builds", options.during)):
            counts: Counter[str] = Counter()
            for seed in range(options.first, options.first + number):
                if told := trial(seed, project, want, title == "during builds", counts):
                    print(told, flush=True)
                if project.release() != want:
                    for area in AREAS:
                        shutil.rmtree(project.folder / area, ignore_errors=True)
                    run(project.folder, "doit")
            print(f"{title}: {dict(sorted(counts.items()))}", flush=True)
            bad += sum(count for name, count in counts.items() if any(word.isupper() for word in name.split()))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
