"""How good files are that are quantized by our importance matrix, beside the same by llama-imatrix's.

python benchmarks/imatrix_quality.py BIN [--chunks N]

BIN is the folder of llama.cpp's programs. The tiny model is converted to F16; its importance matrix is measured over
recipes/tiny/calibration.txt by llama-imatrix and by quantmill in either arithmetic; then IQ2_XXS to IQ3_XS are
quantized by each. Prints, for each ftype, llama-perplexity's figure over recipes/tiny/evaluation.txt with the file by
llama-imatrix's matrix, and what those by ours are times that. Exits with 1 when one is more than 1 % off.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

from quantmill.artifact import Context
from quantmill.checkpoint.conversion import convert
from quantmill.engine.chunks import Text, read_text
from quantmill.engine.evaluation import ARITHMETICS, Run
from quantmill.engine.importance_matrix import Options, measure
from quantmill.imatrix import entries
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.llama_cpp.b4867 import B4867

TINY = Path(__file__).parents[1] / "recipes" / "tiny"
FTYPES = ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS")
LIMIT = 0.01


def perplexity(program: Path, model: Path) -> float:
    """llama-perplexity's figure."""
    command = [program, "-m", model, "-f", TINY / "evaluation.txt", "-t", "1"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    found = re.search(r"PPL = ([0-9.]+)", done.stdout + done.stderr)
    assert found
    return float(found[1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", type=Path, metavar="BIN")
    parser.add_argument("--chunks", type=int, help="of the calibration text (all)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = folder / "base.gguf"
        files = {path.name: path for path in TINY.iterdir() if path.suffix in (".json", ".safetensors")}
        convert(files, base, "F16", "Tiny", None, Context())
        matrices = {"llama-imatrix": folder / "llama.dat"}
        command = [options.programs / "llama-imatrix", "-m", base, "-f", TINY / "calibration.txt", "-t", "2"]
        command += ["-o", matrices["llama-imatrix"], *(["--chunks", options.chunks] if options.chunks else [])]
        subprocess.run(list(map(str, command)), capture_output=True, check=True)
        text = Text("calibration.txt", read_text(TINY / "calibration.txt"), Fraction(1))
        for arithmetic in ARITHMETICS:
            found = measure(base, [text], Options(chunks=options.chunks), Run(arithmetic, 2), "base")
            matrices[arithmetic] = folder / f"{arithmetic}.dat"
            matrices[arithmetic].write_bytes(found.sums.legacy(B4867, b"calibration.txt", found.chunks))
            theirs, ours = (entries(matrices[name])[0] for name in ("llama-imatrix", arithmetic))
            assert [(e.name, e.calls) for e in theirs] == [(e.name, e.calls) for e in ours]
        print(f"{'':8} {'llama-imatrix':>14} " + " ".join(f"{name:>8}" for name in ARITHMETICS))
        worst = 0.0
        for ftype in FTYPES:
            values = {}
            for name_, matrix in matrices.items():
                quantize_file(
                    base, folder / "q.gguf", ftype, imatrix=matrix, imatrix_name="i", reference=B4867, threads=2
                )
                values[name_] = perplexity(options.programs / "llama-perplexity", folder / "q.gguf")
            peer = values["llama-imatrix"]
            worst = max(worst, *(abs(values[name_] / peer - 1) for name_ in ARITHMETICS))
            print(f"{ftype:8} {peer:14.4f} " + " ".join(f"{values[name_] / peer:8.5f}" for name_ in ARITHMETICS))
        print(f"furthest from llama-imatrix's: {worst:.3%}")
        sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
