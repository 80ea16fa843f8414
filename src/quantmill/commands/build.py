"""`quantmill build`: build a recipe's release; only what changed is computed."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from quantmill.commands.common import file_path, parallel, project, recipe_file, say, threads, words
from quantmill.errors import UsageError
from quantmill.output_file import check_output, write_output

if TYPE_CHECKING:
    from quantmill.build.local.timings import Timings
    from quantmill.recipe.recipe import Recipe

TLS = ("tls_ca", "tls_cert", "tls_key")
LONG = 10.0  # seconds of a task by which rates are judged
DASK = ("scheduler", "workers", *TLS, "insecure")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("recipe", help="a .toml file, or the name of one in recipes/")
    parser.add_argument(
        "--only", type=words, action="append", default=[], metavar="FTYPE", help="build and verify this file alone"
    )
    parser.add_argument("-n", dest="jobs", type=parallel, default=1, metavar="N", help="tasks at a time (1)")
    parser.add_argument("--threads", type=parallel, metavar="N", help="threads of one task (all cores)")
    parser.add_argument("--engine", choices=("local", "dask"), default="local", help="dask: steps run on a cluster")
    parser.add_argument(
        "--scheduler", type=words, metavar="ADDRESS", help="of a Dask cluster; without it, workers start here"
    )
    parser.add_argument("--workers", type=parallel, metavar="N", help="worker processes on this machine (2)")
    for name in ("ca", "cert", "key"):
        parser.add_argument(f"--tls-{name}", type=file_path, metavar="FILE", help=f"TLS {name} for the scheduler, PEM")
    parser.add_argument("--insecure", action="store_true", default=None, help="take a scheduler without TLS")
    text = "quantize such a part of each file's tensors twice, elsewhere, and compare, such as 2%%; at least one tensor"
    parser.add_argument("--check", type=_share, default=0.0, metavar="PERCENT", help=text)
    text = "publish each file as soon as it is made and found right, and keep its record alone"
    parser.add_argument("--publish", action="store_true", help=text)
    parser.add_argument(
        "--dry-run", action="store_true", help="of --publish: show what would be sent, and build nothing"
    )
    text = "write a page of when each task ran, and what it was thought to take"
    parser.add_argument("--timings", type=file_path, metavar="FILE.html", help=text)
    parser.add_argument("--locked", action="store_true", help="fail when the lock does not describe the recipe's base")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.recipe.recipe import load

    path = recipe_file(options.recipe)
    as_built = options.publish or load(path).as_built
    if options.dry_run and not as_built:
        raise UsageError("--dry-run shows what --publish would send; add that, or leave it out")
    if options.engine == "dask":
        if as_built:
            raise UsageError("files are published as they are built by one machine alone; leave out --engine dask")
        if options.timings:
            raise UsageError("--timings is of a build on this machine; leave it out, or --engine dask")
        return _distributed(path, options)
    if given := next((name for name in DASK if getattr(options, name) is not None), None):
        raise UsageError(f"--{given.replace('_', '-')} is an option of --engine dask; add that, or leave it out")
    from quantmill.build.local.one_build import BuildCall, build
    from quantmill.commands.disk_room import room
    from quantmill.forecast import estimates

    timings = None
    if options.timings:
        from quantmill.build.local.timings import Timings

        check_output(options.timings)
        timings = Timings()
    job = BuildCall(
        path,
        project(),
        room,
        tuple(options.only),
        options.jobs,
        options.threads,
        options.locked,
        options.check,
        timings,
    )
    if as_built:
        from quantmill.commands.build_published import published

        code = published(load(path), options, partial(build, job, estimates))
    else:
        code = build(job, estimates)
    if timings:
        _tell(load(path), timings, options.timings, threads(options))
    return code


def _tell(recipe: "Recipe", timings: "Timings", to: Path, count: int) -> None:
    """Write the page of a build that has ended, however it did; where the plan was far off, rates are measured anew."""
    from quantmill.build.doit_tasks import seconds
    from quantmill.forecast import estimates
    from quantmill.forecast.kept_rates import OFF, forget
    from quantmill.forecast.timings_page import timings_page

    tasks = timings.planned(seconds([recipe], estimates), count)
    text = timings_page(f"{recipe.name}, llama.cpp {recipe.llama_cpp}", tasks, timings.seconds())
    write_output(to, text.encode())
    long = [task for task in tasks if task.planned is not None and max(task.took, task.planned) > LONG]
    took, planned = sum(task.took for task in long), sum(task.planned or 0 for task in long)
    if planned and not 1 / OFF < took / planned < OFF:
        say(f"note: tasks took {took / planned:.1f} times what was planned; rates are measured anew by the next plan")
        forget()


def _share(text: str) -> float:
    """`2%` as 0.02."""
    try:
        found = float(text.removesuffix("%")) / 100 if text.endswith("%") else 0
    except ValueError:
        found = 0
    if not 0 < found <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no part of a whole; write it like 2% or 100%")
    return found


def _distributed(path: Path, options: argparse.Namespace) -> int:
    try:
        from quantmill.distributed.driver import Cluster, build
    except ImportError as error:
        raise UsageError(f"--engine dask: {error}; install quantmill[dask]") from None
    if options.scheduler and (options.workers or options.threads):
        raise UsageError("--workers and --threads are for workers on this machine; leave them out beside --scheduler")
    _agree(options)
    cluster = Cluster(
        options.scheduler,
        options.workers or 2,
        options.threads,
        options.tls_ca,
        options.tls_cert,
        options.tls_key,
        bool(options.insecure),
    )
    return build(path, project(), options.only, options.locked, cluster, check=options.check)


def _agree(options: argparse.Namespace) -> None:
    """UsageError where options of TLS have nothing to act on, or contradict each other."""
    given = [f"--{name.replace('_', '-')}" for name in (*TLS, "insecure") if getattr(options, name) is not None]
    if given and not options.scheduler:
        raise UsageError(
            f"{given[0]} is for a cluster at --scheduler; name that, or leave it out: workers here have TLS"
        )
    if options.insecure and len(given) > 1:
        raise UsageError(f"--insecure is for a scheduler without TLS, and {given[0]} for one with it; leave one out")
