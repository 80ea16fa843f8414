"""`quantmill perplexity`: how well a model predicts a text, and how far it is from its base."""

import argparse
from typing import TYPE_CHECKING

from quantmill.commands.common import bar, file_path, parallel, positive, say, say_json, size, threads, told_of
from quantmill.errors import UsageError

if TYPE_CHECKING:
    from quantmill.engine.chunks import Text
    from quantmill.engine.stream import Tokens
    from quantmill.vocabulary.tokenizer import Tokenizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "model", type=file_path, metavar="MODEL", help="a GGUF file, a first shard, or a model's folder"
    )
    parser.add_argument("-f", dest="text", type=file_path, required=True, metavar="TEXT", help="the text, in UTF-8")
    parser.add_argument("--base", type=file_path, metavar="FILE", help="the model to measure the KL divergence to")
    parser.add_argument("--chunks", type=positive, metavar="N", help="of the text (all)")
    parser.add_argument("--n-ctx", type=positive, default=512, metavar="N", help="tokens of a chunk (512)")
    parser.add_argument("--arithmetic", choices=("f32", "bf16x2"), default="f32")
    parser.add_argument("--memory", type=size, default="8GB", metavar="SIZE", help="what may be used (8GB)")
    parser.add_argument("--threads", type=parallel, metavar="N", help="threads (all cores)")
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from dataclasses import replace

    from quantmill.engine.chunks import Text, check_vocabulary, read_text, tokenize
    from quantmill.engine.evaluation import Run, evaluate, open_model
    from quantmill.quality.measurement import against
    from quantmill.statistics import perplexity, rounded
    from quantmill.vocabulary.tokenizer import load

    memory: int = options.memory
    for path in (options.model, options.base):
        if path is not None and not path.exists():
            raise UsageError(f"{path}: there is no such file; give the path of a GGUF file or a model's folder")
    with told_of(options.model):
        tokenizer = load(options.model)
    text = Text(str(options.text), read_text(options.text))
    chunks = tokenize([text], tokenizer, options.n_ctx, count=options.chunks)
    first = options.base or options.model
    with (
        bar(f"perplexity {options.model.name}", "passes of chunks") as progress,
        told_of(first, options.model),
        open_model(first) as model,
    ):
        rows = model.described("token_embd.weight")[0][1]
        if options.base and rows != tokenizer.size:
            raise UsageError(
                f"{first}: its vocabulary has {rows} tokens and that of {options.model} {tokenizer.size}; "
                "compare files of one model"
            )
        if options.base:
            _check_same(options, tokenizer, chunks, text)
        check_vocabulary(tokenizer, rows, str(first))
        run = Run(options.arithmetic, threads(options), memory, None, progress)
        with evaluate(model, chunks, replace(run, memory=memory // 2 if options.base else memory)) as hidden:
            if options.base:
                with told_of(options.model):
                    found = against(model, hidden, options.model, chunks, run, str(options.model))
            else:
                value, deviation = perplexity(hidden.nll().reshape(-1).tolist())
                found = {"perplexity": rounded(value), "perplexity_error": rounded(deviation)}
    found = {**found, "chunks": len(chunks), "n_ctx": options.n_ctx}
    if options.json:
        say_json(found)
        return 0
    say(f"perplexity {found['perplexity']} ± {found['perplexity_error']} over {len(chunks)} chunks of {options.n_ctx}")
    if options.base:
        kld = ", ".join(f"{name} {value}" for name, value in found["kld"].items())
        say(f"KL divergence to {options.base.name}: {kld} (± {found['kld_error']} of the mean)")
        say(
            f"the most likely token is the base's for {found['top1']:.2%} ± {found['top1_error']:.2%}; "
            f"delta-p mean {found['delta_p_mean']:.3%}, RMS {found['delta_p_rms']:.3%}"
        )
    return 0


def _check_same(options: argparse.Namespace, tokenizer: "Tokenizer", chunks: "Tokens", text: "Text") -> None:
    """UsageError when the base has other tokens than the model, or makes others of the text."""
    from quantmill.engine.chunks import tokenize
    from quantmill.vocabulary.tokenizer import load

    base, right = load(options.base), "compare files of one model"
    for id_, (its, own) in enumerate(zip(base.tokens, tokenizer.tokens, strict=False)):
        if its != own:
            raise UsageError(f"{options.base}: its token {id_} is {its!r}, that of {options.model} {own!r}; {right}")
    if tokenize([text], base, options.n_ctx, count=options.chunks).tolist() != chunks.tolist():
        raise UsageError(f"{options.base}: makes other tokens of the text than {options.model}; {right}")
