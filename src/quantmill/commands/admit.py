"""`quantmill admit TAG`: compare our files with those of a llama.cpp of that tag, so that recipes may name it."""

import argparse
from pathlib import Path

from quantmill.commands.common import bar, existing, project, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("tag", metavar="TAG", help="b11739, v0.5.0: the tag to admit")
    oracle = parser.add_mutually_exclusive_group(required=True)
    oracle.add_argument("--lib", type=Path, metavar="PATH", help="its libllama, or a folder with it; from b8660 on")
    oracle.add_argument("--tools", type=Path, metavar="DIR", help="the folder of its llama-quantize, of any tag")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="compare each N-th file alone, for a look")
    parser.add_argument("--to", type=Path, metavar="FILE", help="where the admission is entered (admissions.json)")


def run(options: argparse.Namespace) -> int:
    """Exit code 0 when the tag is admitted, 1 when its files differ, or an error."""
    from itertools import islice

    from quantmill.admission.admit import admit
    from quantmill.admission.conformance import calls
    from quantmill.admission.library import Library, Tool
    from quantmill.errors import UsageError
    from quantmill.reference.admissions import FILE, add
    from quantmill.reference.spans import candidates

    if options.every < 1:
        raise UsageError(f"--every {options.every}: a number from 1 on")
    spans = candidates(options.tag)
    oracle = Library(existing(options.lib)) if options.lib else Tool(existing(options.tools))
    try:
        with bar(f"admit {options.tag}") as progress:
            admission = admit(
                options.tag,
                oracle,
                spans,
                asked=lambda ftypes: islice(calls(ftypes), 0, None, options.every),
                progress=progress,
            )
    finally:
        oracle.close()
    found = f"{admission.files} files are equal, {admission.refused} are refused by both"
    if options.every > 1:
        say(f"{options.tag} looks like b{admission.span}: {found}. Without --every it would be admitted.")
        return 0
    path = options.to or project() / FILE
    add(path, admission)
    say(f"{options.tag} is admitted with the rules from b{admission.span} on: {found}. Entered in {path}.")
    return 0
