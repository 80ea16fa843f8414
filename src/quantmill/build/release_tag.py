"""What a release says of its own making: its tag, the recipe and lock it was made by, and its materials.

All of it is known before the build, and equal on every machine for equal inputs: no date, no path, no host.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from quantmill import __version__
from quantmill.recipe import locked_tools, toml_text
from quantmill.store.key import canonical
from quantmill.recipe.lock import Lock
from quantmill.recipe.recipe import Recipe
from quantmill.steps import versions

HEX = 12  # digits of a tag
HUB = "https://huggingface.co"


def tag(recipe: Recipe, lock: Lock, text: str = "") -> str:
    """The release's tag, `<llama.cpp tag>-<12 hex>`: sha256 of the canonical JSON of what decides its bytes.

    That is the recipe's name and what it says (not its comments, spaces or the order of its keys), the lock, the
    generation, the steps' versions and quantmill's own, which the provenance names. `text` is the lock's, if known.
    """
    said = {
        "name": recipe.name,
        "recipe": dict(recipe.data),
        "lock": text or lock.text(),
        "generation": recipe.generation,
        "steps": versions(bool(recipe.targets)),
        "quantmill": __version__,
    }
    return f"{recipe.llama_cpp}-{hashlib.sha256(canonical(said).encode()).hexdigest()[:HEX]}"


def params(recipe: Recipe, lock: Lock, downloads: Iterable[tuple[str, Mapping[str, Any], Mapping[str, Any]]]) -> Any:
    """The release step's share: `tag`, `repo`, `texts` (name → text: recipe and lock), `materials` (in-toto's resource
    descriptors), `made_by`, and `proof` where there is one. `downloads` are (kind, name → {sha256, ...}, where) of what is brought in."""
    text = lock.text()
    return {
        "tag": tag(recipe, lock, text),
        "repo": recipe.repo,
        "texts": {f"{recipe.name}.toml": toml_text.text(recipe.data), f"{recipe.name}.lock": text},
        "materials": [
            *(entry for download in downloads for entry in _materials(*download)),
            *locked_tools.materials(lock.tools),
        ],
        "made_by": {"quantmill": __version__, "generation": recipe.generation, "steps": versions(bool(recipe.targets))},
        **({"proof": recipe.proof} if recipe.proof else {}),
    }


def _materials(kind: str, files: Mapping[str, Any], where: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for name, fact in sorted(files.items()):
        entry: dict[str, Any] = {"name": f"{kind}/{name}", "digest": {"sha256": fact["sha256"]}}
        if "repo" in where and "commit" in where:
            entry["uri"] = f"{HUB}/{where['repo']}/resolve/{where['commit']}/{name}"
        elif name in where.get("urls", {}):
            entry["uri"] = where["urls"][name]
        yield entry
