"""What quantized kernels cost in quality: their logits beside the exact engine's, for every type of the matrix.

    python benchmarks/logits.py BASE.gguf TEXT [--imatrix FILE] [--ftypes Q8_0,...] [--chunks N]

For each file, over the same chunks of 512 tokens as llama-perplexity: its own mean KL divergence to the base, by the
engine, which rounds nothing; then that of the kernels of `generate` and `bench` to the engine on the same file, with
activations of 16 bits (the default) and of 8, and their perplexity. The bar is 2 % of the file's own divergence, or
1e-4.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantmill.engine.chunks import Text, read_text, tokenize
from quantmill.engine.evaluation import HiddenStates, Run, evaluate, open_model
from quantmill.quality.divergence import Divergence, Predictions, compare
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.ftypes import STANDARD_MATRIX
from quantmill.runtime.loader import load
from quantmill.vocabulary.tokenizer import load as tokenizer

SHARE, LEAST = 0.02, 1e-4


class OnBlocks:
    """The predictions of a file on quantized kernels."""

    def __init__(self, file: Path, tokens: NDArray[np.int32], bits: int, threads: int) -> None:
        self.chunks, self.length = tokens.shape
        self.rows = self.length - 1 - self.length // 2
        self._tokens = tokens
        self._model = load(file, context=self.length, threads=threads, activation_bits=bits)

    def logits(self, first: int, last: int) -> NDArray[np.float32]:
        counted = slice(self.length // 2, self.length - 1)
        parts = [self._model.evaluate(chunk, 0, every=True)[counted] for chunk in self._tokens[first:last]]
        return np.concatenate(parts)


def compared(base: Predictions, other: Predictions, hidden: HiddenStates, threads: int) -> Divergence:
    targets = hidden.targets(0, hidden.chunks).reshape(hidden.chunks, -1)
    return compare(base, other, targets, threads, lambda done, total: None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--ftypes", help="(the standard matrix)")
    parser.add_argument("--chunks", type=int)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    ftypes = options.ftypes.split(",") if options.ftypes else STANDARD_MATRIX
    texts = [Text(str(options.text), read_text(options.text))]
    tokens = tokenize(texts, tokenizer(options.base), 512, count=options.chunks)
    threads, run = options.threads, Run(threads=options.threads)
    missed = 0
    print(
        f"{len(tokens)} chunks; KL divergence of a file to its base, then of its logits on quantized kernels to those"
    )
    with (
        open_model(options.base) as model,
        evaluate(model, tokens, run) as base,
        tempfile.TemporaryDirectory() as folder,
    ):
        file = Path(folder) / "file.gguf"
        for ftype in ftypes:
            quantize_file(options.base, file, ftype, imatrix=options.imatrix, threads=threads)
            with open_model(file) as quantized, evaluate(quantized, tokens, run) as exact:
                own = compared(base, exact, exact, threads)
                bar = max(SHARE * own.kld["mean"], LEAST)
                line = f"{ftype:8} {own.kld['mean']:.3e}, perplexity {own.perplexity:.4f};"
                for bits in (16, 8):
                    found = compared(exact, OnBlocks(file, tokens, bits, threads), exact, threads)
                    kld = found.kld["mean"]
                    missed += bits == 16 and kld >= bar
                    line += f" {bits} bits: {kld:.2e} ({kld / own.kld['mean']:.2%}"
                    line += f"{'' if kld < bar else ', ABOVE the bar'}), perplexity {found.perplexity:.4f};"
            print(line.rstrip(";"), flush=True)
    print(f"{len(ftypes) - missed} of {len(ftypes)} files keep the bar with 16 bits")


if __name__ == "__main__":
    main()
