"""The recipe that would make a release: read of its files' headers and, where the base is at hand, of a part of their
bytes. What cannot be told stands in comments."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quantmill.audit.file_audit import AuditOptions, audit_file
from quantmill.audit.header_facts import HeaderFacts, describe_files
from quantmill.audit.metadata_audit import imatrix_notes
from quantmill.audit.mixes import IMATRIX_FILE, tags_of
from quantmill.audit.origin import Making, count, making
from quantmill.audit.release_files import AuditedRelease, each_remote, find_release, models_in
from quantmill.audit.remote_source import is_remote
from quantmill.audit.row_sample import RowSample
from quantmill.audit.verdict import FileVerdict, Word
from quantmill.checkpoint.about import about_gguf
from quantmill.disk import sha256_file
from quantmill.errors import QuantmillError, UsageError, listed, nearest
from quantmill.gguf import model_facts
from quantmill.gguf.kinds import check_kind
from quantmill.gguf.reader import GGUFFile, read
from quantmill.gguf.shard_set import shards_of
from quantmill.gguf.shards import parse_name
from quantmill.gguf.source import Source
from quantmill.gguf.values import KV
from quantmill.imatrix import read as read_imatrix
from quantmill.listing import LISTING, read_strangers
from quantmill.quant.file_plan import MIX_KEY
from quantmill.quant.guide import Guide
from quantmill.quant.mix import UNQUANTIZED, Overrides
from quantmill.recipe.new_recipe import Outline, base_of, beside
from quantmill.recipe.recipe import NAME
from quantmill.recipe.split_size import split_size
from quantmill.reference.base_type import base_type
from quantmill.reference.reference import Reference
from quantmill.reference.spans import newest, newest_tag

READ = 1 << 24  # weights of each file that are held against the base, at least
LEAST = 0.02  # of a file's rows
ENDING = re.compile(r"(?i)[-._](?:UD-)?(?:I?Q\d\w*|T?Q\d_\d|BF16|F16|F32|MXFP4\w*)$")
UNLIKE: tuple[Word, ...] = ("changed", "cannot tell", "within rounding")


@dataclass(frozen=True)
class ReleaseModel:
    """A model of the release: `stem` is its file's name without an ending, `type` that of an unquantized one or its
    ftype's, `made` None where no llama-quantize makes such a file."""

    place: str
    stem: str
    type: str
    facts: HeaderFacts
    repo: str
    made: Making | None = None
    verdict: FileVerdict | None = None

    @property
    def values(self) -> dict[str, Any]:
        return model_facts(self.facts.metadata)

    @property
    def label(self) -> str:
        """The ftype that a recipe's matrix has for it."""
        return self.made.ftype if self.made else self.type


def derive(
    release: str,
    base: str | None,
    imatrix: Path | None,
    tag: tuple[str, Reference] | None,
    threads: int,
    progress: Callable[[int, int], None],
    wanted: str | None = None,
) -> "Derived":
    """Look at a file, a folder's files or a repository's; of several models at the one that is `wanted`. UsageError
    where there is nothing to go by."""
    place = find_release(release) if is_remote(release) and not Path(release).exists() else None
    remote = [_described(each.listed[0][0], each.files, each.sizes) for each in each_remote(place)] if place else []
    models = one_of(release, remote or [_look(path) for path in _paths(release)], wanted)
    own = _own_base(models) if base is None else None
    source, types = Path(own.place if own else base or ""), None
    if source.is_file():
        with read(source) as file:
            types = {entry.name: entry.type for entry in file.tensor_entries()}
    imatrix = imatrix or _found_imatrix(release, models)
    found = []
    for model in models:
        verdict = None
        if source.is_file() and model is not own and Path(model.place).is_file():
            share = min(1.0, max(LEAST, READ / max(model.facts.weights, 1)))
            verdict = audit_file(model.place, source, AuditOptions(imatrix, None, RowSample(share, 0), threads))
        made = None if model is own else making(model.values, model.facts.tensors, types)
        found.append(replace(model, made=made, verdict=verdict))
        progress(len(found), len(models))
    at = own.place if own and source.is_file() else base
    return Derived(release, found, at, imatrix, tag, place)


def _paths(release: str) -> list[Path]:
    path = Path(release)
    if path.is_dir():
        return models_in(path)
    if path.is_file():
        return [shards_of(path)[0]]
    raise UsageError(f"{release}: there is no such file or folder; give a release's file or folder")


