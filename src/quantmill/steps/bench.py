"""bench: how fast the released files run on this host. What it measures belongs to the host, which its params name."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from quantmill.artifact import Context
from quantmill.errors import QuantmillError
from quantmill.host import host
from quantmill.steps.step import Cost, Estimates, Inputs, Step, Task

if TYPE_CHECKING:
    from quantmill.runtime.runners import LlamaBench

WORK = "work"
ROWS = "rows/"


class Params(TypedDict):
    """`names`: FTYPE → file name; `tests` such as pp512; `runtime`: kernels or llama.cpp; `host`: host.facts, which is
    in the key only; `args`: further ones of llama-bench. No part of the key: `program`, the toolchain's llama-bench,
    whose digest the host's facts have, and `missing`, why it is not here where no other serves."""

    names: Mapping[str, str]
    tests: list[str]
    runtime: str
    repetitions: int
    threads: int
    host: Mapping[str, Any]
    args: NotRequired[list[str]]
    program: NotRequired[str]
    missing: NotRequired[str]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Write `bench.json`: speeds.data, each row under its file's name and ftype.

    `inputs`: `<FTYPE>` for each file, before it is split; or `rows/<FTYPE>`, what was measured of each alone.
    """
    if all(name.startswith(ROWS) for name in inputs):
        _put_together([inputs[f"{ROWS}{label}"].path for label in params["names"]], out)
        context.progress(1, 1)
        return
    from quantmill._kernels import infer_isa
    from quantmill.runtime.runners import Kernels
    from quantmill.runtime.speeds import Trial, data, measure

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
            runner = Kernels(max(test.count for test in tests) + 1, threads)
            backend = infer_isa()
        else:
            runner = _llama_bench(params, work)
            backend, versions = "llama.cpp", runner.versions
        rows = measure(list(files), tests, params["repetitions"], runner.run, context.progress)
    except QuantmillError as error:
        raise QuantmillError(str(error).replace(f"{work}/", "")) from None
    for row in rows:
        row.ftype = files[row.file]  # the files' own metadata do not tell Q4_K_L from Q4_K_M
    shutil.rmtree(work)
    found = data(rows, host(threads, backend, versions))
    _write(found, out)


def _put_together(paths: Sequence[Path], out: Path) -> None:
    """The rows of several measurements as one; the host is the first's, which is that of all."""
    measured = [json.loads(path.read_bytes()) for path in paths]
    rows = [row for found in measured for row in found["rows"]]
    for row in rows:
        base = next((other for other in rows if other["ftype"] == "Q4_0" and other["test"] == row["test"]), None)
        row["percent_of_q4_0"] = round(100 * row["ts"] / base["ts"], 1) if base and base["ts"] else None
    _write({"host": measured[0]["host"], "rows": rows}, out)


def _write(found: Mapping[str, Any], out: Path) -> None:
    (out / "bench.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _llama_bench(params: Params, work: Path) -> "LlamaBench":
    from quantmill.errors import UsageError
    from quantmill.runtime.runners import LlamaBench
    from quantmill.toolchain.installed import BENCH, program_digest
    from quantmill.toolchain.subprogram import environment, guarded

    threads, args, otherwise = params["threads"], params.get("args", ()), 'runtime = "kernels" in the recipe\'s [bench]'
    if "missing" in params:
        raise UsageError(params["missing"])
    if "program" not in params:
        return LlamaBench(threads, otherwise, args=args)
    program = Path(params["program"])
    if not program.is_file() or program_digest(program.parent, BENCH) != params["host"]["llama-bench"]:
        raise UsageError(f"{program}: it is gone or another than was taken in; make the toolchain anew")
    return LlamaBench(threads, otherwise, guarded([str(program)]), args, environment(work))


def cost(task: Task, estimates: Estimates) -> Cost:
    """The recipe's tests at the speed of these kernels."""
    return Cost(estimates.bench_seconds())


STEP = Step(
    name="bench",
    version=2,
    doc="measure how fast the files run on this machine",
    run=run,
    outputs=("bench.json",),
    here=True,  # its key names the host
    counts="runs",
    cost=cost,
)
