"""What an audit puts on record: which digests were held against which base, by what, with what result."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantmill import __version__
from quantmill.audit.file_audit import AuditOptions, digest_of
from quantmill.audit.verdict import FileVerdict
from quantmill.gguf.shard_set import shards_of

FORMAT = 1


def statement(verdicts: Sequence[FileVerdict], base: str, asked: AuditOptions) -> dict[str, Any]:
    """Plain data, with no date, path or machine: who audits the same files again states the same.

    Of a sample, the base's digest is left out, since it was not read whole.
    """
    sample = asked.sample
    parts = [Path(base)] if sample else shards_of(Path(base))
    imatrix = {"name": asked.imatrix.name, "sha256": digest_of(asked.imatrix)} if asked.imatrix else None
    return {
        "format": FORMAT,
        "quantmill": __version__,
        "base": [{"name": part.name, "sha256": None if sample else digest_of(part)} for part in parts],
        "imatrix": imatrix,
        "tag": str(asked.tag) if asked.tag else None,
        "sample": {"share": sample.share, "seed": sample.seed} if sample else None,
        "files": [verdict.to_json() for verdict in verdicts],
    }