def _look(path: Path) -> ReleaseModel:
    with Source(path) as source:
        return _described(str(path), source.files, None)


def _described(place: str, files: Sequence[GGUFFile], sizes: Sequence[int] | None) -> ReleaseModel:
    check_kind(files[0].place, model_facts(files[0].metadata.values()))
    facts = describe_files(files, sizes)
    repo = about_gguf(files[0]).get("repo", "")
    values = model_facts(facts.metadata)
    name = facts.files[0][0].rpartition("/")[2]
    shard = parse_name(name)
    type_ = base_type(facts.tensors, values.get("general.file_type"))
    return ReleaseModel(place, shard[0] if shard else name.removesuffix(".gguf"), type_, facts, repo)


def one_of(release: str, models: Sequence[ReleaseModel], wanted: str | None) -> list[ReleaseModel]:
    """Of files of several models those of the one that is `wanted`. Files are of one model where their tensors' shapes
    agree, and what they are called inside or outside. UsageError where it is not told which."""
    groups: list[list[ReleaseModel]] = []
    for model in models:
        alike = [group for group in groups if any(_alike(model, other) for other in group)]
        groups = [group for group in groups if group not in alike] + [[*(each for g in alike for each in g), model]]
    groups.sort(key=lambda group: models.index(group[0]))
    stems = [Counter(_prefix(model.stem) for model in group).most_common(1)[0][0] for group in groups]
    names = [stem if stems.count(stem) == 1 else group[0].stem for stem, group in zip(stems, groups, strict=True)]
    if wanted is None and len(groups) == 1:
        return groups[0]
    if wanted in names:
        return groups[names.index(wanted)]
    if wanted is None:
        raise UsageError(f"{release}: it holds {len(groups)} models; choose one by --model: {', '.join(names)}")
    raise UsageError(f"{release}: it holds no model {wanted!r}{nearest(wanted, names)}; it has {', '.join(names)}")


def _alike(one: ReleaseModel, other: ReleaseModel) -> bool:
    shapes = [sorted((entry.name, entry.shape) for entry in model.facts.tensors) for model in (one, other)]
    if shapes[0] != shapes[1]:
        return False
    called = [model.values.get("general.name") for model in (one, other)]
    return called[0] == called[1] or _prefix(one.stem).lower() == _prefix(other.stem).lower()


def _own_base(models: Sequence[ReleaseModel]) -> ReleaseModel | None:
    """The model that the others were made of, if it is one of them."""
    by_type = {model.type: model for model in reversed(models)}
    return next((by_type[name] for name in ("F32", "BF16", "F16") if name in by_type), None)


def _found_imatrix(release: str, models: Sequence[ReleaseModel]) -> Path | None:
    """The importance matrix that lies in the release's folder, of several the one that the files name."""
    folder = Path(release) if Path(release).is_dir() else Path(release).parent
    named = {Path(str(model.values[IMATRIX_FILE])).name for model in models if IMATRIX_FILE in model.values}
    if not named or not Path(release).exists():
        return None
    paths = [path for path in sorted(folder.iterdir()) if "imatrix" in path.name.lower() and path.is_file()]
    for path in sorted(paths, key=lambda path: path.name not in named):
        try:
            read_imatrix(path)
        except (QuantmillError, OSError):
            continue
        return path
    return None


