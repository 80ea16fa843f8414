"""The command line: each command is a module of `quantmill.commands`, imported only when it is called.

Exit codes: 0 done, 1 the work failed, 2 the call or the recipe is wrong. Of what it calls, only the commands, and a
build's reporter, print, and nothing exits; `tasks.py` does both too, where doit is the program.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from quantmill import __version__, interrupt
from quantmill.errors import QuantmillError, UsageError, asked_by, one_line, sentence

# Every command, in the order of the help, with its one line. Its module, in `commands` or for those of ON_FILES in
# `commands.files`, has `add_arguments(parser)` and `run(options) -> exit code`.
COMMANDS: dict[str, str] = {
    "init": "Write a new project's recipe: for a base, or such that it makes a release that exists.",
    "build": "Build a recipe's release; only what changed is computed.",
    "plan": "Show every task and file of a recipe before any work, from its configuration alone.",
    "choose": "Say which file of a release to take: for this machine or another.",
    "card": "Write the page of a recipe's release, in four languages.",
    "lock": "Resolve a recipe's base to commits and digests, and write its lock.",
    "explain": "Say why a task would run: quantmill explain quant:tiny/Q4_K_M",
    "quantize": "Quantize a GGUF file, byte for byte as llama-quantize does.",
    "fit": "Find the types for a size that cost a model the least, by measuring, and write the file.",
    "imatrix": "Measure the importance of a model's columns on a text, as llama-imatrix does.",
    "convert": "Convert a model in Hugging Face layout to GGUF.",
    "split": "Cut a GGUF file into shards, as llama-gguf-split does.",
    "merge": "Put shards together again, as llama-gguf-split does.",
    "perplexity": "Measure how well a model predicts a text, and how far it is from its base.",
    "bench": "Measure how fast files run: prompts and generation, on this machine.",
    "generate": "Let a GGUF file write text.",
    "show": "Say what a GGUF file is: metadata, tensors, types, the mix recognized, what made it.",
    "audit": "Say whether a stranger's files are what quantizing their base gives: by tensor, block and weight.",
    "report": "Write a page of a release as it lies there: files, quality, speed, audits; or of two, compared.",
    "site": "Write a static site of many releases: searched without a server, a page each.",
    "verify": "Check a GGUF file or shards: structure, scales, digests.",
    "toolchain": "Make the llama.cpp of a tag usable, for models that our own code does not know.",
    "admit": "Compare our files with those of a llama.cpp, so that recipes may name its tag.",
    "cache": "Look after the store: what is in it, whether it is whole, what may go.",
    "doctor": "Say what this machine has for the work, and what is wrong.",
    "completion": "Print the script by which a shell completes commands: bash, zsh or fish.",
    "key": "Make the keys that sign a shared store's records.",
    "reproduce": "Build a release again from the recipe in it, and compare every file.",
    "publish": "Send a release to the Hub: without --yes, show what would be sent.",
    "diff": "Say in what two GGUF files differ: metadata, tensors, types, blocks.",
}
# A call of each, for its help.
EXAMPLES = {
    "init": "quantmill init my-model --base Qwen/Qwen3-8B",
    "build": "quantmill build tiny --only Q4_K_M",
    "plan": "quantmill plan tiny",
    "choose": "quantmill choose tiny --vram 8GB --context 8192",
    "card": "quantmill card tiny -o page",
    "lock": "quantmill lock tiny",
    "explain": "quantmill explain quant:tiny/Q4_K_M",
    "quantize": "quantmill quantize model-BF16.gguf model-Q4_K_M.gguf Q4_K_M --imatrix model.imatrix",
    "fit": "quantmill fit model-BF16.gguf model-4.5.gguf --bits 4.5 --imatrix model.imatrix -f text.txt",
    "imatrix": "quantmill imatrix model-BF16.gguf -f text.txt -o model.imatrix",
    "convert": "quantmill convert folder/of/model model-BF16.gguf",
    "split": "quantmill split model-Q8_0.gguf shards --max-size 50GB",
    "merge": "quantmill merge shards/model-Q8_0-00001-of-00002.gguf model-Q8_0.gguf",
    "perplexity": "quantmill perplexity model-Q4_K_M.gguf -f text.txt --base model-BF16.gguf",
    "bench": "quantmill bench model-Q4_K_M.gguf model-Q8_0.gguf -p 512 -n 128",
    "generate": "quantmill generate model-Q4_K_M.gguf -p 'Why is the sky blue?'",
    "show": "quantmill show bartowski/Qwen_Qwen3-8B-GGUF",
    "audit": "quantmill audit bartowski/Qwen_Qwen3-8B-GGUF --base Qwen/Qwen3-8B --sample 2%",
    "verify": "quantmill verify model-Q4_K_M.gguf",
    "toolchain": "quantmill toolchain b11739 --from llama.cpp",
    "admit": "quantmill admit b11800 --lib folder/of/libllama",
    "cache": "quantmill cache gc --keep 30d --dry-run",
    "doctor": "quantmill doctor",
    "completion": "quantmill completion bash > ~/.local/share/bash-completion/completions/quantmill",
    "key": "quantmill key new ~/.quantmill/key.pem",
    "reproduce": "quantmill reproduce release/tiny",
    "publish": "quantmill publish tiny",
    "report": "quantmill report release/tiny -o report.html",
    "site": "quantmill site docs/models release bartowski/Qwen_Qwen3-8B-GGUF",
    "diff": "quantmill diff one.gguf another.gguf",
}
ON_FILES = {
    *("quantize", "fit", "imatrix", "convert", "split", "merge", "perplexity"),
    *("bench", "generate", "show", "audit", "report", "site", "verify", "diff"),
}


RESUMED = {"imatrix"}  # of those, what goes on where it was interrupted


def main(arguments: Sequence[str] | None = None) -> None:
    """The program `quantmill`. Exits with the call's code; an error is one line on stderr."""
    try:
        if arguments is None:  # it is the process's own
            words = sys.argv[3:] if sys.argv[1:2] == ["-C"] else sys.argv[1:]
            if words and words[0] in ON_FILES - RESUMED:
                interrupt.keeps_nothing()
            interrupt.heed()
        options = parser(sys.argv[1:] if arguments is None else arguments).parse_args(arguments)
        code = _run(options)
        if sys.stdout is not None:  # a caller may have closed it
            sys.stdout.flush()
    except QuantmillError as error:
        print(f"quantmill: {error}", file=sys.stderr)
        code = error.exit_code
    except ImportError as error:
        print(f"quantmill: {one_line(str(error))}", file=sys.stderr)
        code = UsageError.exit_code if str(error).startswith("QUANTMILL_ISA") else 1  # the kernels refuse that level
    except BrokenPipeError:  # the reader of our output has left, as `quantmill plan | head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        print(f"quantmill: {sentence(error)}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        interrupt.leave()
    sys.exit(code)


