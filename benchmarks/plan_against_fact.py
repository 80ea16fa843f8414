"""What a plan says of each step, beside what the step takes: time, memory and the sizes of files.

    python benchmarks/plan_against_fact.py [--recipe FILE] [--load 2] [--threads 2] [--files-only] [--folder DIR]

Builds a release of a qwen2 model of 0.2 G weights, one task after the other: its imatrix is measured, three files are
quantized, and compared with the base on a text. With `--recipe` it is that recipe's release, from a copy of the folder
that it lies in. `--load` starts so many busy loops first, of a process each, before the
plan is made. Seconds are of one thread; what a step takes is its processor time, which a loaded machine leaves much the
same, and beside it the clock's. Memory is the most anonymous memory of its process, each step's own. Exits with 1 where
a step of more than 20 seconds is off by more than 30 % of its time or 20 % of its memory, where any step takes 20 %
more memory than is planned, or a size is off by a byte.
"""

import argparse
import json
import multiprocessing
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from quantmill.build.graph import graph
from quantmill.build.opening import open_workspace
from quantmill.forecast import estimates
from quantmill.forecast.plan import plan_of
from quantmill.recipe import lock as locks
from quantmill.recipe.recipe import load

TINY = Path(__file__).resolve().parent.parent / "recipes" / "tiny"
WIDTH, FFN, LAYERS, HEADS = 1024, 4096, 13, 16
LONG, TIME, MEMORY = 20.0, 0.30, 0.20
RECIPE = """
llama_cpp = "b5490"
prefix = "fact"
[base]
path = "model"
name = "Fact"
[calibration]
text = "calibration.txt"
n_ctx = 512
chunks = 24
[evaluation]
text = "evaluation.txt"
n_ctx = 512
chunks = 8
[quants]
matrix = ["Q8_0", "Q4_K_M", "IQ3_XXS"]
"""


def write_model(folder: Path) -> None:
    """The tiny model's names and tokenizer, with wide matrices of noise."""
    folder.mkdir()
    for path in TINY.glob("*.json"):
        if "index" not in path.name:
            shutil.copy(path, folder)
    config = json.loads((folder / "config.json").read_text())
    old = {config["hidden_size"]: WIDTH, config["intermediate_size"]: FFN}
    config |= {"hidden_size": WIDTH, "intermediate_size": FFN, "num_hidden_layers": LAYERS, "max_window_layers": LAYERS}
    config |= {"num_attention_heads": HEADS, "num_key_value_heads": HEADS}
    for key in ("head_dim", "layer_types"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config))
    data = next(TINY.glob("*.safetensors")).read_bytes()
    known = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    shapes: dict[str, list[int]] = {}
    for name, fact in known.items():
        if name == "__metadata__" or ("layers." in name and "layers.0." not in name):
            continue
        shape = [old.get(size, size) for size in fact["shape"]]
        if "k_proj" in name or "v_proj" in name:
            shape[0] = WIDTH
        layers = range(LAYERS) if "layers.0." in name else range(1)
        shapes |= {name.replace("layers.0.", f"layers.{layer}."): shape for layer in layers}
    head, at = {}, 0
    for name, shape in shapes.items():
        end = at + 2 * int(np.prod(shape))
        head[name], at = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}, end
    text, random = json.dumps(head).encode(), np.random.default_rng(0)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            values = random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def anonymous() -> int:
    """RssAnon of this process in bytes."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def perform(root: Path, title: str, threads: int, name: str) -> tuple[float, float, int]:
    """Run one task in this process: seconds of processor time, of the clock, and the most anonymous memory."""
    recipe = load(root / "recipes" / f"{title}.toml")
    space = open_workspace(root, threads)
    nodes = graph(recipe, locks.current(recipe, True, space.store.hints.digest_of))
    peak, over = 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not over.wait(0.01):
            peak = max(peak, anonymous())

    sampler = threading.Thread(target=sample)
    sampler.start()
    spent, began = time.process_time(), time.perf_counter()
    space.perform(nodes[name], nodes)
    spent, clock = time.process_time() - spent, time.perf_counter() - began
    over.set()
    sampler.join()
    return spent, clock, peak


def compare(root: Path, title: str, threads: int) -> int:
    recipe = load(root / "recipes" / f"{title}.toml")
    lock = locks.current(recipe, False, open_workspace(root, threads).store.hints.digest_of)
    plan, costs = plan_of(recipe, root), estimates(recipe, lock)
    off = []
    print(f"{'step':22} {'plan':>7} {'fact':>7} {'off':>6} {'clock':>7}   {'memory':>9} {'fact':>9}   (seconds, MB)")
    for name, node in graph(recipe, lock).items():
        planned, thought = node.step.cost(node, costs).seconds, plan.memory[node.step.name]
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            spent, clock, memory = pool.apply(perform, (root, title, threads, name))
        error = planned / max(spent, 1e-9) - 1
        print(
            f"{name:22} {planned:7.1f} {spent:7.1f} {error:+6.0%} {clock:7.1f}   {thought / 1e6:9.0f} "
            f"{memory / 1e6:9.0f}",
            flush=True,
        )
        if spent > LONG and abs(error) > TIME:
            off.append(f"time of {name}")
        if memory > thought * (1 + MEMORY) or (spent > LONG and memory < thought * (1 - MEMORY)):
            off.append(f"memory of {name}")
    for row in plan.files:
        if (size := (root / "release" / title / row.name).stat().st_size) != row.bytes:
            off.append(f"size of {row.name}, {row.bytes} planned, {size} written")
    print(f"sizes: {len(plan.files)} files; off: {', '.join(off) or 'nothing'}")
    return bool(off)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path)
    parser.add_argument("--load", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--files-only", action="store_true", help="measure no quality")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.load)]
    try:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            recipes = Path(name) / "recipes"
            if options.recipe:
                shutil.copytree(options.recipe.parent, recipes)
                return compare(Path(name), options.recipe.stem, options.threads)
            recipes.mkdir()
            write_model(recipes / "model")
            for text in ("calibration.txt", "evaluation.txt"):
                shutil.copy(TINY / text, recipes)
            table = RECIPE[RECIPE.index("[evaluation]") : RECIPE.index("[quants]")]
            (recipes / "fact.toml").write_text(RECIPE.replace(table, "") if options.files_only else RECIPE)
            return compare(Path(name), "fact", options.threads)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    sys.exit(main())
