"""What a command line of doit's asks for: the recipes to be read, and the tasks that must be there."""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from getopt import GetoptError, getopt

from quantmill.errors import UsageError, nearest
from quantmill.steps import STEPS

PREFIXES = frozenset(prefix for step in STEPS.values() for prefix in step.prefixes)
# Commands that look at tasks and compute nothing: they ask no network and write no lock, and name a broken recipe only.
LOOKING = ("list", "info", "clean", "forget", "help", "tabcompletion")
# Of those, the ones whose words are tasks' names, which doit looks for with a traceback; and what they do without any.
_NAMING = ("list", "info", "clean", "forget")
_DEFAULTING = ("clean", "forget")
_ALL = re.compile(r"--clean-all|--all|--disable-default|-\w*a\w*")
_VALUED = ("-f", "--file", "-d", "--dir", "--db-file", "--backend", "--check_file_uptodate", "--template", "--sort")
# Those that are neither for looking nor a run; doit knows what their words are.
_OTHERS = ("ignore", "dumpdb", "strace", "reset-dep")
# The options of a run, as getopt reads them.
_SHORT = "f:d:kacv:r:o:n:P:s"
_LONG = (
    *("db-file=", "backend=", "check_file_uptodate=", "file=", "dir=", "seek-file", "always-execute", "continue"),
    *("verbosity=", "reporter=", "output-file=", "process=", "parallel-type=", "pdb", "single", "auto-delayed-regex"),
    "failure-verbosity=",
)


@dataclass(frozen=True)
class DoitCall:
    """`looking`: the command of LOOKING, empty for a run. `recipes`: by the task that names each; `patterns`: of tasks.

    `words`: what a run, or a command that looks, names, tasks or not.
    """

    looking: str
    recipes: Mapping[str, str]
    patterns: Sequence[str]
    words: Sequence[str]
    by_default: bool

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> "DoitCall":
        """From doit's own arguments."""
        looking = next((word for word in arguments if word in LOOKING), "")
        after = arguments[arguments.index(looking) + 1 :] if looking in _NAMING else []
        words = [
            word
            for word, before in zip(after, ["", *after], strict=False)
            if not word.startswith("-") and "=" not in word and before not in _VALUED
        ]
        whole = any(_ALL.fullmatch(word) for word in after)
        return cls(
            looking,
            {word: recipe for word in arguments if (recipe := _recipe_of(word)) is not None},
            [word for word in arguments if "*" in word and "=" not in word and not word.startswith("-")],
            words if looking else _run_words(arguments),
            not looking or (looking in _DEFAULTING and not words and not whole),
        )

    def named(self, recipes: Iterable[str], default: str) -> set[str]:
        """The recipes that the call is for, there or not; nothing for a command that looks at all of them."""
        known = list(recipes)
        found = {name for named in self.recipes.values() if named for name in _matching(named, known)}
        return found or ({default} if self.by_default else set())

    def check(self, made: Sequence[str], targets: Iterable[str]) -> None:
        """UsageError for a name, or a pattern, of no task of those made, nor, in a run, of a target. For such a word doit
        finds nothing to do, or ends with a traceback or its own exit code 3."""
        for pattern in self.patterns:
            if not fnmatch.filter(made, pattern):
                raise UsageError(f"no task matches {pattern}; 'doit list --all' shows them")
        known = {*made, *(name.partition(":")[0] for name in made)}
        if not self.looking:
            known.update(targets)
        for word in self.words:
            if "*" not in word and word not in known:
                raise no_task(word, known)


def no_task(word: str, known: Iterable[str]) -> UsageError:
    return UsageError(f"there is no task {word}{nearest(word, known)}; 'doit list --all' shows them")


def _run_words(arguments: Sequence[str]) -> list[str]:
    """The words of a run that name tasks, up to an option behind them; none where doit will refuse the options."""
    try:
        words = getopt([word for word in arguments if word.startswith("-") or "=" not in word], _SHORT, _LONG)[1]
        if words[:1] == ["run"]:
            words = getopt(words[1:], _SHORT, _LONG)[1]
    except GetoptError:
        return []
    if words[:1] and words[0] in _OTHERS:
        return []
    return words[: next((at for at, word in enumerate(words) if word.startswith("-")), None)]


def _recipe_of(word: str) -> str | None:
    """The recipe in a task's name, empty for a step of all; None for what is no task's name."""
    step, _, rest = word.partition(":")
    return rest.partition("/")[0] if step in PREFIXES else None


def _matching(name: str, recipes: Iterable[str]) -> list[str]:
    """The recipes that a task's name on the command line is of: one, there or not, or those that a pattern matches."""
    return fnmatch.filter(recipes, name) if "*" in name else [name]
