"""A recipe's texts, for calibration, evaluation and search: what they resolve to in the lock, and where they are."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from quantmill.artifact import Artifact
from quantmill.errors import UsageError, heed_machine
from quantmill.recipe.calibration_table import TextSource
from quantmill.recipe.recipe import Recipe

EXTRA = 100_000  # characters of a text for the page


class FileFact(NamedTuple):
    """One file's content: sha256 (64 hex digits) and size in bytes."""

    sha256: str
    size: int


def text_missing(recipe: Recipe, text: TextSource, problem: str) -> UsageError:
    """A text that the recipe names is not there, or not the one that it means."""
    kind = "evaluation" if recipe.evaluation and text is recipe.evaluation.text else "calibration"
    kind = "search" if recipe.search and text is recipe.search.text else kind
    return UsageError(f"{recipe.path}: {kind}: {text.name}: {problem}")


def calibration(recipe: Recipe) -> dict[str, TextSource]:
    """The recipe's calibration texts by the names that their files have in a build."""
    found = recipe.calibration.texts if recipe.calibration else ()
    return {f"text-{number}.txt": text for number, text in enumerate(found, 1)}


def evaluation(recipe: Recipe) -> dict[str, TextSource]:
    """The evaluation text, likewise; nothing where the recipe has none."""
    return {"evaluation.txt": recipe.evaluation.text} if recipe.evaluation else {}


def search(recipe: Recipe) -> dict[str, TextSource]:
    """The text that types are searched on, likewise; nothing where it is the calibration's."""
    return {"search.txt": recipe.search.text} if recipe.search and recipe.search.text else {}


def extra(recipe: Recipe) -> str:
    """The text of `card.extra`; UsageError when it is not there, or too long or no UTF-8."""
    path = recipe.card.extra
    if path is None:
        return ""
    try:
        with path.open(encoding="utf-8-sig") as file:
            found = file.read(EXTRA + 1)
    except FileNotFoundError:
        raise UsageError(
            f"{recipe.path}: card.extra: there is no file {path}; give the path of a Markdown text"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError):
            heed_machine(error)
        raise UsageError(f"{recipe.path}: card.extra: {path} cannot be read as UTF-8 ({error}); mend it") from None
    if len(found) > EXTRA:
        raise UsageError(f"{recipe.path}: card.extra: {path} has more than {EXTRA} characters; shorten it")
    return found


def extra_drift(recipe: Recipe, known: str) -> str | None:
    """Whether the text of `card.extra` differs from what the lock has of it, which does where the file is not there."""
    path = recipe.card.extra
    if path is None:
        return "card.extra is not in the recipe any more" if known else None
    if known and not path.exists():
        return None
    return None if extra(recipe) == known else "the text of card.extra changed"


# A recipe's texts by their kind, which is the key that they have in its lock.
KINDS = {"calibration": calibration, "evaluation": evaluation, "search": search}


def local(named: Mapping[str, TextSource], facts: Mapping[str, FileFact]) -> dict[str, Artifact]:
    """Those texts that are in the recipe's own folder, by their names in a build, with what the lock says of them."""
    return {
        name: Artifact(text.path, facts[text.name].sha256, facts[text.name].size)
        for name, text in named.items()
        if text.path is not None and text.name in facts
    }


def drift(recipe: Recipe, facts: Mapping[str, Mapping[str, FileFact]], digest: Callable[[Path], str]) -> str | None:
    """What of the texts differs from `facts`, what the lock says of them by their kind, or None. `digest(path)` is the
    sha256 of a local file."""
    for kind, named in KINDS.items():
        known = {text.name: text for text in named(recipe).values()}
        if problem := _drift(recipe, kind, known, facts[kind], digest):
            return problem
    return None


def _drift(
    recipe: Recipe,
    kind: str,
    known: Mapping[str, TextSource],
    facts: Mapping[str, FileFact],
    digest: Callable[[Path], str],
) -> str | None:
    if gone := sorted(set(facts) - set(known)):
        return f"the {kind} text {gone[0]} is not in the recipe any more"
    for name, text in known.items():
        fact = facts.get(name)
        if fact is None:
            return f"the {kind} text {name} is new"
        if text.sha256 not in (None, fact.sha256):
            return f"the recipe gives the {kind} text {name} another sha256"
        if text.path is not None and (_size(recipe, text) != fact.size or digest(text.path) != fact.sha256):
            return f"the {kind} text {name} changed"
    return None


def resolve(recipe: Recipe, named: Mapping[str, TextSource], digest: Callable[[Path], str]) -> dict[str, FileFact]:
    """Look at the texts: hash local files, fetch others. UsageError when one is not there, or has another sha256 than
    the recipe says; a WebError when an address does not answer."""
    return {text.name: _resolve(recipe, text, digest) for text in named.values()}


def _resolve(recipe: Recipe, text: TextSource, digest: Callable[[Path], str]) -> FileFact:
    if text.path is not None:
        size = _size(recipe, text)  # first: it says that the text is not there
        fact = FileFact(digest(text.path), size)
    else:
        from quantmill.disk import sha256_file
        from quantmill.network.web import fetch

        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / "text"
            fetch(text.url or "", part)
            fact = FileFact(sha256_file(part), part.stat().st_size)
    if text.sha256 not in (None, fact.sha256):
        difference = f"it has sha256 {fact.sha256}, the recipe says {text.sha256}"
        raise text_missing(recipe, text, f"{difference}; restore the text or write its own sha256")
    return fact


def _size(recipe: Recipe, text: TextSource) -> int:
    if text.path is None or not text.path.is_file():
        raise text_missing(recipe, text, f"there is no file {text.path}; give the path of a text in UTF-8")
    return text.path.stat().st_size
