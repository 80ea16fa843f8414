"""`quantmill admit TAG`: compare our files with those of a llama.cpp of that tag, so that recipes may name it."""

import argparse
from typing import TYPE_CHECKING

from quantmill.commands.common import bar, file_path, folder_path, positive, project, say, threads, words
from quantmill.errors import UsageError
from quantmill.output_file import check_output, through

if TYPE_CHECKING:
    from quantmill.admission.library import Library, Tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("tag", type=words, metavar="TAG", help="b11739, v0.5.0: the tag to admit")
    oracle = parser.add_mutually_exclusive_group(required=True)
    oracle.add_argument("--lib", type=folder_path, metavar="PATH", help="its libllama, or a folder with it")
    oracle.add_argument(
        "--source", type=folder_path, metavar="TREE", help="its sources, of which cmake builds libllama"
    )
    oracle.add_argument(
        "--tools", type=folder_path, metavar="DIR", help="the folder of its llama-quantize: takes hours"
    )
    parser.add_argument("--every", type=positive, default=1, metavar="N", help="compare each N-th file, for a look")
    parser.add_argument("--to", type=file_path, metavar="FILE", help="where the admission is entered (admissions.json)")
    parser.add_argument("--share", action="store_true", help="sign it, for all who read the shared store")


def run(options: argparse.Namespace) -> int:
    """Exit code 0 when the tag is admitted, 1 when its files differ, or an error."""
    from dataclasses import asdict
    from itertools import islice

    from quantmill.admission.admit import admit
    from quantmill.admission.conformance import calls
    from quantmill.reference.admissions import FILE, add, read
    from quantmill.reference.spans import candidates

    spans, path = candidates(options.tag), options.to or project() / FILE
    if through(check_output(path)):
        raise UsageError(f"{path}: no admissions can be entered there; give the path of a file")
    if path.exists():
        read(path)  # what it cannot be entered in is told before the work
    if options.share and options.every > 1:
        raise UsageError("--share is for what all files were compared of; leave out --every")
    if options.share:
        from quantmill.store.remote.admitted import share, writer

        writer(project())
    oracle = _oracle(options)
    try:
        with bar(f"admit {options.tag}", "files") as progress:
            admission, unknown, stopped = admit(
                options.tag,
                oracle,
                spans,
                asked=lambda ftypes: islice(calls(ftypes), 0, None, options.every),
                progress=progress,
            )
    finally:
        oracle.close()
    found = f"{admission.files} files are equal, {admission.refused} are refused by both"
    if unknown:
        found += f"; {len(unknown)} models that it does not load were left out: {', '.join(unknown)}"
    if stopped:
        found += f"; {stopped} files at which it stops were left out"
    if options.every > 1:
        say(f"{options.tag} looks like b{admission.span}: {found}. Without --every it would be admitted.")
        return 0
    add(path, admission)
    say(f"{options.tag} is admitted with the rules from b{admission.span} on: {found}. Entered in {path}.")
    if options.share:
        say(f"Signed at {share(project(), asdict(admission))}.")
    return 0


def _oracle(options: argparse.Namespace) -> "Library | Tool":
    from quantmill.admission import built_library
    from quantmill.admission.library import Library, Tool, form_of
    from quantmill.store.local import store_folder

    if options.tools:
        return Tool(options.tools)
    if options.lib:
        return Library(options.lib, form_of(options.tag))
    with bar("build llama.cpp", "steps") as progress:
        folder = built_library.build(options.source, store_folder(project()) / "llama.cpp", threads(options), progress)
    return Library(folder, built_library.form_of(options.source))
