"""`quantmill cache stat|verify|gc|push|sign|revoke`: care of the store, and of the one that machines share."""

import argparse
import sys
from typing import TYPE_CHECKING

from quantmill.commands.common import bar, project, say, say_json, size, threads, words
from quantmill.errors import UsageError
from quantmill.units import parse_age, size_text

if TYPE_CHECKING:
    from quantmill.store.care.collector import Keep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        if name in ("stat", "verify", "gc"):
            action.add_argument("--json", action="store_true")
        if name == "push":
            text = "revoke what the shared store has with other outputs, and put what is here in its place"
            action.add_argument("--replace", action="store_true", help=text)
        if name == "revoke":
            text = "digest of a record or an output (8 digits suffice), or a task such as quant:tiny/Q4_K_M"
            action.add_argument("records", type=words, nargs="+", metavar="RECORD", help=text)
            action.add_argument("--why", type=words, metavar="TEXT", help="the reason, which others are told")
        if name == "gc":
            action.add_argument(
                "--keep",
                action="append",
                metavar="WHAT",
                help="pointers, releases, or an age since the last use such as 30d or 12h; again for more "
                "(pointers, releases and 30d)",
            )
            action.add_argument(
                "--max-size", type=size, metavar="SIZE", help="then what was used longest ago, until it fits"
            )
            action.add_argument("--dry-run", action="store_true", help="only say what would go")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, 1 when something is damaged or the shared store has other outputs, or an error."""
    return RUN[options.action](options)


ACTIONS = {
    "stat": "What is in the store: by recipe, step and age, and how often it served.",
    "verify": "Hash every object; what is wrong or revoked goes, and the next build makes it again.",
    "gc": "Remove what nobody needs. Builds may run meanwhile.",
    "push": "Send every result of this store to the shared one.",
    "sign": "Sign the shared store's believed records with this machine's key too: how keys roll over.",
    "revoke": "Take wrong records back, for everyone: what was taken or made of them is computed again.",
}


def _stat(options: argparse.Namespace) -> int:
    from quantmill.build.opening import open_workspace
    from quantmill.store.care.usage import hit_rate, stat

    store = open_workspace(project()).store
    found = stat(store)
    if options.json:
        say_json(found.data())
        return 0
    say(f"{store.root}: {found.objects} objects, {size_text(found.bytes)}; {found.quarantined} in quarantine")
    for title, table in (("recipe", found.recipes), ("step", found.steps), ("last used", found.ages)):
        say("", f"{title:<20} results       bytes")
        for name, (count, total) in table.items():
            say(f"{name:<20} {count:7} {size_text(total):>11}")
    say("", f"{'served':<20}     run     hit  shared  hit rate")
    for step, counts in found.served.items():
        figures = "".join(f"{counts.get(name, 0):8}" for name in ("run", "hit", "shared"))
        say(f"{step:<20}{figures}  {hit_rate(counts):8.0%}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from quantmill.build.opening import open_workspace
    from quantmill.store.care.check import verify_store

    store = open_workspace(project(), report=_hear_aside).store
    if store.remote:
        store.remote.refresh()
    with bar("verify the store") as progress:
        found = verify_store(store, threads(options), progress)
    if found.undone and store.remote:
        store.remote.flush()  # they are taken back there too
    if options.json:
        say_json({name: getattr(found, name) for name in ("objects", "bytes", "damaged", "undone")}, None)
    else:
        for name in found.damaged:
            say(f"{name}: damaged, moved to {store.root / 'quarantine'}; the next build makes it again")
        if found.undone:
            say(f"{len(found.undone)} records that were made of them are removed, and what they tell of is made again")
        say(f"{found.objects} objects, {size_text(found.bytes)}: {len(found.damaged)} damaged")
    return 1 if found.damaged else 0


def _gc(options: argparse.Namespace) -> int:
    from quantmill.build.opening import open_workspace
    from quantmill.store.care.collector import collect

    limit = options.max_size
    space = open_workspace(project())
    keep = _keep(options.keep, limit)
    if options.dry_run and not space.store.root.is_dir():
        raise UsageError(f"{space.store.root}: there is no store yet; build something first")
    space.store.add_root(space.build, space.release)
    gone = collect(space.store, keep, limit, options.dry_run)
    if options.json:
        say_json(vars(gone), None)
    else:
        verb = "would go" if options.dry_run else "removed"
        what = f"{gone.records} results, {gone.objects} objects of {size_text(gone.bytes)}, {gone.leftovers} leftovers"
        say(f"{verb}: {what}; {size_text(gone.kept_bytes)} kept")
    return 0


def _keep(words: list[str] | None, limit: int | None) -> "Keep":
    from quantmill.store.care.collector import Keep

    if words is None:
        return Keep(age=None) if limit is not None else Keep()
    age = None if limit is not None else 0
    for word in words:
        if word in ("pointers", "releases"):
            continue
        try:
            age = parse_age(word) * 10**9
        except ValueError:
            raise UsageError(f"--keep {word}: write pointers, releases, or an age such as 30d or 12h") from None
    return Keep("pointers" in words, "releases" in words, age)


def _push(options: argparse.Namespace) -> int:
    from quantmill.build.opening import open_workspace
    from quantmill.store.remote.admin import push

    space = open_workspace(project())
    sent = push(space.store.root, _hear, options.replace)
    say(f"{sent.there} results are at the shared store")
    say(*(f"quantmill: {conflict}" for conflict in sent.conflicts), file=sys.stderr)
    return 1 if sent.conflicts else 0


def _revoke(options: argparse.Namespace) -> int:
    from quantmill.build.opening import open_workspace
    from quantmill.store.remote.admin import revoke

    space = open_workspace(project())
    for found in revoke(space.store.root, options.records, options.why or "", _hear):
        outputs = ", ".join(f"{name} {sha256[:16]}…" for name, (sha256, _) in sorted(found.outputs.items()))
        say(f"revoked: {found.task or 'a step'}, record {found.digest[:16]}…: {outputs}")
    return 0


def _sign(options: argparse.Namespace) -> int:
    from quantmill.build.opening import open_workspace
    from quantmill.store.remote.admin import sign_all

    space = open_workspace(project())
    say(f"{sign_all(space.store.root, _hear)} records have this machine's signature now")
    return 0


def _hear(address: str, event: str, facts: object) -> None:
    if event == "told" and isinstance(facts, dict):
        say(f"{address}: {facts['text']}")


def _hear_aside(address: str, event: str, facts: object) -> None:
    if event == "told" and isinstance(facts, dict):
        say(f"{address}: {facts['text']}", file=sys.stderr)


RUN = {"stat": _stat, "verify": _verify, "gc": _gc, "push": _push, "sign": _sign, "revoke": _revoke}
