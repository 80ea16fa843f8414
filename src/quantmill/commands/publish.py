"""`quantmill publish`: send a release to the Hub; without --yes, show what would be sent."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from quantmill.commands.common import project, recipe_file, say, say_json
from quantmill.errors import UsageError

if TYPE_CHECKING:
    from quantmill.build.workspace import Workspace
    from quantmill.recipe.recipe import Recipe
    from quantmill.release.publish import Upload


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("recipe", help="a .toml file, or the name of one in recipes/")
    both = parser.add_mutually_exclusive_group()
    both.add_argument("--yes", action="store_true", help="do it")
    both.add_argument("--dry-run", action="store_true", help="show what would be done (the default)")
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.build.opening import open_workspace
    from quantmill.build.release_tag import tag
    from quantmill.recipe import git
    from quantmill.recipe import lock as locks
    from quantmill.recipe.recipe import load

    recipe = load(recipe_file(options.recipe))
    if recipe.repo is None:
        raise UsageError(f"{recipe.path}: publish.owner: the recipe does not say where to publish; give owner or repo")
    space = open_workspace(project())
    lock = locks.current(recipe, True, space.store.hints.digest_of)
    name, tree = tag(recipe, lock), space.release / recipe.name
    if tag_in(tree) != name:
        there = f"is {tag_in(tree)}" if tag_in(tree) else "is not there"
        raise UsageError(f"{tree}: the release {there}, the recipe and its lock make {name}; build it first")
    in_git = git.check([recipe.path, locks.path_of(recipe)])
    code = publish(recipe, space, name, in_git, options.yes, options.json)
    if not options.yes and not options.json:
        say("nothing was sent; --yes sends it")
    return code


def publish(recipe: "Recipe", space: "Workspace", name: str, in_git: bool, yes: bool, json: bool = False) -> int:
    """Show what is to be sent of the release of that name, and send it where told so. Exit code 0, or an error."""
    from quantmill.build.release_folder import sent_to
    from quantmill.network.hub import HubError
    from quantmill.recipe import git
    from quantmill.release.publish import files_of, prepare, send, unasked

    assert recipe.repo is not None
    files = files_of(space.release / recipe.name, space.store.hints.digest_of, space.store.is_let_go)
    sent, problem = sent_to(space.store, space.build / recipe.name, recipe.repo), ""
    try:
        upload = prepare(recipe.repo, name, files, sent)
    except HubError as error:
        if yes:
            raise
        upload, problem = unasked(recipe.repo, name, files), str(error)
        say(f"quantmill: note: {problem}; so this is what would be sent if it had nothing", file=sys.stderr)
    if json:
        commits = [[{"name": f.name, "bytes": f.size, "sha256": f.sha256} for f in group] for group in upload.commits]
        say_json({
            "repo": upload.repo, "tag": name, "create": upload.new, "commits": commits, "removed": upload.removed,
            "there": upload.there, "bytes": upload.bytes, "git_tag": in_git, "asked": not problem,
        })  # fmt: skip
    else:
        say(*_lines(upload, in_git))
    if not yes:
        return 0
    if not sys.stderr.isatty():
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
    commit = send(files, upload, lambda line: None if json else say(line), recipe.card.private, sent)
    if in_git:
        git.tag(recipe.path.absolute().parent, name)
    if not json:
        say(f"{upload.repo} at {name} ({commit[:12]}): {len(files)} files, each as it was made")
    return 0


def tag_in(tree: Path) -> str:
    """The tag of the release in a folder, empty where there is none."""
    from quantmill.listing import LISTING, read_strangers

    try:
        return str(read_strangers(tree / LISTING)["tag"])
    except (KeyError, TypeError):
        return ""


def _lines(upload: "Upload", in_git: bool) -> Iterator[str]:
    yield f"{upload.repo}" + (" (to be created)" if upload.new else "") + f", release {upload.tag}"
    for number, group in enumerate(upload.commits, 1):
        for file in group:
            yield f"commit {number}  {file.name}  {file.size:,} bytes  {file.sha256}"
    for name in upload.removed:
        yield f"remove    {name}, of an earlier release"
    yield f"{upload.bytes:,} bytes to send, {upload.there} files are there already"
    if not upload.has_tag:
        yield f"tag {upload.tag} at the Hub" + (" and in the recipe's git repository" if in_git else "")
