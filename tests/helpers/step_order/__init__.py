"""Builds whose tasks come in another order: a process in which a seed shuffles them, as far as they do not wait."""

import os
from pathlib import Path

SEED = "STEP_ORDER"
SHUFFLE = f"""
import os
import random

if seed := os.environ.get("{SEED}"):
    from quantmill.build import doit_tasks

    made = doit_tasks.tasks

    def tasks(*arguments):
        rng, found = random.Random(seed), list(made(*arguments))
        rng.shuffle(found)
        for task in found:
            rng.shuffle(task["task_dep"])
        yield from found

    doit_tasks.tasks = tasks
"""


def shuffled(folder: Path, seed: int) -> dict[str, str]:
    """The environment of such a process; `folder` is for its start."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(SHUFFLE)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    return {"PYTHONPATH": path, SEED: str(seed)}
