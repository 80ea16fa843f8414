"""A shared store whose owner is hostile: no wrong byte, no traceback, no build that waits for long.

    python benchmarks/hostile_bucket.py [--count N] [--builds N] [--seed TEXT] [--only SEED] [--workers N]

A real S3 server holds a good store of a small release. Before it stands a proxy that changes what it answers: bits,
lengths, objects for others, JSON that is none, statuses, redirects, headers, bodies without end, bytes that trickle.
`--count` readers with an empty store each ask for one record, object, list of chunks, chunk, lease or pointer while
that is changed, with minutes made seconds. `--builds` whole builds, as people run them, have one or all kinds changed.
Prints the seed of each that was wrong, raised or took too long, and at last the counts; ends with 1 when there was one.
`--only` asks for the one thing of that seed.
"""

import argparse
import os
import queue
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from hostile.cases import FOUND, SMALL, Good, quick_minutes, timed  # noqa: E402
from hostile.proxy import QUICK, SLOW, Answer, HostileProxy, Mutation  # noqa: E402
from projects import Project, new_project  # noqa: E402
from s3_server import S3Server  # noqa: E402
from team import AS_READER, AS_WRITER  # noqa: E402

SLOW_SHARE = 0.03  # of all that is asked for
LONGEST = 20.0  # seconds that a reader may take for one thing, where a minute is a second
# What docs/team.md states of a build: a minute, the last thing that it waited for, a second of each question and five
# of each object.
MINUTES, EACH = 120.0, 6.0
FOLDERS = ("ac", "cas", "chunks", "lease", "")


def patch(name: str, value: float) -> None:
    """Set a constant of a module."""
    module, _, constant = name.rpartition(".")
    setattr(import_module(module), constant, value)


def readers(good: Good, folder: Path, seeds: list[str], workers: int) -> int:
    """Ask for each; how many went wrong."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for seed in seeds:
        waiting.put(seed)
    lock, done, bad, slowest = threading.Lock(), Counter[str](), 0, (0.0, "")
    quick_minutes(patch)

    def work() -> None:
        nonlocal bad, slowest
        proxy = HostileProxy(good.server.port, lambda method, answer: None)
        while True:
            try:
                seed = waiting.get_nowait()
            except queue.Empty:
                return proxy.stop()
            case = good.case(seed, SLOW_SHARE)
            seconds, wrong = timed(partial(good.ask, case, proxy, folder / seed.replace("/", "-")))
            wrong = wrong or ("" if seconds < LONGEST else f"took {seconds:.0f} s")
            with lock:
                done[case.kind] += 1
                slowest = max(slowest, (seconds, str(case)))
                if wrong:
                    bad += 1
                    print(f"{case}: {wrong}", flush=True)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(done.items()))
    print(f"{sum(done.values())} readers ({counts}): {bad} wrong, raised or late; peak memory {peak} MB")
    print(f"slowest: {slowest[0]:.1f} s, {slowest[1]}")
    return bad


def hostile(good: Good, seed: str, mutations: tuple[Mutation, ...], folder: str, share: float) -> HostileProxy:
    """A proxy that changes that share of the answers for objects below a folder."""
    rng, lock = random.Random(seed), threading.Lock()
    beats = 0

    def change(method: str, answer: Answer) -> None:
        nonlocal beats
        path = unquote(answer.path.partition("?")[0])
        if folder == "lease" and "/ac/" in path:
            answer.status, answer.body = 404, b""
        if f"/{folder}/" not in path and folder:
            return
        with lock:
            if folder == "lease":
                beats += 1
                answer.status, answer.headers = 200, dict(FOUND)
                answer.body = b'{"owner": "0", "beat": %d}' % beats
            if mutations and rng.random() < share:
                rng.choice(mutations)(rng, answer, good.there)

    return HostileProxy(good.server.port, change)


def build(project: Project, **environment: str) -> tuple[int, str, float]:
    """Exit code, what was said, seconds."""
    program, began = str(Path(sys.executable).parent / "doit"), time.monotonic()
    try:
        done = subprocess.run(
            *([program],),
            cwd=project.folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=900,
            text=True,
        )
    except subprocess.TimeoutExpired:
        return 1, "it did not end", time.monotonic() - began
    return done.returncode, done.stdout, time.monotonic() - began


def builds(good: Good, folder: Path, seed: str, count: int) -> int:
    """Build with an empty store; how many went wrong."""
    alone = []
    for turn in range(3):
        alone.append(build(new_project(folder / f"alone{turn}", SMALL))[2])
    without, slowest, bad = sorted(alone)[1], (0.0, ""), 0
    tasks = len(good.tasks)
    # First each mutation for all that is asked, and leases without end; then by chance.
    plans: list[tuple[tuple[Mutation, ...], str, float]] = [((), "lease", 1.0)]
    plans += [((mutation,), "", 1.0) for mutation in dict.fromkeys(SLOW + QUICK)]
    rng = random.Random(seed)
    while len(plans) < count:
        plans.append((QUICK + SLOW, rng.choice(FOLDERS), rng.choice((0.1, 0.3, 1.0))))
    for number, (mutations, where, share) in enumerate(plans[:count]):
        name = f"{seed}/build{number}"
        proxy = hostile(good, name, mutations, where, share)
        reader = new_project(folder / f"reader{number}", SMALL)
        good.team.join(reader, endpoint=proxy.endpoint, timeout=5, retries=3, lease=3)
        code, said, seconds = build(reader, **AS_READER)
        proxy.stop()
        wrong = ["exit code"] * (code != 0) + ["traceback"] * ("Traceback" in said)
        wrong += ["late"] * (seconds > 1.5 * without + MINUTES + EACH * tasks)
        if code == 0 and reader.release() != good.release:
            wrong.append("WRONG BYTES")
        what = f"{'/'.join(one.__name__ for one in mutations) if len(mutations) < 5 else 'any'} of {where or 'all'}"
        slowest = max(slowest, (seconds, f"{name}, {what}, {share:.0%}"))
        print(
            f"{name}: {what}, {share:.0%}: {seconds:.1f} s, {seconds / without:.1f} times; {wrong or 'right'}",
            flush=True,
        )
        if wrong:
            bad += 1
            print(said)
    print(f"{count} builds: {bad} wrong; without a store {without:.1f} s, slowest {slowest[0]:.1f} s ({slowest[1]})")
    return bad


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--builds", type=int, default=30)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only")
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    os.environ.update(AS_WRITER)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "s3").mkdir()
        server = S3Server(folder / "s3")
        stack.callback(server.stop)
        good = Good(new_project(folder / "writer", SMALL), server, folder)
        seeds = [options.only] if options.only else [f"{options.seed}/{at}" for at in range(options.count)]
        bad = readers(good, folder / "stores", seeds, options.workers)
        if not options.only and options.builds:
            bad += builds(good, folder, options.seed, options.builds)
    sys.stdout.flush()
    os._exit(1 if bad else 0)  # threads of the proxies may still be pouring


if __name__ == "__main__":
    main()
