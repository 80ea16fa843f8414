"""A build on Dask workers: what a second worker gives, and what a killed one costs.

    python benchmarks/cluster.py speed [--layers 2] [--vocabulary 32768] [--folder DIR]
    python benchmarks/cluster.py kill [--times 5] [--folder DIR]

`speed`: the standard matrix of a synthetic model (of 0.2 G weights, see matrix.py) by one worker of one thread and by
two, seconds on the clock; the releases must be the same. `kill`: the default recipe on two workers of a scheduler of
their own, one of which is killed (SIGKILL) in the middle and never comes back; the build must end by itself with the
bytes of an undisturbed one. Exits with 1 where they differ.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from matrix import ROOT, sha256, write_base

BIN = Path(sys.executable).parent


def build(folder: Path, recipe: str, *options: str) -> float:
    """Seconds of a whole distributed build."""
    began = time.perf_counter()
    command = [str(BIN / "quantmill"), "build", recipe, "--engine", "dask", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stdout[-800:]}{done.stderr[-800:]}")
    return time.perf_counter() - began


def processor() -> tuple[float, float]:
    """Seconds of processor of the builds so far, and of everything on this machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    return used.ru_utime + used.ru_stime, (user + nice + system) / os.sysconf("SC_CLK_TCK")


def speed(options: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        seconds, sums = [], []
        recipes = Path(name) / "recipes"
        recipes.mkdir()
        weights = write_base(recipes, options.layers, options.vocabulary)
        (recipes / "matrix.toml").write_text(
            f'llama_cpp = "b5490"\n[base]\ngguf = "base.gguf"\n[imatrix]\nfile = "imatrix.dat"\n'
            f'sha256 = "{sha256(recipes / "imatrix.dat")}"\n[quants]\nmatrix = "standard"\n'
        )
        for workers in (1, 2):
            folder = Path(name) / str(workers)
            folder.mkdir()
            (folder / "recipes").symlink_to(recipes)
            ours, all_ = processor()
            seconds.append(build(folder, "matrix", "--workers", str(workers), "--threads", "1"))
            more, all_more = processor()
            print(
                f"{workers} of one thread: {seconds[-1]:.1f} s, {more - ours:.1f} s of processor; all else here took "
                f"{all_more - all_ - more + ours:.1f} s of processor meanwhile",
                flush=True,
            )
            sums.append((folder / "release" / "matrix" / "SHA256SUMS").read_bytes())
            shutil.rmtree(folder)
    same = sums[0] == sums[1]
    print(
        f"{weights / 1e9:.3f} G weights, 26 files: one worker {seconds[0]:.1f} s, two {seconds[1]:.1f} s, "
        f"{seconds[0] / seconds[1]:.2f} times as fast; {'same bytes' if same else 'DIFFERENT'}"
    )
    return same


def kill(options: argparse.Namespace) -> bool:
    wrong = 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        whole = project(Path(name) / "whole")
        took = build(whole, "tiny", "--workers", "2", "--threads", "1")
        expected = (whole / "release" / "tiny" / "SHA256SUMS").read_bytes()
        for turn in range(options.times):
            folder = project(Path(name) / str(turn))
            file = folder / "scheduler.json"
            scheduler = [str(BIN / "dask"), "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
            worker = [str(BIN / "dask"), "worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-nanny"]
            quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            cluster = [subprocess.Popen([*scheduler, "--scheduler-file", str(file)], **quiet)]
            cluster += [subprocess.Popen([*worker, "--no-dashboard"], **quiet) for _ in range(2)]
            while not file.exists():
                time.sleep(0.05)
            address = json.loads(file.read_text())["address"]
            cluster_options = ["--engine", "dask", "--scheduler", address, "--insecure"]
            command = [str(BIN / "quantmill"), "build", "tiny", *cluster_options]
            run = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            lines = random.Random(turn).randrange(10, 60)
            for _, line in zip(range(lines), run.stdout, strict=False):
                last = line
            cluster[1].kill()
            text = last + run.communicate()[0]
            same = run.returncode == 0 and (folder / "release/tiny/SHA256SUMS").read_bytes() == expected
            wrong += not same
            print(
                f"killed after {lines} lines: {'same bytes' if same else 'WRONG'}; {text.splitlines()[-1]}", flush=True
            )
            for process in cluster:
                process.kill()
                process.wait()
            shutil.rmtree(folder)
    print(
        f"{options.times - wrong} of {options.times} builds ended with the bytes of an undisturbed one ({took:.1f} s)"
    )
    return not wrong


def project(folder: Path) -> Path:
    """The repository's default recipe in a folder of its own."""
    (folder / "recipes").mkdir(parents=True)
    shutil.copytree(ROOT / "recipes" / "tiny", folder / "recipes" / "tiny")
    for ending in ("toml", "lock"):
        shutil.copy(ROOT / "recipes" / f"tiny.{ending}", folder / "recipes")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "kill"))
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=32768)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    sys.exit(0 if {"speed": speed, "kill": kill}[options.what](options) else 1)


if __name__ == "__main__":
    main()
