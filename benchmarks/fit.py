"""Files that `quantmill fit` finds beside the stock files of their size: divergence, what was predicted, and the cost.

    python benchmarks/fit.py BASE.gguf --imatrix FILE -f TEXT -e TEXT [-e TEXT ...] [--ftypes Q4_K_M,...] [--chunks N]
        [--evaluation-chunks N] [--n-ctx N] [--keep FILE] [--memory SIZE] [--threads N]

The sensitivities are measured once, on `--chunks` of the text of -f; a file is then found for the size of each ftype,
and both are measured on each text of -e. A line tells ftype, text, bytes of both, mean KL divergence of both, ours as
a share of the stock file's, what was predicted as a share of what was measured, and top-1 of both. With `--keep` the
sensitivities are read from the file, or written to it.

Then the cost: processor time of the sensitivities, and beside it that of measuring the quality of 26 files on as many
chunks as the first -e has, from the mean of those that were measured; and the peak of memory.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from quantmill.engine.chunks import Text, read_text, tokenize
from quantmill.engine.evaluation import Run, evaluate, open_model
from quantmill.mix_search.search import Measured, Sought, find_mix, measure, spread
from quantmill.mix_search.space import Target
from quantmill.quality.measurement import against
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.ftypes import STANDARD_MATRIX
from quantmill.reference.spans import newest
from quantmill.units import parse_size
from quantmill.vocabulary.tokenizer import load

FTYPES = "Q5_K_M,Q4_K_M,IQ4_XS,Q3_K_M,IQ3_M,IQ3_XXS,IQ2_M,IQ2_XXS"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--imatrix", type=Path, required=True)
    parser.add_argument("-f", dest="text", type=Path, required=True)
    parser.add_argument("-e", dest="evaluation", type=Path, action="append", required=True)
    parser.add_argument("--ftypes", default=FTYPES)
    parser.add_argument("--chunks", type=int, default=8)
    parser.add_argument("--evaluation-chunks", type=int, default=20)
    parser.add_argument("--n-ctx", type=int, default=512)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--memory", type=parse_size, default=8 << 30)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    tokenizer, reference = load(options.base), newest()

    def chunks(path: Path, count: int):  # type: ignore[no-untyped-def]
        return spread(tokenize([Text(str(path), read_text(path))], tokenizer, options.n_ctx), count)

    sought = Sought(options.base, options.imatrix, options.imatrix.name, reference)
    run = Run("f32", options.threads, options.memory)
    spent, measuring, count = 0.0, 0.0, 0
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if options.keep and options.keep.is_file():
            measured = Measured.of(json.loads(options.keep.read_text()))
        else:
            measured = measure(sought, chunks(options.text, options.chunks), run, work)
            spent = time.process_time()
            if options.keep:
                options.keep.write_text(json.dumps(vars(measured)))
        found = {}
        for ftype in options.ftypes.split(","):
            mix = found[ftype] = find_mix(sought, measured, Target(like=ftype))
            shared = {"imatrix": options.imatrix, "reference": reference, "threads": options.threads}
            quantize_file(options.base, work / f"{ftype}.stock", ftype, **shared)
            quantize_file(options.base, work / f"{ftype}.found", mix.ftype, tensor_types=mix.patterns, **shared)
        for text in options.evaluation:
            tokens = chunks(text, options.evaluation_chunks)
            with open_model(options.base) as base, evaluate(base, tokens, run) as hidden:
                for ftype, mix in found.items():
                    began = time.process_time()
                    stock, ours = (
                        against(base, hidden, work / f"{ftype}.{kind}", tokens, run, ftype)
                        for kind in ("stock", "found")
                    )
                    if text == options.evaluation[0]:
                        measuring, count = measuring + time.process_time() - began, count + 2
                    theirs, mine = stock["kld"]["mean"], ours["kld"]["mean"]
                    print(
                        f"{ftype:8} {text.name}: bytes {mix.stock_bytes:,} and {mix.n_bytes:,}; divergence "
                        f"{theirs:.6f} and {mine:.6f}, share {mine / theirs:.3f}, "
                        f"predicted {mix.predicted / mine:.3f}; top-1 {stock['top1']:.2%} and {ours['top1']:.2%}",
                        flush=True,
                    )
    files = measuring / count * len(STANDARD_MATRIX)
    print(f"processor: sensitivities {spent:.1f} s; quality of {len(STANDARD_MATRIX)} files {files:.1f} s; ", end="")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
