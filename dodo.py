"""doit's entry: the recipes of this repository as tasks. `doit` builds the default recipe, `doit list --all` shows the
tasks of every recipe, `doit quant:tiny/Q4_K_M` builds one file."""

import sys
from pathlib import Path

# doit puts this folder first on sys.path, where `kernels/`, `cache/` and `recipes/` would be importable by accident.
sys.path[:] = [entry for entry in sys.path if entry and Path(entry).resolve() != Path(__file__).resolve().parent]

from quantmill.tasks import dodo  # noqa: E402  (the line above must come first)

DOIT_CONFIG, task_recipe = dodo(Path(__file__).resolve().parent, default="tiny")
