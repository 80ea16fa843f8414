"""The files that a recipe's base is made of, and what its configuration and metadata say."""

import fnmatch
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantmill.architectures.errors import DamagedModel, ModelError, UnsuitableModel
from quantmill.architectures.json_file import TEMPLATES, model_files, read_file
from quantmill.checkpoint.file_names import INDEX, SINGLE, check_names
from quantmill.errors import UsageError, listed
from quantmill.listing import UnfitJSON, strangers_json
from quantmill.recipe.convert_table import OWN
from quantmill.recipe.recipe import Recipe

if TYPE_CHECKING:
    from quantmill.architectures.checkpoint_tensors import TensorSpec
    from quantmill.gguf import KV

# What of a model folder or repository a conversion reads. Weights under other names than transformers' own are a second
# copy of them, or adapters.
WANTED = ("*.json", "model*.safetensors", "*.model", "*.jinja", "merges.txt", "README.md")
# That llama.cpp's converter reads too. It takes weights by any name that the index gives, and Mistral's own layout.
MORE = ("vocab.txt", "*.tiktoken", "rwkv_vocab*.txt", "tokenizer.jsonl", "*.model.v[0-9]*")
MISTRAL = "consolidated*.safetensors"
BY_LLAMA_CPP = 'those that llama.cpp knows can by its own converter: [convert] with = "llama.cpp"'
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def local_files(recipe: Recipe) -> dict[str, Path] | None:
    """The files of a local base by name, None for a Hub repository; UsageError when they are not there."""
    base = recipe.base
    if base.gguf is not None:
        if not base.gguf.is_file():
            raise UsageError(f"{recipe.path}: base.gguf: there is no file {base.gguf}; give the path of a GGUF file")
        return {"model.gguf": base.gguf}
    if base.path is None:
        return None
    if not base.path.is_dir():
        raise UsageError(f"{recipe.path}: base.path: there is no folder {base.path}; give a model's folder")
    names = list(model_files(base.path))
    indexed = None if recipe.convert_with == OWN else frozenset[str]()
    if asks_index(recipe, names):
        indexed = index_names(base.path / INDEX)
    return {name: base.path / name for name in wanted(str(base.path), names, base.readme, more(recipe), indexed)}


def more(recipe: Recipe) -> tuple[str, ...]:
    """Further files of the model that the recipe's converter may read."""
    return () if recipe.convert_with == OWN and not recipe.projectors else MORE


def asks_index(recipe: Recipe, names: Collection[str]) -> bool:
    """Whether it is the index of a model with these files that says which are its weights."""
    return recipe.convert_with != OWN and INDEX in names and SINGLE not in names


def index_names(path: Path) -> frozenset[str]:
    """The files that an index names. WeightsError for what is no index."""
    from quantmill.checkpoint.safetensors import read_index

    return frozenset(read_index(path).values())


def foreign(names: Collection[str]) -> str:
    """Why our own converter does not read the weights of a model with these files, by their names; empty where it
    does."""
    weights = [name for name in names if name.endswith(".safetensors")]
    if any(name.startswith("model") for name in weights):
        return ""
    return f"the weights are named {listed(sorted(weights))}, and not model*.safetensors"


def wanted(
    where: str,
    names: list[str],
    readme: bool = True,
    more: tuple[str, ...] = (),
    indexed: Collection[str] | None = None,
) -> list[str]:
    """Those of a model's files that a conversion reads; UsageError when the weights are pickled, not there, or no whole
    model's. `readme`: its page is one of them; so are files of the patterns `more`, which llama.cpp's converter reads.
    Where that converts the text model, weights may have other names; `indexed` are those of the model's index."""
    found = sorted(name for name in names if matches(name, (*WANTED, *more)) and not name.startswith("."))
    found = [name for name in found if readme or name != "README.md"]
    if indexed is not None and (others := _other_weights(where, names, indexed)):
        found = sorted({*(name for name in found if not name.endswith(".safetensors")), *others})
        if odd := [name for name in found if not is_plain(name)]:
            raise UsageError(f"{where}: {odd[0]!r} cannot be the name of a base file; rename it there")
        return found
    if odd := [name for name in found if not is_plain(name)]:
        raise UsageError(f"{where}: {odd[0]!r} cannot be the name of a base file; rename it there")
    if not any(name.endswith(".safetensors") for name in found):
        if pickled := sorted(name for name in names if matches(name, PICKLED)):
            raise UsageError(
                f"{where}: its weights are pickled ({pickled[0]}), which can run code when read; "
                "give a model whose weights are safetensors"
            )
        check_names(where, names)
        raise UsageError(f"{where}: there are no model*.safetensors files; give a model in Hugging Face layout")
    check_names(where, names)
    if "config.json" not in found:
        raise UsageError(f"{where}: there is no config.json; give a model in Hugging Face layout")
    return found


def _other_weights(where: str, names: Collection[str], indexed: Collection[str]) -> list[str]:
    """The weights of a model in which they have other names than transformers'; nothing for one like that."""
    if indexed and not any(name.startswith("model") for name in indexed):
        if missing := sorted(name for name in indexed if name not in names or not name.endswith(".safetensors")):
            raise UsageError(
                f"{where}: {INDEX} names {missing[0]!r}, and there is no such safetensors file; fetch it, or the right "
                "index"
            )
        return sorted(indexed)
    own = any(matches(name, ("model*.safetensors",)) for name in names) or INDEX in names
    return [name for name in names if matches(name, (MISTRAL,))] if not own and "params.json" in names else []


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a file's name is of one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def is_plain(name: str) -> bool:
    """Whether a name from elsewhere is that of a file in a folder, on any system, and can be printed."""
    name = name.removeprefix(f"{TEMPLATES}/")
    return name.isprintable() and not name.startswith(".") and 0 < len(name) <= 200 and not set(name) & set("/\\:")


