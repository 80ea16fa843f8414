"""`quantmill bench`: measure how fast files run: prompts and generation, on this machine."""

import argparse

from quantmill.commands.common import (
    activation_bits,
    bar,
    existing,
    file_path,
    parallel,
    positive,
    say,
    say_json,
    threads,
)


def _counts(text: str) -> list[int]:
    """Numbers from 1 on, separated by commas; "0": none."""
    return [] if text == "0" else [positive(part) for part in text.split(",")]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("files", type=file_path, nargs="+", metavar="FILE.gguf", help="models, or first shards")
    parser.add_argument("-p", type=_counts, default=[512], metavar="N,...", help="tokens of prompts (512; 0: none)")
    parser.add_argument("-n", type=_counts, default=[128], metavar="N,...", help="tokens to generate (128; 0: none)")
    parser.add_argument("-t", dest="threads", type=parallel, metavar="N", help="threads (all cores)")
    parser.add_argument("-r", type=positive, default=5, metavar="N", help="repetitions (5)")
    parser.add_argument("--runtime", choices=("kernels", "llama.cpp"), default="kernels", help="what runs the files")
    parser.add_argument("--no-repack", action="store_true", help="use the files' blocks as they lie")
    activation_bits(parser)
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill._kernels import infer_isa
    from quantmill.errors import UsageError
    from quantmill.host import host
    from quantmill.runtime.runners import Kernels, LlamaBench
    from quantmill.runtime.speeds import Trial, data, measure, table

    tests = [Trial("pp", count) for count in options.p] + [Trial("tg", count) for count in options.n]
    if not tests:
        raise UsageError("-p 0 and -n 0 leave no test; give the tokens of at least one")
    if (options.no_repack or options.activation_bits != 16) and options.runtime != "kernels":
        given = "--no-repack" if options.no_repack else "--activation-bits"
        raise UsageError(f"{given} is for --runtime kernels; llama.cpp decides that for itself")
    files = list(dict.fromkeys(existing(file) for file in options.files))
    count, versions = threads(options), {}
    runner: Kernels | LlamaBench
    if options.runtime == "kernels":
        context = max(test.count for test in tests) + 1
        runner = Kernels(context, count, not options.no_repack, options.activation_bits)
        backend = infer_isa()
    else:
        runner = LlamaBench(count)
        backend, versions = "llama.cpp", runner.versions
    with bar("bench", "runs") as progress:
        rows = measure(files, tests, options.r, runner.run, progress)
    if options.json:
        say_json(data(rows, host(count, backend, versions)))
    else:
        say(*table(rows))
    return 0
