"""The page's tables: the files, and what was measured of their speed."""

from collections.abc import Sequence

from quantmill.card.grades import advised, grade
from quantmill.card.markdown import HARD, code, table, text
from quantmill.card.voice import Voice
from quantmill.reference.ftypes import FTYPES
from quantmill.released import LARGE, Bench, ReleasedFile
from quantmill.units import size_text

# The ftypes that a page advises where nothing was measured, beside the large form of each.
KINDS = {"Q5_1", "Q5_0", "Q4_1", "Q4_0", "TQ1_0", "TQ2_0"}  # whose words tell of a kind of file, and of no loss
LEAST = 0.00001  # of a KLD that is written out
RECOMMENDED = {"Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "IQ4_XS"}


def files(page: Voice) -> list[str]:
    """The table of files, largest first, with a column for everything that was measured of any."""
    rows = page.facts.files
    columns = ["kld"] if any(f.quality and "mean" in f.quality.kld for f in rows) else []
    columns += [c for c in ("perplexity", "top1") if any(f.quality and getattr(f.quality, c) is not None for f in rows)]
    head = [page.words[f"files.{key}"] for key in ("file", "type", "size", "split", *columns, "description")]
    found = [_file(page, file, columns) for file in rows]
    found += [_projector(page, file, columns) for file in page.facts.projectors]
    return table(head, "llrl" + "r" * len(columns) + "l", found)


def _projector(page: Voice, file: ReleasedFile, columns: list[str]) -> list[str]:
    """What images or sound come in by, which is no model of its own."""
    name = f"[{text(file.name)}]({page.where(file.name)})"
    size = size_text(file.bytes).replace(" ", HARD) if file.bytes else ""
    return [name, text(file.ftype), size, page.words["files.no"], *("" for _ in columns), page.words["files.projector"]]


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
        return _kld(found.kld["mean"]) if "mean" in found.kld else ""
    if column == "top1":
        return "" if found.top1 is None else ">99.9%" if 0.9995 <= found.top1 < 1 else f"{found.top1:.1%}"
    error = f"{HARD}±{HARD}{found.perplexity_error:.3f}" if found.perplexity_error is not None else ""
    return f"{found.perplexity:.3f}{error}" if found.perplexity is not None else ""


def _kld(mean: float) -> str:
    """A file that differs from its base is never said to differ by nothing."""
    return "0" if mean == 0 else f"<{LEAST:.5f}" if mean < LEAST else f"{mean:.5f}"


def describe(page: Voice, file: ReleasedFile) -> str:
    """What a file is good for, in a sentence or two: by what was measured, else as its ftype is known; nothing for an
    ftype that the catalogue does not know."""
    found, measured = FTYPES.get(file.ftype), grade(file.quality)
    if file.twin:
        return page.say("measured.copy" if file.is_copy else "measured.twin", ftype=code(file.twin))
    if file.ftype in page.facts.searched.get("files", ()):
        parts = [page.words[f"measured.{measured}"]] if measured else []
        parts.append(page.words["measured.searched"])
        parts += [page.say("measured.rival", ftype=code(file.rival))] if file.rival else []
        parts += [page.words["ftype.recommended"]] if file.ftype in recommended(page.facts.files) else []
        return page.joined(parts)
    if found is None or f"ftype.{found.base}" not in page.words:
        return ""
    parts = [page.words[f"measured.{measured}"]] if measured else []
    if not measured or found.base in KINDS:
        parts.append(page.words[f"ftype.{found.base}"])
    elif found.base == "IQ4_NL":
        parts.append(page.words["measured.repacked"])
    parts += [page.words["ftype.large"]] if found.embedding_and_output else []
    if file.others > LARGE:
        parts.append(page.say("measured.others", share=f"{file.others:.0%}", bits=f"{file.bits:.2f}"))
    parts += [page.words["ftype.recommended"]] if file.ftype in recommended(page.facts.files) else []
    return page.joined(parts)


def recommended(files: Sequence[ReleasedFile]) -> set[str]:
    """The ftypes of the files that a page recommends: by what was measured, else those whose name is known and true."""
    found = advised(files)
    for file in files:
        named = FTYPES.get(file.ftype)
        if named and named.base in RECOMMENDED and not grade(file.quality) and file.others <= LARGE and not file.twin:
            found.add(file.ftype)
    return found


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