def configuration(path: Path) -> dict[str, Any]:
    """A model's config.json; DamagedModel for what is none."""
    try:
        data = strangers_json(read_file(path, path.name, DamagedModel))
        json.dumps(data, ensure_ascii=False).encode()  # half of a surrogate pair cannot be written to the lock
    except UnfitJSON as error:
        raise DamagedModel(f"{path}: it {error}; fetch it again") from None
    except (ValueError, OSError) as error:
        raise DamagedModel(f"{path}: not valid JSON in UTF-8: {error}") from None
    if not isinstance(data, dict):
        raise DamagedModel(f"{path}: a model's configuration is a JSON object, found {type(data).__name__}")
    return data


def base_metadata(
    recipe: Recipe,
    files: Mapping[str, Path],
    specs: "list[TensorSpec] | None" = None,
    notes: list[str] | None = None,
) -> "list[KV]":
    """The converted base's metadata, exactly; `files` are the model's by name and need hold no weights. `specs` are its
    tensors, where more is known of them than config.json says; `notes` is given a sentence for whatever is left out."""
    from quantmill.checkpoint.metadata import metadata

    base = recipe.base
    return metadata(
        files,
        type=base.type,
        name=base.model_name,
        pre_tokenizer=base.pre_tokenizer,
        specs=specs,
        reference=recipe.reference,
        notes=notes,
    )


def converted(
    recipe: Recipe,
    where: str,
    config: Mapping[str, Any],
    at_hand: Mapping[str, Path],
    sources: list[str] | None,
    notes: list[str],
) -> tuple[bool, int]:
    """Of the base `where` as our own converter makes it: whether a tied checkpoint has an output matrix, and the
    metadata's bytes. What is left out of the vocabulary goes to `notes`. QuantmillError for a model that it refuses."""
    from quantmill.architectures.checkpoint_tensors import tensors
    from quantmill.architectures.description import describe
    from quantmill.checkpoint import contents

    try:
        specs = tensors(config)  # what config.json says is wrong comes before what that does to the tensors
    except UnsuitableModel as error:
        if recipe.convert_with != OWN:
            raise
        raise UnsuitableModel(f"{error}; {BY_LLAMA_CPP}") from None
    output = False
    if recipe.base.path is not None:
        contents.check_headers(at_hand)
    if sources is not None:
        contents.check_sources(where, sources, config)
        specs = tensors(config, sources)
        contents.check_shapes(at_hand, config, specs)
        output = len(specs) > len(tensors(config))
    describe(config, recipe.base.type, sources, reference=recipe.reference)
    return output, sum(len(kv.encode()) for kv in base_metadata(recipe, at_hand, specs, notes))


class OtherType(UsageError):
    """Weights on the Hub of which llama.cpp makes another type than the recipe took for granted: `type`."""

    def __init__(self, recipe: Recipe, type_: str) -> None:
        super().__init__(
            f"{recipe.path}: base.type: by config.json llama.cpp {recipe.llama_cpp} makes {type_} of these weights, "
            f'which the recipe of a Hub repository has to say; write type = "{type_}", or another'
        )
        self.type = type_


def check_type(recipe: Recipe, config: Mapping[str, Any]) -> None:
    """Raises OtherType."""
    from quantmill.checkpoint.auto_type import of_config

    if recipe.base.repo is None or not recipe.chooses_type:
        return
    chosen = of_config(recipe.reference, config)
    if chosen is not None and chosen != recipe.base.type:
        raise OtherType(recipe, chosen)


def requested_base(recipe: Recipe) -> dict[str, str]:
    base = recipe.base
    left_out = {} if base.readme else {"readme": "false"}
    if base.repo is not None:
        return {"repo": base.repo, "revision": base.revision, **left_out}
    if base.path is not None:
        return {"path": _beside(recipe, base.path), **left_out}
    return {"gguf": _beside(recipe, base.gguf) if base.gguf else ""}


def _beside(recipe: Recipe, path: Path) -> str:
    """The path relative to the recipe's folder, or absolute when the recipe gives one that leads elsewhere; the same
    from wherever the recipe is read."""
    for folder in (recipe.path.parent, recipe.path.parent.absolute()):
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return path.as_posix()


def base_words(base: Mapping[str, str]) -> str:
    return " ".join(f"{key} {value}" for key, value in base.items())


def open_tag(recipe: Recipe) -> str:
    """What the lock says of the tag: nothing where the recipe does."""
    return "" if recipe.names_tag else recipe.llama_cpp


def open_type(recipe: Recipe) -> str:
    """What the lock says of the base's type, which else had to be read of the weights each time."""
    return recipe.base.type if recipe.chooses_type and recipe.base.path is not None else ""


@contextmanager
def told_of_base(words: str) -> Iterator[None]:
    """Errors of a model, which name a file of it, begin with what the recipe calls the base."""
    from quantmill.checkpoint.safetensors import WeightsError

    try:
        yield
    except (ModelError, WeightsError) as error:
        error.args = (f"{words}: {error}",)
        raise