@dataclass(frozen=True)
class Derived:
    """What was found of a release; `base` is None where neither the call nor the release has it."""

    release: str
    models: Sequence[ReleaseModel]
    base: str | None
    imatrix: Path | None
    tag: tuple[str, Reference] | None
    elsewhere: AuditedRelease | None = None

    def outline(self, name: str, folder: Path) -> Outline:
        """The recipe `name` in `folder`."""
        chosen, comments = self._chosen()
        tag, span = self.tag or _tag(chosen, comments)
        outline = Outline(name, tag, self._base(folder, comments))
        outline.comments[""] = comments
        outline.matrix = [model.label for model in chosen]
        outline.overrides = _overrides(chosen, span, comments)
        stems = Counter(_prefix(model.stem) for model in chosen)
        prefix = stems.most_common(1)[0][0]
        if re.fullmatch(NAME, prefix):
            outline.prefix = prefix
        for model in chosen:
            expected = f"{outline.prefix or name}-{model.label}"
            alike = model.stem.lower() == expected.lower() if model.type in UNQUANTIZED else model.stem == expected
            if not alike:
                outline.say("quants", f"{model.stem}.gguf is called {expected}.gguf here.")
            if MIX_KEY in model.values:
                outline.say("quants", f"{model.stem}.gguf: its types were searched, as a [[quants.target]] does.")
        split = split_size([(model.facts.tensors, model.facts.shards) for model in chosen])
        outline.max_size = split if split is not None else "0"
        if split is None:
            outline.say("split", "The release's shards are not cut by size alone, so files are not cut here.")
        self._guide(outline, chosen, folder)
        return outline

    def _chosen(self) -> tuple[list[ReleaseModel], list[str]]:
        """The models that a recipe can have, each ftype once, and what is to be said of others."""
        comments = [f"Read of the files of {self.release}: what cannot be told stands in comments."]
        if own := _own_recipe(self.release):
            comments.append(f"The release holds the recipe that made it, {own}, which quantmill reproduce builds.")
        chosen: dict[str, ReleaseModel] = {}
        for model in self.models:
            if model.made is None and model.type not in UNQUANTIZED:
                comments.append(f"{model.stem}: left out, no llama-quantize gives its tensors their types.")
                continue
            known = chosen.get(model.label)
            if known is None:
                chosen[model.label] = model
                continue
            kept, other = (model, known) if _options(model) < _options(known) else (known, model)
            chosen[model.label] = kept
            comments.append(
                f"{other.stem}: left out, its mix is {model.label} too, which a recipe has once; another one makes it: "
                f"quantmill init NAME --from {other.place}"
            )
        if not chosen:
            raise UsageError(f"{self.release}: no llama-quantize gives its tensors their types, so no recipe makes it")
        return list(chosen.values()), [*comments, *self._differences()]

    def _differences(self) -> list[str]:
        """What the base's bytes and metadata show that no recipe gives."""
        if self.base is None or not any(model.verdict for model in self.models):
            return ["The base's bytes were not compared: those of files and a GGUF base that are here tell the tag."]
        said = []
        for model in self.models:
            if model.verdict is None:
                continue
            counts = model.verdict.counts
            odd = [f"{counts[word]} {word}" for word in UNLIKE if counts.get(word)]
            odd += [f"{key.key}: {key.why}" for key in model.verdict.keys]
            odd += [note for note in model.verdict.notes if note.startswith("general.") or "file_type" in note]
            if odd:
                said.append(f"{model.stem}: not all is what this base gives ({listed(odd)}); quantmill audit shows it.")
        return said

    def _base(self, folder: Path, comments: list[str]) -> dict[str, Any]:
        name = next((value for model in self.models if (value := model.values.get("general.name"))), None)
        named = {"name": name} if isinstance(name, str) and name.isprintable() and name.strip() else {}
        if self.base is not None:
            found = base_of(self.base, folder)
            return found if "gguf" in found else found | named
        repo, who = next((model.repo for model in self.models if model.repo), ""), "the files say of themselves"
        if self.elsewhere and not repo:
            with suppress(UsageError):
                repo, by = self.elsewhere.named_base()
                who = f"{by} says"
        if not repo:
            own = f" ({own} in it is the recipe that made it)" if (own := _own_recipe(self.release)) else ""
            raise UsageError(
                f"{self.release}: no file of it is unquantized, and none says what it was made of; give --base{own}"
            )
        comments.append(f"That the base is {repo} is what {who}.")
        return {"repo": repo, **named}

    def _guide(self, outline: Outline, chosen: Sequence[ReleaseModel], folder: Path) -> None:
        """The importance matrix."""
        quantized = [model for model in chosen if model.type not in UNQUANTIZED]
        names = Counter(str(model.values[IMATRIX_FILE]) for model in quantized if IMATRIX_FILE in model.values)
        needed = [model.stem for model in quantized if model.made and model.made.imatrix]
        if not names and not needed:
            if self.imatrix:
                raise UsageError(f"{self.imatrix}: no file of {self.release} names an imatrix; leave --imatrix out")
            return
        without = [model.stem for model in quantized if IMATRIX_FILE not in model.values]
        said = names.most_common(1)[0][0] if names else ""
        if without and names:
            outline.say("imatrix", f"Not named by {listed(without)}, which this recipe makes with it too.")
        if len(names) > 1:
            outline.say("imatrix", f"Other files call it {listed([name for name in names if name != said])}.")
        if self.imatrix is not None:
            outline.imatrix = {"file": beside(self.imatrix, folder), "sha256": sha256_file(self.imatrix)}
            outline.imatrix = {**outline.imatrix, "name": said or self.imatrix.name}
            for note in _notes(quantized, Guide.read(self.imatrix, False)):
                outline.say("imatrix", note)
            return
        dataset = next((str(v) for m in quantized if (v := m.values.get("quantize.imatrix.dataset"))), "")
        called = f"{said or 'not named'}{f', of {dataset}' if dataset else ''}"
        there = self.elsewhere.imatrix_names() if self.elsewhere else []
        if there:
            called = f"{called}; in the repository lies {listed(there)}"
        outline.calibration = {"text": "calibration.txt"}
        outline.imatrix = {"name": said} if said else None
        outline.say(
            "calibration",
            f"The release's imatrix ({called}) is not at hand. One of this text gives other bytes, within rounding; "
            "with the file, [imatrix] file and sha256 stand here instead.",
        )


