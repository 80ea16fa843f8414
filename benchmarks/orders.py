"""The default recipe built with tasks side by side, in orders that seeds shuffle: the same bytes each time?

    python benchmarks/orders.py [--seeds 20] [--first 0] [--jobs 4] [--recipe tiny] [--folder DIR]

Each build has a store of its own. Prints a line a seed: seconds by the clock and by processor time, and the most memory
of one process; ends with 1 where a release is not that of a build of one task at a time.
"""

import argparse
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/helpers"))

from projects import Project  # noqa: E402
from step_order import shuffled  # noqa: E402


def build(folder: Path, recipe: str, jobs: int, environment: dict[str, str]) -> dict[str, bytes]:
    """The files of a release that is built from nothing in a new folder."""
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    project = Project(folder)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    before, began = used.ru_utime + used.ru_stime, time.monotonic()
    project.run("quantmill", "build", recipe, "-n", str(jobs), QUANTMILL_CACHE=str(folder / "cache"), **environment)
    took, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = used.ru_utime + used.ru_stime - before
    print(f"{folder.name}: {took:.1f} s, {spent:.1f} s of the processor, {used.ru_maxrss / 1e3:.0f} MB", flush=True)
    tree = folder / "release" / recipe
    return {
        str(path.relative_to(tree)): path.read_bytes()
        for path in tree.rglob("*")
        if path.is_file() and path.name != "bench.json"
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("--seeds", 20), ("--first", 0), ("--jobs", 4)):
        parser.add_argument(name, type=int, default=number)
    parser.add_argument("--recipe", default="tiny")
    parser.add_argument("--folder", type=Path)
    options, faults = parser.parse_args(), 0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        want = build(Path(name) / "in order", options.recipe, 1, {})
        for seed in range(options.first, options.first + options.seeds):
            place = Path(name) / f"seed {seed}"
            found = build(place, options.recipe, options.jobs, shuffled(Path(name) / "start", seed))
            if wrong := sorted(path for path in found.keys() | want.keys() if found.get(path) != want.get(path)):
                faults += 1
                print(f"seed {seed}: other files: {wrong}", flush=True)
            shutil.rmtree(place)
    print(f"{options.seeds} orders, {faults} with other bytes")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
