"""`quantmill imatrix`: measure the importance of a model's columns on a text, as llama-imatrix does."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantmill.commands.common import (
    add_tag,
    file_path,
    followed,
    layer_bar,
    parallel,
    place,
    positive,
    say,
    say_json,
    size,
    threads,
    told_of,
)
from quantmill.errors import UsageError, apart
from quantmill.output_file import check_output, through, write_output
from quantmill.reference.spans import offered

if TYPE_CHECKING:
    from quantmill.imatrix import Sums
    from quantmill.reference.reference import Reference

HEAD = ("layer", "tensor", "sum", "min", "max", "mean", "stddev", "active", "N", "entropy", "E (norm)", "ZD", "cos")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add = parser.add_argument
    add("model", type=file_path, nargs="?", metavar="MODEL", help="a GGUF file, a first shard, or a model's folder")
    add(
        "-f",
        dest="texts",
        type=place,
        action="append",
        default=[],
        metavar="TEXT",
        help="a text in UTF-8; several are used whole",
    )
    names = "what to write (imatrix.dat, or imatrix.gguf, by the tag)"
    add("-o", dest="target", type=file_path, metavar="FILE", help=names)
    add_tag(parser, "whose llama-imatrix to follow")
    add("--chunks", type=positive, metavar="N", help="of the text (all)")
    add("--from-chunk", type=_count, default=0, metavar="N", help="leave so many chunks out at the beginning (0)")
    add("--n-ctx", type=positive, default=512, metavar="N", help="tokens of a chunk (512)")
    add("--parse-special", action="store_true", help="take what is written like a control token for one")
    add("--process-output", action="store_true", help="measure output.weight too")
    add("--process-embedding", action="store_true", help="measure token_embd.weight where it is the output too")
    add("--no-ppl", action="store_true", help="leave out the text's perplexity, which the file does not need")
    add("--in-file", dest="earlier", type=file_path, action="append", default=[], metavar="F", help="add what F holds")
    add("--arithmetic", choices=("f32", "bf16x2"), default="f32", help="how to compute (f32)")
    add("--memory", type=size, default="8GB", metavar="SIZE", help="what may be used; the rest goes to a file (8GB)")
    add("--threads", type=parallel, metavar="N", help="threads (all cores)")
    legacy = max(reference.last for reference in offered() if reference.imatrix.form == "dat")
    forms = f"dat for tags to b{legacy}, gguf for later ones (as FILE ends)"
    add("--output-format", choices=("dat", "gguf"), help=forms)
    add("--show-statistics", action="store_true", help="a table of all tensors, of the result or of the one --in-file")
    add("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""

    from quantmill.imatrix import load
    from quantmill.imatrix.sums import merge

    _, reference = followed(options)
    rules = reference.imatrix
    if options.parse_special and not rules.parses_special:
        raise UsageError(f"llama-imatrix of {reference} is not known to have --parse-special; choose a later tag")
    options.target = options.target or Path(rules.file_name(options.output_format or rules.form))
    form = options.form = _form(options, reference)
    if options.texts or not options.show_statistics:
        check_output(options.target)
    # What rows an earlier call had, the legacy form does not say: the tools whose own form it is take it for one, the
    # later ones for a chunk.
    rows = options.n_ctx if form == "gguf" or rules.calls == "chunks" else 1
    parts = [(str(path), load(path, rows)) for path in options.earlier]
    report: dict[str, Any] = {}
    if options.texts:
        found = _measure(options, reference)
        parts.append((", ".join(options.texts), found.sums))
        report = dict(found.report)
    elif options.show_statistics:
        if len(parts) != 1:
            raise UsageError(f"--show-statistics looks into one file, found {len(parts)}; give it by --in-file")
        _print(options, {}, parts[0][1])
        return 0
    elif not parts:
        raise UsageError(
            "there is nothing to do; give a model and a text (MODEL -f TEXT), or files to merge (--in-file)"
        )
    sums = merge(parts)
    _write(options, reference, sums, parts[-1][1] if options.texts else None)
    written = len(sums.whole() if form == "dat" and rules.whole_only else sums.tensors)
    report = {"file": str(options.target), "tensors": written, **report}
    _print(options, report, sums if options.show_statistics else None)
    if not options.json and not options.texts:
        say(f"{options.target}: {written} tensors of {len(parts)} files")
    return 0


def _measure(options: argparse.Namespace, reference: "Reference") -> Any:
    from quantmill.engine.chunks import Text, read_text
    from quantmill.engine.evaluation import Run
    from quantmill.engine.importance_matrix import Options, measure

    if options.model is None or not options.model.exists():
        missing = "no model is named" if options.model is None else f"{options.model}: there is no such file"
        raise UsageError(f"{missing}; give the path of a GGUF file or a model's folder")
    apart([options.target], map(Path, [options.model, *options.texts]))
    texts = [Text(name, read_text(Path(name))) for name in options.texts]
    wanted = Options(
        options.n_ctx,
        options.chunks,
        options.from_chunk,
        options.process_output,
        not options.no_ppl,
        options.parse_special,
        options.process_embedding,
    )
    work = None if through(options.target) else options.target.with_name(options.target.name + ".work")
    try:
        with layer_bar(f"imatrix {options.model.name}") as (announce, progress), told_of(options.model):
            run = Run(options.arithmetic, threads(options), options.memory, work, progress, reference)
            return measure(options.model, texts, wanted, run, str(options.model), announce, form=options.form)
    finally:
        if (
            work and work.is_dir() and not any(work.iterdir())
        ):  # a run that broke off leaves what the next one goes on from
            work.rmdir()


def _write(options: argparse.Namespace, reference: "Reference", sums: "Sums", measured: "Sums | None") -> None:
    from dataclasses import replace

    from quantmill.imatrix import gguf_form

    if options.form == "gguf":
        gguf_form.write(options.target, sums.stored(options.n_ctx))
        return
    # As llama-imatrix: files that are only merged lose the texts' names and the number of chunks, which counts only
    # tensors that were measured now; the later tools keep the last name and count all.
    dataset = ", ".join(options.texts).encode()
    if not dataset and reference.imatrix.calls == "chunks":
        dataset = (sums.datasets or (b"",))[-1]
    chunks = max((sums.tensors[name].calls for name in measured.tensors), default=0) if measured else 0
    write_output(options.target, replace(sums, chunk_size=options.n_ctx).legacy(reference, dataset, chunks))


def _form(options: argparse.Namespace, reference: "Reference") -> str:
    by_ending = {".gguf": "gguf", ".dat": "dat"}
    return options.output_format or by_ending.get(options.target.suffix, reference.imatrix.form)


def _count(text: str) -> int:
    return 0 if text == "0" else positive(text)


def _print(options: argparse.Namespace, report: dict[str, Any], shown: "Sums | None") -> None:
    from dataclasses import asdict

    from quantmill.imatrix.summary import layers, rows

    table = rows(shown) if shown else []
    if options.json:
        more = {"statistics": [asdict(row) for row in table], "layers": [asdict(row) for row in layers(table)]}
        say_json({**report, **(more if shown else {})})
        return
    if "chunks" in report:
        _report(report, options.form)
    if shown is None:
        return
    lines: list[tuple[str, ...]] = [HEAD]
    for row in table:
        active, entropy_share, density = (f"{share:.2%}" for share in (row.active, row.entropy_share, row.density))
        numbers = (f"{value:.4f}" for value in (row.total, row.least, row.largest, row.mean, row.deviation))
        layer = "-" if row.layer is None else str(row.layer)
        entropy = (f"{row.entropy:.4f}", entropy_share, density, f"{row.cosine:.4f}")
        lines.append((layer, row.tensor, *numbers, active, str(row.columns), *entropy))
    _table(lines)
    say("")
    means: list[tuple[str, ...]] = [("layer", "mean sum", "mean ZD", "mean cos")]
    for layer_ in layers(table):
        means.append((str(layer_.layer), f"{layer_.total:.2f}", f"{layer_.density:.4%}", f"{layer_.cosine:.4f}"))
    _table(means)


def _report(report: dict[str, Any], form: str) -> None:
    say(
        f"{report['file']}: {report['tensors']} tensors over {report['chunks']} chunks of {report['n_ctx']} tokens, "
        f"{report['arithmetic']}"
    )
    if report["perplexity"] is not None:
        say(f"perplexity of the text {report['perplexity']} ± {report['perplexity_error']}")
    for end in ("smallest", "largest"):
        shares = ", ".join(f"{each['tensor']} {each['share']:.2%}" for each in report["coverage"][end])
        say(f"{end} share of columns reached: {shares}")
    for name, experts in report["never_hit"].items():
        what = "left out, as llama-imatrix does; --output-format gguf keeps it"
        if name not in report["left_out"]:
            what = "kept with a count of 0" if form == "gguf" else "kept, all its columns alike"
        say(f"{name}: no token chose expert {', '.join(map(str, experts))}: {what}")


def _table(lines: list[tuple[str, ...]]) -> None:
    """Columns to the right, but for tensors' names."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    name = lines[0].index("tensor") if "tensor" in lines[0] else -1
    for line in lines:
        padded = zip(line, widths, strict=True)
        cells = [cell.ljust(width) if at == name else cell.rjust(width) for at, (cell, width) in enumerate(padded)]
        say("  ".join(cells).rstrip())
