"""A file held against its base: what its tensors' bytes prove together, and what that says of each of them."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantmill.artifact import silent
from quantmill.audit.audit_base import open_base
from quantmill.audit.checkpoint_base import CheckpointBase
from quantmill.audit.fitting import fitting, largest, worst
from quantmill.audit.metadata_audit import audit_metadata, imatrix_notes
from quantmill.audit.mixes import IMATRIX_FILE, KnownMix, recognize, tags_of
from quantmill.audit.observed import Known, Observed
from quantmill.audit.remote_source import RemoteSource, is_remote
from quantmill.audit.retyped_base import RetypedBase
from quantmill.audit.row_sample import RowSample
from quantmill.audit.tensor_audit import Auditor
from quantmill.audit.tensors import Tensors
from quantmill.audit.verdict import FileVerdict, KeyVerdict, Spot, TensorVerdict, Word
from quantmill.audit.ways import kind
from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf import model_facts
from quantmill.gguf.errors import shown
from quantmill.gguf.layout import TensorEntry, ggml_shape
from quantmill.gguf.source import Source
from quantmill.gguf.values import KV
from quantmill.quant.file_plan import MIX_KEY
from quantmill.quant.guide import Guide
from quantmill.reference.reference import Reference
from quantmill.reference.spans import offered

# What a model may have at most: the largest have some 2,000 tensors, of 2 million rows or of a million columns.
MOST_TENSORS, MOST_ROWS, MOST_COLUMNS = 1 << 14, 1 << 26, 1 << 22
KNOWN = 0.9  # of the other tensors' blocks, from which on their bytes show which tool and imatrix made a file


@dataclass(frozen=True)
class AuditOptions:
    """What an audit is to be made with. `tag`: the reference that is to have written the file, None to find it.

    `known`: by the base's name and the type that it was brought to, what was found of tensors that other files may
    have too.
    """

    imatrix: Path | None = None
    tag: Reference | None = None
    sample: RowSample | None = None
    threads: int = 1
    known: dict[tuple[str, str], Known] = field(default_factory=dict, compare=False, repr=False)


def audit_file(
    release: str | Path, base: str | Path, asked: AuditOptions, progress: Callable[[int, int], None] = silent
) -> FileVerdict:
    """Hold a file, or the shards of which it is the first, against the base.

    Each is a path, or, of a sample, an address or a file of the Hub. Raises QuantmillError for files that cannot be
    read. `progress` gets bytes of the base done and in total.
    """
    with opened(release, asked.sample) as file, open_base(str(base), asked.sample is None) as found:
        return hold(file, found.source, asked, progress, str(base))


def hold(
    file: Source | RemoteSource,
    source: Tensors,
    asked: AuditOptions,
    progress: Callable[[int, int], None] = silent,
    base: str = "",
) -> FileVerdict:
    """The same of what is open; `base` names the base."""

    def auditing(tensors: Tensors) -> Auditor:
        through = tensors.ftype if isinstance(tensors, RetypedBase) else ""
        known = asked.known.setdefault((base, through), {})
        return Auditor(file, tensors, guide, asked.threads, asked.sample, known)

    for place, tensors in ((file.files[0].place, file.tensors()), ("the base", source.tensors())):
        _check_bounds(place, tensors)
    guide = Guide.read(asked.imatrix, False)
    facts = model_facts(file.metadata.values())
    entries = [entry._replace(shape=ggml_shape(entry.shape)) for entry in file.tensors()]
    mix = recognize(facts, entries)
    unknown = IMATRIX_FILE in facts and guide.imatrix is None
    likely = [asked.tag] if asked.tag else list(mix.spans if mix else offered())
    own = {entry.name: ggml_shape(entry.shape) for entry in source.tensors()}
    keys = []
    for name, shape, _ in entries:
        if name not in own:
            keys.append(KeyVerdict(f"tensor {name}", "changed", "only in the file, not in the base"))
        elif own[name] != shape:
            why = f"the shape {list(own[name])} in the base, {list(shape)} here"
            keys.append(KeyVerdict(f"tensor {name}", "changed", why))
    there = {entry.name for entry in entries}
    keys += [KeyVerdict(f"tensor {name}", "changed", "only in the base") for name in own if name not in there]
    names = [name for name, shape, _ in entries if own.get(name) == shape]
    auditor = auditing(source)
    through, bytes_read = None, 0
    if asked.sample is None:  # a whole pass in vain takes long
        through = fitting(auditor, largest(auditor, names), likely)
        auditor = auditing(through or source)
    findings = _findings(auditor, names, likely, progress)
    if through is None and (through := fitting(auditor, worst(findings), likely)):
        bytes_read, auditor = auditor.bytes_read, auditing(through)
        findings = _findings(auditor, names, likely, progress)
    spans, together = _spans(findings, likely), _Together.of(findings)
    changed, notes = _metadata(source, file.metadata)
    notes = [*_mix_notes(mix, facts), *imatrix_notes(file.metadata, guide), *notes]
    if through is not None:
        notes.insert(0, f"made of the base's {through.ftype}, a file between the two, and not of the base itself")
    rows, all_rows = sum(f.rows for f in findings), sum(f.all_rows for f in findings)
    digests = (
        ((Path(file.files[0].place).name, auditor.digest.hexdigest()),)
        if asked.sample
        else tuple((part.path.name, digest_of(part.path)) for part in file.files)
    )
    return FileVerdict(
        file.files[0].place,
        digests,
        SEARCHED if MIX_KEY in facts else str(mix) if mix else None,
        tags_of(spans),
        tuple(_verdict(finding, together, spans, unknown) for finding in findings),
        (*changed, *keys),
        tuple(notes),
        rows,
        all_rows,
        asked.sample.chance(all_rows) if asked.sample else 1.0,
        auditor.bytes_read + bytes_read,
        through.ftype if through else None,
        tuple(spans),
    )


SEARCHED = "types that a search chose, by the file's own word"


def _check_bounds(place: str, tensors: Sequence[TensorEntry]) -> None:
    """Raises QuantmillError for what no model has and nobody here has the time or the memory for."""
    if len(tensors) > MOST_TENSORS:
        raise QuantmillError(
            f"{place}: it has {len(tensors)} tensors, more than the {MOST_TENSORS} that any model has; it is hostile"
        )
    for name, shape, _ in tensors:
        columns = shape[0] if shape else 1
        if columns > MOST_COLUMNS or math.prod(shape[1:]) > MOST_ROWS:
            raise QuantmillError(
                f"{place}: {shown(name)} has the shape {list(shape)}, which no model's has; it is damaged or hostile"
            )


def _findings(
    auditor: Auditor, names: Sequence[str], likely: list[Reference], progress: Callable[[int, int], None]
) -> list[Observed]:
    findings, done, total = [], 0, sum(auditor.base.info(name).nbytes for name in names)
    for name in names:
        findings.append(auditor.find(name, likely))
        done += auditor.base.info(name).nbytes
        progress(done, total)
    return findings


def _metadata(source: Tensors, release: Mapping[str, KV]) -> tuple[list[KeyVerdict], list[str]]:
    """As audit_metadata, by the converter whose metadata the file has, of those that there were."""
    if not isinstance(source, CheckpointBase):
        return audit_metadata(source.metadata, release)
    best: tuple[list[KeyVerdict], list[str]] | None = None
    for known in source.conversions():
        found = audit_metadata(known, release)
        best = found if best is None or len(found[0]) < len(best[0]) else best
        if not best[0]:
            return best
    if best is not None:
        return best
    changed, notes = audit_metadata(source.metadata, {k: v for k, v in release.items() if k in source.metadata})
    return changed, [*notes, f"tokenizer and chat template are not compared: {source.problem}"]


def opened(name: str | Path, sample: RowSample | None) -> Source | RemoteSource:
    """A file here or elsewhere. UsageError for one elsewhere that is to be read whole."""
    if Path(name).exists() or not is_remote(str(name)):
        return Source(Path(name))
    if sample is None:
        raise elsewhere(str(name))
    return RemoteSource(str(name))


def elsewhere(name: str) -> UsageError:
    """A file elsewhere is to be read whole."""
    return UsageError(f"{name}: only a part of a file elsewhere is audited; give --sample 2%, or download it")


def _mix_notes(mix: KnownMix | None, facts: Mapping[str, Any]) -> list[str]:
    if MIX_KEY in facts:
        return [f"the file says that its tensors' types were searched: {shown(str(facts[MIX_KEY]))}"]
    if mix is None:
        return ["the tensors' types are those of no known mix"]
    return (
        []
        if mix.states or "general.file_type" not in facts
        else [f"general.file_type says another ftype than {mix.ftype}, whose types these are"]
    )


def _is_same(finding: Observed) -> bool:
    return not finding.problem and not finding.differing


def _spans(findings: Sequence[Observed], likely: list[Reference]) -> list[Reference]:
    """Those of the likely spans whose bytes most tensors have."""
    spans = likely
    by_kinds: dict[tuple[str, frozenset[int]], tuple[int, Observed]] = {}
    for finding in findings:
        if _is_same(finding) and finding.way:
            key = finding.type.name, frozenset(finding.kinds)
            by_kinds[key] = by_kinds.get(key, (0, finding))[0] + finding.blocks, finding
    for _, finding in sorted(by_kinds.values(), key=lambda item: -item[0]):
        spans = [span for span in spans if kind(finding.type, span) in finding.kinds] or spans
    return spans


@dataclass(frozen=True)
class _Together:
    """Of a file's tensors: whether one has the bytes that an importance vector gives, and the blocks of those that were
    quantized, and of those of them that are the same."""

    is_weighed: bool
    blocks: int
    same: int

    @classmethod
    def of(cls, findings: Sequence[Observed]) -> "_Together":
        made = [found for found in findings if found.way is not None]
        same = [found for found in made if _is_same(found)]
        is_weighed = any(found.way and found.way.importance is not None for found in same)
        return cls(is_weighed, sum(found.blocks for found in made), sum(found.blocks for found in same))

    def is_known(self, finding: Observed) -> bool:
        """Whether the other tensors show, by their bytes, which tool and imatrix made the file."""
        own = finding.blocks if finding.way is not None else 0
        blocks = self.blocks - own
        return blocks > 0 and self.same - (own if _is_same(finding) else 0) >= KNOWN * blocks


def _verdict(finding: Observed, together: _Together, spans: Sequence[Reference], unknown: bool) -> TensorVerdict:
    def said(word: Word, why: str, spot: Spot | None = None) -> TensorVerdict:
        return TensorVerdict(
            finding.name,
            finding.type.name,
            word,
            why,
            spot,
            finding.differing,
            finding.blocks,
        )

    way = finding.way
    if finding.problem:
        return said("cannot tell", finding.problem)
    if finding.outside:
        return said(
            "changed", f"no rounding of the base gives {finding.outside} of {finding.blocks} blocks", finding.worst
        )
    if finding.type == finding.base:
        return said("same", "the base's bytes")
    if not finding.differing:
        return said(*_of_same(finding, together, spans))
    if way is not None and finding.differing * 2 <= finding.blocks:
        rest = f"{finding.differing} of {finding.blocks} blocks are not what {tags_of([way.reference])} writes"
        if together.is_known(finding):
            why = f"{rest}, as the tensor's others and the file's other tensors are, though rounding would allow them"
            return said("changed", why, finding.first)
        return said(
            "cannot tell", f"{rest}, though the tensor's others are, and rounding would allow them", finding.first
        )
    if finding.untold:
        why = "which an importance of zero may explain" + (": give the imatrix" if unknown else "")
        return said(
            "cannot tell", f"{finding.untold} of {finding.blocks} blocks are one value where the base varies, {why}"
        )
    given = "another imatrix or tool" if finding.has_vector or not unknown else "the imatrix is not given"
    return said("within rounding", f"other bytes, each a rounding of the base ({given})")


def _of_same(finding: Observed, together: _Together, spans: Sequence[Reference]) -> tuple[Word, str]:
    """The word and the reason for a tensor whose bytes are those of one way."""
    way = finding.way
    assert way is not None
    wrote = [span for span in offered() if kind(finding.type, span) in finding.kinds]
    if finding.has_vector and way.importance is None and together.is_weighed:
        return "within rounding", "the bytes without its importance vector, with which the file's others were made"
    how = {
        "imatrix": ", with its importance vector",
        "zero as one": ", with 1 where its importance is zero",
        "none": "",
    }
    if not any(span in wrote for span in spans):
        return "other tag", f"the bytes that {tags_of(wrote)} write{how[way.weighing]}"
    return "same", f"the bytes that {tags_of([span for span in spans if span in wrote])} write{how[way.weighing]}"


def digest_of(path: Path) -> str:
    """A file's sha256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