def _run(options: argparse.Namespace) -> int:
    """Call the command. Errors of one that works by a recipe name its keys, those of others their options."""
    taken = vars(options)
    if taken.keys() & {"recipe", "beside"}:
        return int(options.run(options))
    with asked_by([f"--{name.replace('_', '-')}" for name in taken]):
        return int(options.run(options))


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The grammar of the command line: all of it for the command that `arguments` name, else the commands' names."""
    top = argparse.ArgumentParser(prog="quantmill", description="Build GGUF quantization releases.", allow_abbrev=False)
    top.add_argument(
        "-C", dest="folder", type=_folder, metavar="DIR", help="run as if called in DIR, from where all paths lead"
    )
    top.add_argument("--version", action="version", version=f"quantmill {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        example = f"example: {EXAMPLES[name]}"
        found = commands.add_parser(name, help=text, description=text, epilog=example, allow_abbrev=False)
        if name in arguments:
            module = import_module(f"quantmill.commands.{'files.' * (name in ON_FILES)}{name}")
            module.add_arguments(found)
            found.set_defaults(run=module.run)
    return top


def _folder(text: str) -> str:
    """The folder of -C, in which the program stands from now on."""
    try:
        os.chdir(text)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no folder to go to ({error.strerror})") from None
    return text


if __name__ == "__main__":
    main()