def _notes(models: Iterable[ReleaseModel], guide: Guide) -> list[str]:
    found = (
        imatrix_notes({entry.key: entry for entry in model.facts.metadata}, guide)
        for model in models
        if IMATRIX_FILE in model.values
    )
    return list(dict.fromkeys(note for notes in found for note in notes))


def _options(model: ReleaseModel) -> int:
    return model.made.options if model.made else 0


def _prefix(stem: str) -> str:
    return ENDING.sub("", stem)


def _tag(models: Sequence[ReleaseModel], comments: list[str]) -> tuple[str, Reference]:
    """The newest tag of the spans that make the most files, with the fewest options, and its span."""
    makings = [model.made for model in models if model.made]
    spans = list(dict.fromkeys(span for made in makings for span in made.by_span))
    if not spans:
        return newest_tag(), newest()

    def lacks(span: Reference) -> tuple[int, int, int, int]:
        strange = sum(bool(m.verdict and m.verdict.spans) and span not in m.verdict.spans for m in models if m.verdict)
        missing = sum(span not in made.by_span for made in makings)
        unlike = sum(not _writes(span, m.facts.metadata) for m in models)
        return missing, strange, unlike, sum(count(made.by_span[span]) for made in makings if span in made.by_span)

    best = min(map(lacks, spans))
    alike = [span for span in spans if lacks(span) == best]
    chosen = max(alike, key=lambda span: span.first)
    compared = " and bytes" * any(model.verdict for model in models)
    comments.append(f"Its types{compared} are those of llama.cpp {tags_of(alike)}.")
    if any(best[:3]):
        comments.append("No one tag makes all of its files: this one makes the most of them.")
    return f"b{chosen.last}", chosen


def _writes(span: Reference, metadata: Iterable[KV]) -> bool:
    """Whether the entries that llama-quantize sets have the span's kinds."""
    kinds = {key: type_ for key, (type_, _) in (span.header.keys | span.header.imatrix_keys).items()}
    return all(kinds.get(entry.key, entry.type) == entry.type for entry in metadata)


def _overrides(models: Sequence[ReleaseModel], span: Reference, comments: list[str]) -> list[dict[str, Any]]:
    by_table: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for model in models:
        if model.made is None:
            continue
        given = model.made.by_span.get(span)
        if given is None:
            comments.append(f"{model.stem}: llama.cpp {span} does not give its tensors their types.")
        elif table := _table(given):
            by_table.setdefault(repr(table), (table, []))[1].append(model.label)
    return [{"ftypes": ftypes, **table} for table, ftypes in by_table.values()]


def _table(given: Overrides) -> dict[str, Any]:
    table: dict[str, Any] = {"pure": True} if given.pure else {}
    if given.output_tensor_type:
        table["output"] = given.output_tensor_type.name
    if given.token_embedding_type:
        table["token_embedding"] = given.token_embedding_type.name
    if given.tensor_types:
        table["tensors"] = {pattern: type_.name for pattern, type_ in given.tensor_types}
    return table


def _own_recipe(release: str) -> str:
    """The name of the recipe's file in the folder of a release of ours, or an empty text."""
    said = read_strangers(Path(release) / LISTING)
    name = said.get("recipe") if isinstance(said, dict) else None
    return f"{name}.toml" if isinstance(name, str) and re.fullmatch(NAME, name) else ""
