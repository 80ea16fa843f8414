"""The files of a release that somebody made: a folder, or a repository of the Hub, by quantmill or by anyone else."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantmill import gguf
from quantmill.choose.choice import Candidate
from quantmill.choose.shape import Shape, from_metadata, of_size, of_tensors
from quantmill.errors import QuantmillError, UsageError, listed
from quantmill.gguf.head import leading_metadata
from quantmill.gguf.shards import describe, parse_name
from quantmill.listing import LISTING, LISTING_LIMIT, parse_strangers, read_strangers
from quantmill.reference.ftypes import FTYPES
from quantmill.release.audit_statements import LIMIT, FoundAudit, WrongStatement, read_beside
from quantmill.released import Bench, ReleasedFile, bench, quality

if TYPE_CHECKING:
    from quantmill.store.remote.settings import PublicKey

HEAD = 1 << 20  # bytes of a file's beginning; the architecture's entries come before the vocabulary
BENCH = "bench.json"


@dataclass(frozen=True)
class CandidateSet:
    """What a choice is made from. `audits`: what auditors say of the files, a line each, None where nobody looked for
    that; `projectors`: bytes by name, 0 where a projector is yet to be made."""

    candidates: tuple[Candidate, ...]
    shape: Shape
    bench: Bench | None
    audits: tuple[str, ...] | None = None
    projectors: Mapping[str, int] = field(default_factory=dict)


def no_files(place: str, problem: str) -> UsageError:
    """There are no files to choose from."""
    return UsageError(f"{place}: {problem}; give a recipe, a release's folder or a Hub repository with GGUF files")


def of_folder(folder: Path) -> CandidateSet:
    """The release in a folder. Headers are read, and release.json and bench.json where they are there."""
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*.gguf"))}
    measured = measured_entries(json_of(folder / LISTING))
    shape, candidates = None, []
    models: dict[tuple[str, Shape], str] = {}
    for released, parts in files_in(sizes, measured):
        metadata: dict[str, Any] = {}
        tensors = []
        for part in parts:
            with gguf.read(folder / part) as file:
                metadata = gguf.model_facts(file.metadata.values()) | metadata
                if (tokens := file.metadata.get("tokenizer.ggml.tokens")) is not None:
                    metadata["vocabulary"] = len(tokens)
                tensors += describe(file.tensors.values())
        shape = from_metadata(metadata) or shape
        if shape is not None:
            models.setdefault((str(metadata.get("general.name")), shape), released.name)
            candidates.append(Candidate(released, of_tensors(tensors, shape.layers)))
    if shape is None:
        raise no_files(str(folder), "there are no GGUF files of a model in it")
    if len(models) > 1:
        raise UsageError(
            f"{folder}: {listed(list(models.values()))} are of different models; name a folder that holds those of one"
        )
    return CandidateSet(tuple(candidates), shape, bench(json_of(folder / BENCH)), projectors=_projectors(sizes))


def of_hub(repo: str, keys: "Sequence[PublicKey]" = ()) -> CandidateSet:
    """The release in a Hub repository: its listing, the beginning of its smallest file, and statements of audits, which
    `keys` may have signed."""
    from quantmill.network.hub import fetch_head, list_files

    commit, listed = list_files(repo, "main", recursive=True)
    sizes = {name: file.size for name, file in listed.items() if name.endswith(".gguf")}

    def small(name: str) -> Any:
        if name not in listed or listed[name].size > LISTING_LIMIT:
            return None
        return parse_strangers(fetch_head(repo, name, commit, listed[name].size))

    files = files_in(sizes, measured_entries(small(LISTING)))
    if not files:
        raise no_files(repo, "there are no GGUF files of a known ftype in it")
    _, parts = min(files, key=lambda file: sizes[file[1][0]])
    shape = from_metadata(leading_metadata(fetch_head(repo, parts[0], commit, min(HEAD, sizes[parts[0]]))))
    if shape is None:
        raise QuantmillError(f"{repo}: {parts[0]} does not say how many layers and heads its model has")
    candidates = tuple(Candidate(released, of_size(released.bytes, shape)) for released, _ in files)
    digests = {name: file.sha256 for name, file in listed.items() if name in sizes and file.sha256}

    def first(name: str) -> bytes:
        return fetch_head(repo, name, commit, min(LIMIT + 1, listed[name].size))

    audits = tuple(line for line, _ in audits_of(listed, first, digests, keys))
    return CandidateSet(candidates, shape, bench(small(BENCH)), audits, _projectors(sizes))


def audits_of(
    names: Iterable[str], first: Callable[[str], bytes], digests: Mapping[str, str], keys: "Sequence[PublicKey]"
) -> Iterator[tuple[str, str]]:
    """What each statement says in a line, and its result; empty for one that says nothing of these files."""
    for audit in read_beside(names, first, keys):
        try:
            yield (audit.of(digests), audit.result) if isinstance(audit, FoundAudit) else (str(audit), "")
        except WrongStatement as wrong:
            yield str(wrong), ""


def _projectors(sizes: Mapping[str, int]) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if is_projector(name)}


def is_projector(name: str) -> bool:
    """Whether a file is a projector by its name, as everybody calls them."""
    return "mmproj" in name.rpartition("/")[2].lower()


def files_in(
    sizes: Mapping[str, int], measured: Mapping[str, Any], any_name: bool = False
) -> list[tuple[ReleasedFile, list[str]]]:
    """The released files with the names of their parts; shards are one file, incomplete ones are none. Files whose
    names do not end in an ftype (the importance matrix, a projector) are none, but for `any_name` and those whose
    search a listing tells of."""
    groups: dict[tuple[str, int], list[str]] = {}
    for name in sorted(name for name in sizes if not is_projector(name)):
        shard = parse_name(name)
        groups.setdefault((shard[0], shard[2]) if shard else (name.removesuffix(".gguf"), 1), []).append(name)
    found = []
    for (stem, count), parts in groups.items():
        mix = entry.get("mix") if (entry := measured.get(parts[0], {})) else None
        searched = isinstance(mix, Mapping) and isinstance(mix.get("kind"), str) and mix["kind"] in FTYPES
        named = ftype_of(stem) or (stem.rpartition("/")[2] if any_name else "")
        ftype = str(entry.get("ftype")) if searched else named
        if not ftype or len(parts) != count:
            continue
        folder = stem.rpartition("/")[0]
        name = f"{folder}/" if folder and count > 1 else parts[0]
        size = sum(sizes[part] for part in parts)
        digests = [str(entry["sha256"]) for part in parts if "sha256" in (entry := measured.get(part, {}))]
        digest = " ".join(digests) if len(digests) == count else ""
        kind = str(mix["kind"]) if mix and searched else ""
        file = ReleasedFile(name, ftype, size, count, quality(measured.get(parts[0])), digest=digest, kind=kind)
        found.append((file, parts))
    return found


def ftype_of(stem: str) -> str | None:
    """The ftype that a file's name ends in, as `…-Q4_K_M` or `….q4_k_m`; None when it ends in none."""
    match = re.search(r"[-._]([A-Za-z]+[A-Za-z0-9]*(?:_[A-Za-z0-9]+)*)$", stem)
    while match:
        if match[1].upper() in FTYPES and match[1].upper() != "COPY":
            return match[1].upper()
        match = re.search(r"[-._]([A-Za-z]+[A-Za-z0-9]*(?:_[A-Za-z0-9]+)*)$", "-" + match[1].partition("_")[2])
    return None


def measured_entries(listing: Any) -> dict[str, Any]:
    """The entries of a release.json by name."""
    entries = listing.get("files") if isinstance(listing, Mapping) else None
    found = [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    return {str(entry.get("name")): entry for entry in found}


def json_of(path: Path) -> Any:
    if not path.is_file() or path.stat().st_size > LISTING_LIMIT:
        return None
    return read_strangers(path)
