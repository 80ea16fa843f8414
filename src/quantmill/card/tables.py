"""The page's tables: the files, and what was measured of their speed."""

from quantmill.card.markdown import HARD, table, text
from quantmill.card.voice import Voice
from quantmill.reference.ftypes import FTYPES
from quantmill.released import Bench, ReleasedFile
from quantmill.units import size_text

# The ftypes that a page advises, beside the large form of each.
RECOMMENDED = {"Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "IQ4_XS"}


def files(page: Voice) -> list[str]:
    """The table of files, largest first, with a column for everything that was measured of any."""
    rows = page.facts.files
    columns = ["kld"] if any(f.quality and "mean" in f.quality.kld for f in rows) else []
    columns += [c for c in ("perplexity", "top1") if any(f.quality and getattr(f.quality, c) is not None for f in rows)]
    head = [page.words[f"files.{key}"] for key in ("file", "type", "size", "split", *columns, "description")]
    return table(head, "llrl" + "r" * len(columns) + "l", [_file(page, file, columns) for file in rows])


def _file(page: Voice, file: ReleasedFile, columns: list[str]) -> list[str]:
    split = page.say("files.yes", count=file.shards) if file.shards > 1 else page.words["files.no"]
    measured = [_measured(file, column) for column in columns]
    name = f"[{text(file.name)}]({page.where(file.name)})"
    short = (cell.replace(" ", HARD) for cell in (size_text(file.bytes), split))
    return [name, text(file.ftype), *short, *measured, describe(page, file)]


def _measured(file: ReleasedFile, column: str) -> str:
    found = file.quality
    if found is None:
        return ""
    if column == "kld":
        return f"{found.kld['mean']:.5f}" if "mean" in found.kld else ""
    if column == "top1":
        return f"{found.top1:.1%}" if found.top1 is not None else ""
    error = f"{HARD}±{HARD}{found.perplexity_error:.3f}" if found.perplexity_error is not None else ""
    return f"{found.perplexity:.3f}{error}" if found.perplexity is not None else ""


def describe(page: Voice, file: ReleasedFile) -> str:
    """What a file is good for, in a sentence or two; nothing for an ftype that the catalogue does not know."""
    found = FTYPES.get(file.ftype)
    if found is None or f"ftype.{found.base}" not in page.words:
        return ""
    parts = [page.words[f"ftype.{found.base}"]]
    parts += [page.words["ftype.large"]] if found.embedding_and_output else []
    parts += [page.words["ftype.recommended"]] if found.base in RECOMMENDED else []
    return (" " if page.language == "en" else "").join(parts)


def bench(page: Voice, found: Bench) -> list[str]:
    """Every test of every file, in the order measured."""
    head = [page.words[key] for key in ("files.type", "bench.test", "bench.rate", "bench.percent")]
    rows = [
        [
            text(row.ftype),
            text(row.test),
            f"{row.rate:.2f}" + ("" if row.deviation is None else f"{HARD}±{HARD}{row.deviation:.2f}"),
            f"{row.percent:.0f}{HARD}%" if row.percent is not None else "",
        ]
        for row in found.rows
    ]
    return table(head, "llrr", rows)
