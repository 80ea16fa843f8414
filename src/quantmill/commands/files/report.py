"""`quantmill report`: a release as it lies there, or two beside each other, as one page."""

import argparse
from pathlib import Path

from quantmill.commands.common import file_path, place, project, say
from quantmill.output_file import check_output, write_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    text = "a release's folder, or OWNER/NAME of the Hub"
    parser.add_argument("release", type=place, metavar="RELEASE", help=text)
    parser.add_argument("other", type=place, nargs="?", metavar="OTHER", help="another release to compare it with")
    parser.add_argument(
        "-o", "--output", type=file_path, metavar="FILE", help="the page to write (the release's name and .html)"
    )


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill import __version__
    from quantmill.errors import apart
    from quantmill.quality.release_page import render_release
    from quantmill.release.release_facts import facts_of
    from quantmill.store.remote.settings import signing

    places = [name for name in (options.release, options.other) if name]
    called = "-and-".join(Path(name).resolve().name or "release" for name in places)
    target = check_output(options.output or Path(f"{called}.html"))
    apart([target], [path for name in places for path in Path(name).rglob("*") if path.is_file()])
    keys = signing(project()).keys
    facts = [facts_of(name, keys) for name in places]
    page = render_release(facts[0], facts[1] if options.other else None, __version__)
    write_output(target, page.encode(errors="backslashreplace"))
    if target.is_file():
        say(str(target))
    return 0
