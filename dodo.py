"""doit's entry: the recipes of this repository as tasks. `doit` builds the default recipe, `doit list --all` shows the
tasks of every recipe, `doit quant:tiny/Q4_K_M` builds one file."""

from pathlib import Path

from quantmill.build.doit_tasks import dodo
from quantmill.forecast.seconds_by_task import seconds_by_task

DOIT_CONFIG, task_recipe = dodo(Path(__file__).resolve().parent, default="tiny", seconds=seconds_by_task)
