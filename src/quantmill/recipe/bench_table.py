"""What a recipe says of speed: the keys of [bench], the tests that the released files are run through."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from quantmill.errors import Unfit
from quantmill.host import MOST_THREADS
from quantmill.recipe.convert_table import OWN, tool_of

KEYS: dict[str, str] = {
    "bench.tests": "list",
    "bench.ftypes": "list",
    "bench.runtime": "string",
    "bench.with": "string",
    "bench.args": "list",
    "bench.repetitions": "count",
    "bench.threads": "count",
}

RUNTIMES = ("kernels", "llama.cpp")
TESTS = ("pp512", "tg128")
REPETITIONS = 5
# Options of llama-bench that the recipe's own keys decide, or by which it would do something else.
TAKEN = (
    *("-m", "--model", "-p", "--n-prompt", "-n", "--n-gen", "-pg", "-d", "--n-depth", "-r", "--repetitions", "-o"),
    *("--output", "-oe", "--output-err", "-t", "--threads", "-hf", "-hfr", "--hf-repo", "--list-devices"),
)


@dataclass(frozen=True)
class BenchTable:
    """Which tests are run on which files, and by what. `threads` None: all that the host gives. `tool`: by whom, as
    convert_table.tool; `args`: what its llama-bench is given. `runtime`: llama.cpp where it may be any llama-bench."""

    tests: tuple[str, ...]
    ftypes: tuple[str, ...]
    runtime: str
    repetitions: int
    threads: int | None
    tool: str = OWN
    args: tuple[str, ...] = ()


def bench(get: Callable[[str], Any], matrix: Sequence[str], ftype: Callable[[str, str], str]) -> BenchTable | None:
    """The [bench] of a recipe with that matrix, None when it has none; `ftype(key, name)` gives an ftype's own
    spelling or raises. Raises Unfit."""
    table = get("bench")
    if table is None:
        return None
    tests = tuple(table.get("tests", TESTS))
    ftypes = tuple(ftype("bench.ftypes", name) for name in table.get("ftypes", matrix))
    for test in tests:
        if not re.fullmatch(r"(pp|tg)[1-9]\d{0,6}", test):
            raise Unfit("bench.tests", f"{test!r} is no test; write pp512 for a prompt, tg128 to generate")
    for name in ftypes:
        if name not in matrix:
            raise Unfit("bench.ftypes", f"{name} is not in the matrix; add it there or remove it here")
    for key, names in (("bench.tests", tests), ("bench.ftypes", ftypes)):
        if twice := {name for name in names if names.count(name) > 1}:
            raise Unfit(key, f"{min(twice)} is listed twice; once is enough")
    runtime = table.get("runtime", RUNTIMES[0])
    if runtime not in RUNTIMES:
        raise Unfit("bench.runtime", f"{runtime!r} is not one of {', '.join(RUNTIMES)}")
    for key, otherwise in (("repetitions", REPETITIONS), ("threads", "all")):
        if table.get(key) == 0:
            raise Unfit(f"bench.{key}", f"0 measure nothing; give 1 or more, or leave it out for {otherwise}")
    if (table.get("threads") or 0) > MOST_THREADS:
        raise Unfit("bench.threads", f"more than {MOST_THREADS} threads do not work at a time; leave it out for all")
    if "runtime" in table and "with" in table:
        raise Unfit("bench.runtime", "`with` says what runs the files; remove one of the two")
    made_by = tool_of(get, "bench", "llama-bench", (), TAKEN)
    repetitions, args = table.get("repetitions", REPETITIONS), tuple(table.get("args", ()))
    return BenchTable(tests, ftypes, runtime, repetitions, table.get("threads"), made_by, args)
