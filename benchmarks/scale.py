"""A project of many recipes with nothing to do, beside plain doit on as many empty tasks, and beside DVC.

    python benchmarks/scale.py [--recipes 1 10 100 1000] [--runs 5] [--folder DIR | --keep DIR] [--dvc PATH] [--list N]

Builds every recipe first (27 tasks each, each with a small base of its own; DIR is best on a memory file system, for
a build syncs what it writes; with --keep, what is built stays there and the next run finds it). Then, in turn and in
one run, medians of whole processes:
- `doit 'release:*'` beside plain doit, whose tasks have the same targets and file dependencies and touch one file each;
- one recipe of all, `doit release:x` and `quantmill build x`, beside the same in a project of that recipe alone;
- with --dvc (the program), `dvc repro` on a pipeline of 27 stages with the same dependencies, beside ours on one
  recipe;
- with --list, `doit list` in a project of N recipes of one base that nobody has built, and nothing else.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from quantmill import gguf
from quantmill.build.graph import graph
from quantmill.build.opening import open_workspace
from quantmill.disk import sha256_file
from quantmill.gguf.types import TYPES
from quantmill.imatrix import Entry, encode
from quantmill.recipe.lock import resolve
from quantmill.recipe.recipe import load

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
FTYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "IQ4_XS")
TASKS = 27
# A program's modules are compiled once, whatever this shell says: doit's and DVC's are, where they were installed.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
PLAIN = """
import json
from pathlib import Path

def touch(path):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(path)

def task_all():
    for step, name, target, needs in json.loads(Path("tasks.json").read_text()):
        yield {"basename": step, "name": name, "actions": [(touch, [target])], "targets": [target], "file_dep": needs,
               "uptodate": [True]}
"""


def write_recipe(folder: Path, name: str, seed: int) -> None:
    """One recipe of 27 tasks: a base of one small layer, an imatrix, seven quantized files."""
    random = np.random.default_rng(seed)
    facts = {"general.architecture": "qwen2", "qwen2.block_count": 1, "qwen2.embedding_length": 256}
    shapes = {"token_embd.weight": 8, "blk.0.attn_v.weight": 4, "blk.0.ffn_down.weight": 4}
    tensors = [(tensor, (256, rows), TYPES["F32"]) for tensor, rows in shapes.items()]
    tensors.append(("output_norm.weight", (256,), TYPES["F32"]))
    base = folder / f"{name}.gguf"
    with gguf.Writer(base, [gguf.kv(k, v) for k, v in facts.items()], tensors) as writer:
        for _, shape, _ in tensors:
            writer.append(random.normal(0, 0.02, shape).astype(np.float32))
    entries = [Entry(t, 1, random.gamma(1, 1, 256).astype(np.float32)) for t in shapes if t.startswith("blk")]
    imatrix = encode(entries, b"text", 1)
    (folder / f"{name}.dat").write_bytes(imatrix)
    (folder / f"{name}.toml").write_text(
        f'llama_cpp = "b5490"\n[base]\ngguf = "{name}.gguf"\ntype = "F32"\n[imatrix]\nfile = "{name}.dat"\n'
        f'sha256 = "{hashlib.sha256(imatrix).hexdigest()}"\n[quants]\nmatrix = {json.dumps(FTYPES)}\n'
    )


def write_project(folder: Path, count: int) -> None:
    """A project of `count` recipes, and beside it, in `plain`, a dodo.py of empty tasks of the same shape."""
    (folder / "recipes").mkdir(parents=True)
    (folder / "dodo.py").write_text((ROOT / "dodo.py").read_text().replace('"tiny"', '"r0000"'))
    rows = []
    for i in range(count):
        name = f"r{i:04}"
        write_recipe(folder / "recipes", name, i)
        recipe = load(folder / "recipes" / f"{name}.toml")
        nodes = graph(recipe, resolve(recipe, sha256_file))
        assert len(nodes) == TASKS
        space = open_workspace(Path())
        for node in nodes.values():
            step, _, rest = node.name.partition(":")
            needs = sorted({str(space.pointer(nodes[edge.node])) for edge in node.edges})
            rows.append((step, rest, str(space.pointer(node)), needs))
    plain = folder / "plain"
    plain.mkdir()
    (plain / "dodo.py").write_text(PLAIN)
    (plain / "tasks.json").write_text(json.dumps(rows))


def seconds(command: Sequence[str], folder: Path) -> float:
    """Seconds of a whole process, which must succeed."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    spent = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    return spent


