"""`quantmill fit`: the types for a size that cost a model the least, found by measuring, and the file of them."""

import argparse
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantmill.commands.common import (
    add_tag,
    bar,
    existing,
    file_path,
    followed,
    parallel,
    positive,
    say,
    say_json,
    size,
    threads,
    words,
)
from quantmill.errors import UsageError, apart
from quantmill.output_file import check_output, through, write_output

if TYPE_CHECKING:
    from quantmill.engine.evaluation import Run
    from quantmill.engine.stream import Tokens
    from quantmill.mix_search.search import FoundMix
    from quantmill.vocabulary.tokenizer import Tokenizer

CHUNKS = 8  # of the text, evenly spaced, that the search measures on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add = parser.add_argument
    add("base", type=file_path, metavar="BASE.gguf", help="the model as F16, BF16 or F32")
    add("target", type=file_path, metavar="OUT.gguf")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--bits", type=_bits, metavar="N", help="at most so many bits a weight")
    target.add_argument("--size", type=size, metavar="SIZE", help="at most so large a file (19.5GB)")
    target.add_argument("--like", type=words, metavar="FTYPE", help="at most as large as the file of this ftype")
    add("--imatrix", type=file_path, required=True, metavar="FILE", help="an importance matrix")
    add("--imatrix-name", type=words, metavar="TEXT", help="what the metadata calls it (the path as given)")
    add("-f", dest="text", type=file_path, required=True, metavar="TEXT", help="what to search on, in UTF-8")
    add("-e", dest="evaluation", type=file_path, metavar="TEXT", help="measure OUT and the stock file on this text")
    add("--types", type=_types, metavar="T,T...", help="the types that tensors may have (all common ones)")
    add("--export", type=file_path, metavar="FILE", help="write the types for llama-quantize's --tensor-type-file")
    add("--chunks", type=positive, default=CHUNKS, metavar="N", help=f"of the text, evenly spaced ({CHUNKS})")
    add("--n-ctx", type=positive, default=512, metavar="N", help="tokens of a chunk (512)")
    add_tag(parser, "the tag whose bytes to write")
    add("--memory", type=size, default="8GB", metavar="SIZE", help="what measuring may use (8GB)")
    add("--threads", type=parallel, metavar="N", help="threads (all cores)")
    add("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.engine.chunks import check_vocabulary
    from quantmill.engine.evaluation import Run, open_model
    from quantmill.mix_search.search import Sought, check_target, find_mix, measure, spread
    from quantmill.mix_search.space import KEY, Target
    from quantmill.quant.quantizer import quantize_file
    from quantmill.reference.ftypes import COMMON_TYPES
    from quantmill.reference.spans import check_known, check_options
    from quantmill.vocabulary.tokenizer import load

    base = existing(options.base)
    written = [options.target, *([options.export] if options.export else [])]
    for path in written:
        check_output(path)
    if through(options.target):
        raise UsageError(f"{options.target}: the search needs a folder to work in; give the path of a file")
    read = [base, options.imatrix, options.text, *([options.evaluation] if options.evaluation else [])]
    apart(written, read)
    tag, reference = followed(options)
    check_options(tag, reference, tensor_types=True)
    check_known(reference, ["--tensor-type-file"] * bool(options.export))
    if options.like:
        reference.ftype(options.like)
    if options.evaluation:
        _check_unseen(options.evaluation, options.text)
    tokenizer = load(base)
    chunks = spread(_tokens(options.text, tokenizer, options.n_ctx), options.chunks)
    seen = _tokens(options.evaluation, tokenizer, options.n_ctx) if options.evaluation else None
    with open_model(base) as model:
        check_vocabulary(tokenizer, model.described("token_embd.weight")[0][1], str(base))
    name = options.imatrix_name or str(options.imatrix)
    target = Target(options.bits, options.size, options.like)
    sought, types = Sought(base, options.imatrix, name, reference), options.types or COMMON_TYPES
    check_target(sought, target, chunks.shape, types)
    with tempfile.TemporaryDirectory(prefix=f".{options.target.name}.", dir=options.target.parent) as folder:
        work = Path(folder)
        with bar(f"fit {base.name}", "passes of chunks") as progress:
            settings = Run("f32", threads(options), options.memory, work, progress, reference)
            found = find_mix(sought, measure(sought, chunks, settings, work, types), target, types)
        shared: Any = {
            "imatrix": options.imatrix,
            "imatrix_name": name,
            "reference": reference,
            "threads": threads(options),
            "tag": tag,
        }
        setting = [(KEY, found.note)]
        quantize_file(base, options.target, found.ftype, tensor_types=found.patterns, override_kv=setting, **shared)
        if options.export:
            lines = [f"{pattern}={type_}" for pattern, type_ in found.patterns]
            write_output(options.export, ("\n".join(lines) + "\n").encode())
        measured = None
        if seen is not None:
            stock = work / "stock.gguf"
            quantize_file(base, stock, found.stock, **shared)
            quiet = Run("f32", threads(options), options.memory, None, reference=reference)
            measured = _measured(base, [options.target, stock], seen, quiet)
    _tell(options, found, measured, KEY)
    return 0


def _check_unseen(evaluation: Path, text: Path) -> None:
    """SharedPassage where the text to measure on holds what was searched on."""
    import json

    from quantmill.engine.chunks import read_text
    from quantmill.quality.errors import SharedPassage
    from quantmill.quality.overlap import shared_passage

    if (shared := shared_passage(read_text(evaluation), read_text(text))) is not None:
        raise SharedPassage(
            f"{evaluation}: shares {json.dumps(shared[:60], ensure_ascii=False)} with {text}, which the search has "
            "seen; measure with another text (-e)"
        )


def _tokens(path: Path, tokenizer: "Tokenizer", n_ctx: int) -> "Tokens":
    from quantmill.engine.chunks import Text, read_text, tokenize

    return tokenize([Text(str(path), read_text(path))], tokenizer, n_ctx)


def _measured(base: Path, files: list[Path], chunks: "Tokens", run: "Run") -> list[dict[str, Any]]:
    """The quality of each of the files against the base."""
    from dataclasses import replace

    from quantmill.engine.evaluation import evaluate, open_model
    from quantmill.quality.measurement import against

    with open_model(base) as model, evaluate(model, chunks, replace(run, memory=run.memory // 2)) as hidden:
        return [against(model, hidden, file, chunks, run, str(file)) for file in files]


def _tell(options: argparse.Namespace, found: "FoundMix", measured: list[dict[str, Any]] | None, key: str) -> None:
    from quantmill.statistics import rounded

    report: dict[str, Any] = {
        "file": str(options.target),
        "bytes": found.n_bytes,
        "bits": rounded(found.bits),
        "predicted_kld": rounded(found.predicted),
        "file_type": found.ftype,
        "note": found.note,
        "stock": {"ftype": found.stock, "bytes": found.stock_bytes},
        "types": dict(found.types),
        "sensitivity": {name: rounded(cost) for name, cost in found.sensitivity.items()},
    }
    if measured:
        report["quality"], report["stock"]["quality"] = measured
    if options.json:
        say_json(report)
        return
    say(
        f"{options.target}: {found.n_bytes} bytes, {found.bits:.2f} bits per weight; "
        f"predicted KL divergence {rounded(found.predicted, 3)} on {options.text}",
        f"the stock file of its size is {found.stock}: {found.stock_bytes} bytes",
    )
    if options.export:
        say(
            f"llama-quantize makes the same file of it with --tensor-type-file {options.export} "
            f"--override-kv '{key}=str:{found.note}' and {found.ftype}"
        )
    if measured:
        own, stock = measured
        for name, quality in ((options.target.name, own), (found.stock, stock)):
            say(
                f"{name} on {options.evaluation}: mean KL divergence {quality['kld']['mean']} "
                f"± {quality['kld_error']}, top-1 {quality['top1']:.2%}"
            )
        if own["kld"]["mean"] >= stock["kld"]["mean"]:
            say(f"it is no better than {found.stock} on {options.evaluation}; take the stock file")


def _bits(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found <= 32:
        raise argparse.ArgumentTypeError(f"{text!r} are no bits a weight; write a number like 4.5")
    return found


def _types(text: str) -> tuple[str, ...]:
    from quantmill.reference.ftypes import tensor_type

    return tuple(tensor_type(words(name)).name for name in text.split(","))
