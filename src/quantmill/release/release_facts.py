"""A release as it lies in a folder or at the Hub, whoever made it: its files, and what is said of them beside them."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantmill import gguf
from quantmill.disk import sha256_file
from quantmill.errors import QuantmillError, UsageError, built
from quantmill.gguf.errors import GGUFUsageError
from quantmill.gguf.kinds import check_kind
from quantmill.gguf.values import model_facts
from quantmill.listing import IMATRIX_ENDING, LISTING, LISTING_LIMIT, parse_strangers
from quantmill.reference.ftypes import FTYPES
from quantmill.release.audit_statements import ENDING, LIMIT, SEALED
from quantmill.release.remote_offer import BENCH, audits_of, files_in, measured_entries
from quantmill.released import ReleasedFile, ReleaseFacts, bench, is_number
from quantmill.store.remote.signature import STATEMENT, check

if TYPE_CHECKING:
    from quantmill.store.remote.settings import PublicKey

MOST_FILES = 2000  # of weights in a release
_SETTINGS = ("llama_cpp", "llama_cpp_proof", "tag", "repo", "recipe", "imatrix", "requantized", "tools")
_RECIPE_LIMIT = 200_000  # bytes of a recipe that is read
First = Callable[[str, int], bytes]  # the first bytes of a file of the release


def facts_of(place: str, keys: "Sequence[PublicKey]" = ()) -> ReleaseFacts:
    """What there is to know of the release in a folder, or in a repository of the Hub, without its weights. UsageError
    where there is none."""
    path = Path(place)
    if path.is_dir():
        return _of_folder(path, keys)
    if path.exists() or place.count("/") != 1:
        what = "this is no folder" if path.exists() else f"there is no such folder{built(place)}"
        raise UsageError(f"{place}: {what}; give the folder of a release, or a Hub repository like someone/model-GGUF")
    return _of_hub(place, keys)


def _of_folder(folder: Path, keys: "Sequence[PublicKey]") -> ReleaseFacts:
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    sizes = {name: path.stat().st_size for name, path in paths.items()}

    def first(name: str, count: int) -> bytes:
        with paths[name].open("rb") as file:
            return file.read(count)

    entries = measured_entries(_parsed(first, sizes, LISTING))
    types: dict[str, Mapping[str, tuple[str, float]]] = {}
    files, names = [], []
    for file, parts in _models(str(folder), sizes, entries):
        if found := _tensors([paths[part] for part in parts]):
            types[file.name], bits = found
            files.append(replace(file, bits=bits))
            names += parts
    digests = {name: str(entries[name]["sha256"]) for name in names if "sha256" in entries.get(name, {})}
    if any(name.endswith((ENDING, SEALED)) for name in paths):
        digests |= {name: sha256_file(paths[name]) for name in names if name not in digests}
    notes = [
        f"{name}: it has {sizes[name]} bytes, and {entry.get('size')} by {LISTING}; quantmill verify looks into it"
        for name, entry in entries.items()
        if name in sizes and entry.get("size") != sizes[name]
    ]
    notes += [f"{name}: it is missing, {LISTING} names it" for name in entries if name not in sizes]
    if STATEMENT in paths:
        try:
            notes.insert(0, check(folder, keys))
        except QuantmillError as error:
            notes.insert(0, str(error))
    small = {name: {"sha256": sha256_file(paths[name])} for name in _beside(sizes) if sizes[name] <= LISTING_LIMIT}
    return _facts(str(folder), files, sizes, entries | small, first, digests, keys, types, notes)


def _of_hub(repo: str, keys: "Sequence[PublicKey]") -> ReleaseFacts:
    from quantmill.network.hub import fetch_head, list_files

    commit, listed = list_files(repo, "main", recursive=True)
    sizes = {name: file.size for name, file in listed.items()}

    def first(name: str, count: int) -> bytes:
        return fetch_head(repo, name, commit, min(count, sizes[name]))

    entries = measured_entries(_parsed(first, sizes, LISTING))
    digests = {name: file.sha256 for name, file in listed.items() if file.sha256}
    found = {name: {**entries.get(name, {}), "sha256": digest} for name, digest in digests.items()}
    files = [file for file, _ in _models(repo, sizes, {**entries, **found})]
    weights = {name: digest for name, digest in digests.items() if name.endswith(".gguf")}
    return _facts(repo, files, sizes, entries, first, weights, keys, {}, [f"{repo} at {commit}"])


def _models(place: str, sizes: Mapping[str, int], entries: Mapping[str, Any]) -> list[tuple[ReleasedFile, list[str]]]:
    weights = {n: size for n, size in sizes.items() if n.endswith(".gguf") and not n.endswith(IMATRIX_ENDING)}
    found = files_in(weights, entries, any_name=True)
    if not 0 < len(found) <= MOST_FILES:
        many = f"{len(found)} GGUF files are more than any release has" if found else "there are no GGUF files in it"
        raise UsageError(f"{place}: {many}; give the folder of a release, or a Hub repository")
    return [(replace(file, bits=_bits(entries.get(parts[0]))), parts) for file, parts in found]


def _facts(
    place: str,
    files: Sequence[ReleasedFile],
    sizes: Mapping[str, int],
    entries: Mapping[str, Any],
    first: First,
    digests: Mapping[str, str],
    keys: "Sequence[PublicKey]",
    types: Mapping[str, Mapping[str, tuple[str, float]]],
    notes: Sequence[str],
) -> ReleaseFacts:
    if not files:
        raise UsageError(f"{place}: there are no GGUF files of a model in it; give the folder of a release")
    listing = _parsed(first, sizes, LISTING)
    said = listing if isinstance(listing, dict) else {}
    recipe = f"{said.get('recipe')}.toml"
    text = first(recipe, _RECIPE_LIMIT).decode(errors="replace") if recipe in sizes else ""
    audits = list(audits_of(sizes, lambda name: first(name, LIMIT + 1), digests, keys))
    beside = {name: str(entries.get(name, {}).get("sha256", "")) for name in _beside(sizes)}
    return ReleaseFacts(
        place,
        tuple(sorted(files, key=lambda file: (-file.bytes, file.name))),
        {key: _plain(said[key]) for key in _SETTINGS if said.get(key) is not None},
        bench(_parsed(first, sizes, BENCH)),
        beside,
        tuple(notes),
        tuple(line for line, _ in audits),
        text,
        types,
        frozenset(file.ftype for file in files if file.ftype not in FTYPES),
        tuple(result for _, result in audits if result),
    )


def _beside(names: Iterable[str]) -> list[str]:
    """Those of the names that are of no weights."""
    return [name for name in names if not name.endswith(".gguf") or name.endswith(IMATRIX_ENDING)]


def _tensors(paths: Sequence[Path]) -> tuple[dict[str, tuple[str, float]], float] | None:
    """The types of a file's tensors, and its bits a weight; None for what calls itself something else than a model."""
    found: dict[str, tuple[str, float]] = {}
    weights = size = 0
    for path in paths:
        with gguf.read(path) as file:
            try:
                check_kind(str(path), model_facts(file.metadata.values()))
            except GGUFUsageError:
                return None
            for info in file.tensors.values():
                found[info.name] = (info.type.name, 8 * info.type.size / info.type.block)
                weights += math.prod(info.shape)
                size += info.nbytes
    return found, 8 * size / max(weights, 1)


def _parsed(first: First, sizes: Mapping[str, int], name: str) -> Any:
    """What a JSON file of the release says; None where it is none, or longer than a listing."""
    return parse_strangers(first(name, LISTING_LIMIT)) if sizes.get(name, LISTING_LIMIT + 1) <= LISTING_LIMIT else None


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _bits(entry: Any) -> float:
    quality = entry.get("quality") if isinstance(entry, Mapping) else None
    bits = quality.get("bits") if isinstance(quality, Mapping) else None
    return float(bits) if is_number(bits) and 0 < bits < 1000 else 0.0
