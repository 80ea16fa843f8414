"""What the metadata of a GGUF base say, in the place of config.json and README.md."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.choose.shape import from_metadata
from quantmill.recipe.recipe import Recipe
from quantmill.reference.known_models import knows


def about(recipe: Recipe, files: Mapping[str, Path], notes: list[str]) -> tuple[dict[str, Any], dict[str, int]]:
    """What the page is made of, and what decides memory: the lock's `about` and `shape`. The vocabulary is looked at
    too, for `notes`: GGUFError when it does not load."""
    from quantmill.checkpoint.about import about_gguf
    from quantmill.gguf import read
    from quantmill.gguf.verification import check_tokens

    with read(files["model.gguf"], str(recipe.base.gguf)) as file:
        notes += check_tokens([file], recipe.reference.known_tokenizers)
        name = file.metadata["general.architecture"].value if "general.architecture" in file.metadata else ""
        unknown = {} if knows(recipe.llama_cpp, str(name)) else {"unknown_architecture": str(name)}
        embedding = file.tensors["token_embd.weight"].shape if "token_embd.weight" in file.tensors else (0,)
        values = {key: entry.value for key, entry in file.metadata.items() if not key.startswith("tokenizer.")}
        found = from_metadata(values | {"vocabulary": embedding[-1]})
        tied = "output.weight" not in file.tensors
        return about_gguf(file) | unknown, ({**vars(found), "tied": int(tied)} if found else {})
