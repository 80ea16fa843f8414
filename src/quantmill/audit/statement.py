"""What an audit puts on record: which digests were held against which base, by what, with what result."""

from collections.abc import Sequence
from typing import Any

from quantmill import __version__
from quantmill.audit.audit_base import AuditBase
from quantmill.audit.file_audit import AuditOptions, digest_of
from quantmill.audit.verdict import FileVerdict

FORMAT = 1


def statement(
    verdicts: Sequence[FileVerdict],
    base: AuditBase,
    asked: AuditOptions,
    named_by: str | None = None,
    others: Sequence[str] = (),
) -> dict[str, Any]:
    """Plain data, with no date, path or machine: who audits the same files again states the same.

    Of a sample, the base's digests are left out, since it was not read whole. `named_by`: who names the base, where the
    call does not. `others`: the release's files that were not audited.
    """
    sample = asked.sample
    imatrix = {"name": asked.imatrix.name, "sha256": digest_of(asked.imatrix)} if asked.imatrix else None
    return {
        "format": FORMAT,
        "quantmill": __version__,
        "base": base.files(),
        **({"base_named_by": named_by} if named_by else {}),
        "imatrix": imatrix,
        "tag": str(asked.tag) if asked.tag else None,
        "sample": {"share": sample.share, "seed": sample.seed} if sample else None,
        **({"not_audited": list(others)} if others else {}),
        "files": [verdict.to_json() for verdict in verdicts],
    }
