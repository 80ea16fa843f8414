"""A file held against its base: what its tensors' bytes prove together, and what that says of each of them."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quantmill.artifact import silent
from quantmill.audit.metadata_audit import audit_metadata, imatrix_notes
from quantmill.audit.mixes import IMATRIX_FILE, KnownMix, recognize, tags_of
from quantmill.audit.observed import Known, Observed
from quantmill.audit.remote_source import RemoteSource, is_remote
from quantmill.audit.row_sample import RowSample
from quantmill.audit.tensor_audit import Auditor
from quantmill.audit.verdict import FileVerdict, KeyVerdict, Spot, TensorVerdict, Word
from quantmill.audit.ways import kind
from quantmill.errors import UsageError
from quantmill.gguf import model_facts
from quantmill.gguf.layout import ggml_shape
from quantmill.gguf.source import Source
from quantmill.quant.guide import Guide
from quantmill.reference.reference import Reference
from quantmill.reference.spans import offered

KNOWN = 0.9  # of the other tensors' blocks, from which on their bytes show which tool and imatrix made a file


@dataclass(frozen=True)
class AuditOptions:
    """What an audit is to be made with. `tag`: the reference that is to have written the file, None to find it.

    `known`: by base, what was found of tensors that other files may have too.
    """

    imatrix: Path | None = None
    tag: Reference | None = None
    sample: RowSample | None = None
    threads: int = 1
    known: dict[str, Known] = field(default_factory=dict, compare=False, repr=False)


def audit_file(
    release: str | Path, base: str | Path, asked: AuditOptions, progress: Callable[[int, int], None] = silent
) -> FileVerdict:
    """Hold a file, or the shards of which it is the first, against the base.

    Each is a path, or, of a sample, an address or a file of the Hub. Raises QuantmillError for files that cannot be
    read. `progress` gets bytes of the base done and in total.
    """
    guide = Guide.read(asked.imatrix, False)
    with opened(release, asked.sample) as file, opened(base, asked.sample) as source:
        facts = model_facts(file.metadata.values())
        entries = [entry._replace(shape=ggml_shape(entry.shape)) for entry in file.tensors()]
        mix = recognize(facts, entries)
        auditor = Auditor(file, source, guide, asked.threads, asked.sample, asked.known.setdefault(str(base), {}))
        unknown = IMATRIX_FILE in facts and guide.imatrix is None
        likely = [asked.tag] if asked.tag else list(mix.spans if mix else offered())
        own = {entry.name: ggml_shape(entry.shape) for entry in source.tensors()}
        findings, keys, done = [], [], 0
        total = sum(source.info(name).nbytes for name, _, _ in entries if name in own)
        for name, shape, _ in entries:
            if name not in own:
                keys.append(KeyVerdict(f"tensor {name}", "changed", "only in the file, not in the base"))
            elif own[name] != shape:
                why = f"the shape {list(own[name])} in the base, {list(shape)} here"
                keys.append(KeyVerdict(f"tensor {name}", "changed", why))
            else:
                findings.append(auditor.find(name, likely))
                done += source.info(name).nbytes
                progress(done, total)
        there = {entry.name for entry in entries}
        keys += [KeyVerdict(f"tensor {name}", "changed", "only in the base") for name in own if name not in there]
        spans = _spans(findings, likely)
        changed, notes = audit_metadata(source.metadata, file.metadata)
        notes = [*_mix_notes(mix, "general.file_type" in facts), *imatrix_notes(file.metadata, guide.imatrix), *notes]
        rows, all_rows = sum(f.rows for f in findings), sum(f.all_rows for f in findings)
        digests = (
            ((Path(release).name, auditor.digest.hexdigest()),)
            if asked.sample
            else tuple((part.path.name, digest_of(part.path)) for part in file.files)
        )
        return FileVerdict(
            file.files[0].place,
            digests,
            str(mix) if mix else None,
            tags_of(spans),
            tuple(_verdict(finding, findings, spans, unknown) for finding in findings),
            (*changed, *keys),
            tuple(notes),
            rows,
            all_rows,
            asked.sample.chance(all_rows) if asked.sample else 1.0,
            auditor.bytes_read,
            tuple(spans),
        )


def opened(name: str | Path, sample: RowSample | None) -> Source | RemoteSource:
    """A file here or elsewhere. UsageError for one elsewhere that is to be read whole."""
    if Path(name).exists() or not is_remote(str(name)):
        return Source(Path(name))
    if sample is None:
        raise UsageError(f"{name}: only a part of a file elsewhere is audited; give --sample 2%, or download it")
    return RemoteSource(str(name))


def _mix_notes(mix: KnownMix | None, is_stated: bool) -> list[str]:
    if mix is None:
        return ["the tensors' types are those of no known mix"]
    return (
        []
        if mix.states or not is_stated
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


def _verdict(
    finding: Observed, findings: Sequence[Observed], spans: Sequence[Reference], unknown: bool
) -> TensorVerdict:
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
        return said(*_of_same(finding, findings, spans))
    if way is not None and finding.differing * 2 <= finding.blocks:
        rest = f"{finding.differing} of {finding.blocks} blocks are not what {tags_of([way.reference])} writes"
        if _is_known(finding, findings):
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


def _of_same(finding: Observed, findings: Sequence[Observed], spans: Sequence[Reference]) -> tuple[Word, str]:
    """The word and the reason for a tensor whose bytes are those of one way."""
    way = finding.way
    assert way is not None
    wrote = [span for span in offered() if kind(finding.type, span) in finding.kinds]
    weighed = any(_is_same(f) and f.way and f.way.importance is not None for f in findings)
    if finding.has_vector and way.importance is None and weighed:
        return "within rounding", "the bytes without its importance vector, with which the file's others were made"
    how = {
        "imatrix": ", with its importance vector",
        "zero as one": ", with 1 where its importance is zero",
        "none": "",
    }
    if not any(span in wrote for span in spans):
        return "other tag", f"the bytes that {tags_of(wrote)} write{how[way.weighing]}"
    return "same", f"the bytes that {tags_of([span for span in spans if span in wrote])} write{how[way.weighing]}"


def _is_known(finding: Observed, findings: Sequence[Observed]) -> bool:
    """Whether the file's other tensors show, by their bytes, which tool and imatrix made it."""
    others = [f for f in findings if f is not finding and f.way is not None]
    blocks = sum(f.blocks for f in others)
    return blocks > 0 and sum(f.blocks for f in others if _is_same(f)) >= KNOWN * blocks


def digest_of(path: Path) -> str:
    """A file's sha256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