def beside(ours: tuple[Sequence[str], Path], other: tuple[Sequence[str], Path], runs: int) -> tuple[float, float]:
    """Medians of two commands run in turn, after one of each that is not counted."""
    seconds(*ours), seconds(*other)
    pairs = [(seconds(*ours), seconds(*other)) for _ in range(runs)]
    first, second = (statistics.median(side) for side in zip(*pairs, strict=True))
    return first, second


def write_pipeline(folder: Path, project: Path) -> None:
    """A DVC pipeline of 27 stages, whose outputs and dependencies are those of one recipe's tasks."""
    rows = json.loads((project / "plain" / "tasks.json").read_text())[:TASKS]
    lines = ["stages:"]
    for step, name, target, needs in rows:
        lines += [f"  {step}-{name.replace('/', '-')}:", f"    cmd: mkdir -p $(dirname {target}) && echo 1 > {target}"]
        lines += ["    deps:", *(f"    - {need}" for need in needs)] if needs else []
        lines += ["    outs:", f"    - {target}"]
    (folder / "dvc.yaml").write_text("\n".join(lines) + "\n")


def write_unbuilt(folder: Path, count: int) -> None:
    """A project of `count` recipes of the default model, without locks."""
    shutil.copytree(ROOT / "recipes" / "tiny", folder / "recipes" / "tiny")
    (folder / "dodo.py").write_text((ROOT / "dodo.py").read_text().replace('"tiny"', '"r0000"'))
    text = 'llama_cpp = "b5490"\n[base]\npath = "tiny"\nname = "Tiny"\n[quants]\nmatrix = ["BF16", "Q8_0"]\n'
    for i in range(count):
        (folder / "recipes" / f"r{i:04}.toml").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--dvc", type=Path)
    parser.add_argument("--list", type=int)
    options = parser.parse_args()
    doit, quantmill = str(BIN / "doit"), str(BIN / "quantmill")
    if options.list:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            write_unbuilt(Path(name), options.list)
            spent = [seconds([doit, "list"], Path(name)) for _ in range(options.runs)]
            print(f"doit list of {options.list} recipes that are not built: {statistics.median(spent):.1f} s")
        return
    with ExitStack() as stack:
        name = options.keep or stack.enter_context(tempfile.TemporaryDirectory(dir=options.folder))
        projects = {count: Path(name) / str(count) for count in options.recipes}
        for count, folder in projects.items():
            if (folder / "release").exists():
                continue
            write_project(folder, count)
            spent = seconds([doit, "release:*"], folder)
            seconds([doit], folder / "plain")
            print(f"{count} recipes, {count * TASKS} tasks, built in {spent:.1f} s", flush=True)
        for count, folder in projects.items():
            ours, plain = beside(([doit, "release:*"], folder), ([doit], folder / "plain"), options.runs)
            print(
                f"no-op of {count} recipes, {count * TASKS} tasks: {ours:.3f} s ({ours / count / TASKS * 1e6:.0f} µs a "
                f"task), plain doit {plain:.3f} s, ratio {ours / plain:.2f}",
                flush=True,
            )
        few, many = min(projects), max(projects)
        for command in ([doit, "release:r0000"], [quantmill, "build", "r0000"]):
            ours, alone = beside((command, projects[many]), (command, projects[few]), options.runs)
            print(f"{' '.join(command[1:])} among {many} recipes {ours:.3f} s, among {few} {alone:.3f} s, "
                  f"ratio {ours / alone:.2f}", flush=True)  # fmt: skip
        if options.dvc:
            folder = Path(name) / "dvc"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            dvc = str(options.dvc)
            seconds([dvc, "init", "--no-scm", "-q"], folder)
            write_pipeline(folder, projects[few])
            seconds([dvc, "repro", "-q"], folder)
            ours, theirs = beside(([doit], projects[few]), ([dvc, "repro", "-q"], folder), options.runs)
            print(f"no-op of {TASKS} tasks: {ours:.3f} s, dvc repro {theirs:.3f} s, {theirs / ours:.1f} times ours")


if __name__ == "__main__":
    main()
