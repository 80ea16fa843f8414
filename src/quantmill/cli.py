"""The command line: `quantmill build|plan|lock|explain` on recipes, and each step as a tool of its own.

Exit codes: 0 done, 1 the work failed, 2 the call or the recipe is wrong. Only this module prints and exits.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from quantmill import __version__
from quantmill.errors import INTERRUPTED, QuantmillError, UsageError, sentence

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> None:
    """The program `quantmill`. Exits with the call's code; an error is one line on stderr."""
    options = parser().parse_args(arguments)
    try:
        code = options.run(options)
        if sys.stdout is not None:  # a caller may have closed it
            sys.stdout.flush()
    except QuantmillError as error:
        print(f"quantmill: {error}", file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:  # the reader of our output has left, as `quantmill plan | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        print(f"quantmill: {sentence(error)}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print(f"quantmill: {INTERRUPTED}", file=sys.stderr)
        code = 1
    sys.exit(code)


def parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    top = argparse.ArgumentParser(prog="quantmill", description="Build GGUF quantization releases.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"quantmill {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Command, text: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        found.set_defaults(run=run)
        return found

    one = command("build", _build, "Build a recipe's release; only what changed is computed.")
    one.add_argument("recipe", help="a .toml file, or the name of one in recipes/")
    one.add_argument("--only", action="append", default=[], metavar="FTYPE", help="build and verify this file alone")
    one.add_argument("-n", dest="jobs", type=_positive, default=1, metavar="N", help="tasks at a time (1)")
    one.add_argument("--threads", type=_positive, metavar="N", help="threads of one task (all cores)")
    one.add_argument("--locked", action="store_true", help="fail when the lock does not describe the recipe's base")

    one = command("plan", _plan, "Show every task and file of a recipe before any work, from its configuration alone.")
    one.add_argument("recipe")
    one.add_argument("--json", action="store_true")

    one = command("lock", _lock, "Resolve a recipe's base to commits and digests, and write its lock.")
    one.add_argument("recipe")

    one = command("explain", _explain, "Say why a task would run: quantmill explain quant:tiny/Q4_K_M")
    one.add_argument("task")
    one.add_argument("recipe", nargs="?", help="its .toml file, when that is not in recipes/")
    one.add_argument("--json", action="store_true")

    _tools(command)
    return top


def _tools(command: Callable[[str, Command, str], argparse.ArgumentParser]) -> None:
    from quantmill import tools

    one = command("quantize", tools.quantize, "Quantize a GGUF file, byte for byte as llama-quantize does.")
    one.add_argument("source", type=Path, metavar="IN.gguf")
    one.add_argument("target", type=Path, metavar="OUT.gguf")
    one.add_argument("ftype", metavar="FTYPE")
    one.add_argument("--imatrix", type=Path, metavar="FILE", help="an importance matrix")
    one.add_argument("--imatrix-name", metavar="TEXT", help="what the metadata calls it (the path as given)")
    one.add_argument("--llama-cpp", default="b5490", metavar="TAG", help="the tag whose bytes to write (b5490)")
    one.add_argument("--threads", type=_positive, metavar="N", help="threads (all cores)")
    one.add_argument("--output-tensor-type", metavar="TYPE")
    one.add_argument("--token-embedding-type", metavar="TYPE")
    one.add_argument("--tensor-type", action="append", default=[], metavar="REGEX=TYPE")
    one.add_argument("--allow-requantize", action="store_true", help="accept a source that is quantized already")
    one.add_argument("--pure", action="store_true", help="the ftype's own type for every tensor")
    one.add_argument("--leave-output-tensor", action="store_true", help="keep output.weight as it is")

    one.add_argument("--keep-split", action="store_true", help="shards like the source's; OUT names them")
    one.add_argument("--include-weights", action="append", default=[], metavar="TEXT", help="imatrix entries to use")
    one.add_argument("--exclude-weights", action="append", default=[], metavar="TEXT", help="imatrix entries to leave")
    one.add_argument("--override-kv", action="append", default=[], metavar="KEY=TYPE:VALUE")

    one = command("convert", tools.convert, "Convert a model in Hugging Face layout to GGUF.")
    one.add_argument("source", type=Path, metavar="DIR")
    one.add_argument("target", type=Path, metavar="OUT.gguf")
    one.add_argument("--type", default="BF16", choices=("BF16", "F16", "F32"), type=str.upper)
    one.add_argument("--name", metavar="TEXT", help="the model's name (the folder's)")
    one.add_argument("--pre-tokenizer", metavar="NAME", help="when the tokenizer's pattern is not known")

    one = command("split", tools.split, "Cut a GGUF file into shards, as llama-gguf-split does.")
    one.add_argument("source", type=Path, metavar="IN.gguf")
    one.add_argument("folder", type=Path, metavar="DIR")
    one.add_argument("--max-size", default="50GB", metavar="SIZE", help="of one shard's tensors (50GB)")
    one.add_argument("--prefix", metavar="TEXT", help="of the shards' names (the file's)")

    one = command("merge", tools.merge, "Put shards together again, as llama-gguf-split does.")
    one.add_argument("source", type=Path, metavar="SHARD.gguf", help="any shard; the others lie beside it")
    one.add_argument("target", type=Path, metavar="OUT.gguf")

    one = command("verify", tools.verify, "Check a GGUF file or shards: structure, scales, digests.")
    one.add_argument("files", type=Path, nargs="+", metavar="FILE.gguf")
    one.add_argument("--json", action="store_true")


def _build(options: argparse.Namespace) -> int:
    from quantmill.recipe import find
    from quantmill.tasks import build

    return build(find(options.recipe), Path.cwd(), options.only, options.jobs, options.threads, options.locked)


def _plan(options: argparse.Namespace) -> int:
    import json

    from quantmill.preview import preview
    from quantmill.recipe import find, load

    plan = preview(load(find(options.recipe)), Path.cwd())
    if options.json:
        print(json.dumps(plan.data(), indent=1))
    else:
        from quantmill.show import plan_text

        print(plan_text(plan))
    return 0


def _lock(options: argparse.Namespace) -> int:
    from quantmill import lock
    from quantmill.recipe import find, load
    from quantmill.tasks import workspace

    recipe = load(find(options.recipe))
    found = lock.write(recipe, workspace(Path.cwd()).store.digest_of)
    print(f"{lock.path_of(recipe)}: {len(found.files)} files, {sum(f.size for f in found.files.values())} bytes")
    return 0


def _explain(options: argparse.Namespace) -> int:
    import json

    from quantmill.preview import statuses
    from quantmill.recipe import find, load

    recipe_name = options.task.partition(":")[2].partition("/")[0]
    if not recipe_name:
        raise UsageError(f"{options.task!r} is not a task's name; write it like quant:tiny/Q4_K_M")
    found = statuses(load(find(options.recipe or recipe_name)), Path.cwd())
    if options.task not in found:
        from quantmill.errors import nearest

        raise UsageError(f"there is no task {options.task}{nearest(options.task, found)}; 'doit list --all' shows them")
    status = found[options.task]
    if options.json:
        print(json.dumps({"name": options.task, "status": status.state, "reason": status.reason}, ensure_ascii=False))
    else:
        print(f"{options.task}: {status.state}" + (f": {status.reason}" if status.reason else ""))
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


if __name__ == "__main__":
    main()
