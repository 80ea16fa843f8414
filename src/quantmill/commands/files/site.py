"""`quantmill site`: many releases as a static site, an index that is searched without a server and a page each."""

import argparse
from dataclasses import replace
from pathlib import Path

from quantmill.commands.common import bar, folder_path, place, project, say, words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", type=folder_path, metavar="DIR", help="the folder to write the site into")
    text = "a release's folder, a folder of such, or OWNER/NAME of the Hub"
    parser.add_argument("release", type=place, nargs="+", metavar="RELEASE", help=text)
    parser.add_argument("--title", type=words, default="Releases", metavar="TEXT", help="the index's title (Releases)")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill import __version__
    from quantmill.quality.site_page import render_site
    from quantmill.release.release_facts import facts_of
    from quantmill.release.site_folder import SiteFolder, page_names, releases_in
    from quantmill.store.remote.settings import signing

    found = releases_in(options.release)
    names = page_names([release.name for release in found])
    site = SiteFolder(options.folder)
    site.check(names, [Path(release.place) for release in found])
    keys = signing(project()).keys
    pages = []
    with bar("read releases", "releases") as progress:
        for done, (name, release) in enumerate(zip(names, found, strict=True)):
            progress(done, len(found))
            facts = facts_of(release.place, keys)
            notes = tuple(note.replace(f"{release.place}/", "") for note in facts.notes)
            pages.append((name, replace(facts, place=release.name, notes=notes)))
    texts = render_site(pages, options.title, __version__)
    site.write({name: text.encode(errors="backslashreplace") for name, text in texts.items()})
    say(str(options.folder / "index.html"))
    return 0
