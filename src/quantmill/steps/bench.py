"""bench: how fast the released files run on this host. What it measures belongs to the host, which its params name."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, Context
from quantmill.errors import QuantmillError
from quantmill.host import host
from quantmill.runtime.runners import Kernels, LlamaBench
from quantmill.runtime.speeds import Trial, data, measure

WORK = "work"


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write `bench.json`: speeds.data, each row under its file's name and ftype.

    `inputs`: `<FTYPE>` for each file, before it is split. `params`: `names` (FTYPE → file name), `tests`, `runtime`,
    `repetitions`, `threads`, and `host`, host.facts, which is in the key only.
    """
    from quantmill._kernels import infer_isa

    tests = [Trial(test[:2], int(test[2:])) for test in params["tests"]]
    work = out / WORK
    work.mkdir(exist_ok=True)
    files = {work / params["names"][label]: label for label in params["names"]}
    for path, label in files.items():  # what runs them reads and tells names, and objects have none
        path.unlink(missing_ok=True)
        path.symlink_to(inputs[label].path.resolve())
    threads: int = params["threads"]
    versions: dict[str, str] = {}
    runner: Kernels | LlamaBench
    try:
        if params["runtime"] == "kernels":
            runner = Kernels(list(files), max(test.count for test in tests) + 1, threads)
            backend = infer_isa()
        else:
            runner = LlamaBench(threads, 'runtime = "kernels" in the recipe\'s [bench]')
            backend, versions = "llama.cpp", runner.versions
        rows = measure(list(files), tests, params["repetitions"], runner.run, context.progress)
    except QuantmillError as error:
        raise QuantmillError(str(error).replace(f"{work}/", "")) from None
    for row in rows:
        row.ftype = files[row.file]  # the files' own metadata do not tell Q4_K_L from Q4_K_M
    shutil.rmtree(work)
    found = data(rows, host(threads, backend, versions))
    (out / "bench.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
