"""How near our importance matrices are to llama-imatrix's: the same bases, text and chunks, value by value.

python benchmarks/imatrix_values.py BIN MODEL.gguf... [--f32] [--text T] [--chunks 20] [--threads 2]

BIN is the folder of llama.cpp's programs. `--f32` adds an F32 copy of every model, made by our own quantizer. Prints,
for each base: whether llama-cli's token ids of those chunks are ours; and for each arithmetic whether names and counts
of the entries are the tool's, the relative differences of the values (the median over the columns of the tensor where
it is largest, and the worst column of all), and both perplexities. Exits with 1 when ids, names or counts differ or an
F32 base misses a limit: 0.1 % (median), 1 % (worst column), 0.1 % (perplexity).
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from quantmill.engine import chunks
from quantmill.engine.chunks import Text
from quantmill.engine.evaluation import ARITHMETICS, Run, open_model
from quantmill.engine.importance_matrix import Options, measure
from quantmill.imatrix import entries
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.vocabulary import tokenizer

ROOT = Path(__file__).parents[1]
LENGTH = 512
MEDIAN, WORST, PERPLEXITY = 1e-3, 1e-2, 1e-3


def printed(command: list[object]) -> str:
    """What a program prints, which must end well."""
    done = subprocess.run([str(part) for part in command], capture_output=True, check=True)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def same_ids(programs: Path, model: Path, text: Path, count: int) -> bool:
    """Whether llama-cli, which shows a prompt's ids and then has nothing to say, finds the ids that we find."""
    words = tokenizer.load(model)
    ids = np.array(words.encode(chunks.read_text(text)))
    ours = chunks.chunks(ids, LENGTH, words.bos if words.add_bos else None, count=count).reshape(-1)
    command = [programs / "llama-cli", "-m", model, "-f", text, "--verbose-prompt", "-n", "0", "-no-cnv"]
    said = printed([*command, "--no-warmup", "-c", len(ids) + LENGTH])
    theirs = [int(found) for found in re.findall(r"^ *(\d+) -> '", said, re.MULTILINE)]
    return theirs[: ours.size] == ours.tolist()


def base_type(model: Path) -> str:
    """The type of the model's matrices."""
    with open_model(model) as opened:
        return opened.described("blk.0.attn_q.weight")[1].name


def compare(programs: Path, model: Path, text: Path, count: int, threads: int, folder: Path) -> bool:
    """Prints the lines of one base; whether it is within what is asked."""
    target = folder / "peer.dat"
    command = [programs / "llama-imatrix", "-m", model, "-f", text, "-o", target, "-c", LENGTH]
    said = printed([*command, "--chunks", count, "-t", threads])
    found = re.search(r"Final estimate: PPL = ([\d.]+)", said)
    assert found, "llama-imatrix tells a perplexity at the end"
    peer, type_ = float(found[1]), base_type(model)
    theirs = {entry.name: entry for entry in entries(target)[0]}
    fine = same_ids(programs, model, text, count)
    print(f"{model.name} ({type_}), {count} chunks of {LENGTH}: token ids {'equal' if fine else 'DIFFER'}")
    for arithmetic in ARITHMETICS:
        measured = measure(
            model,
            [Text(text.name, chunks.read_text(text))],
            Options(LENGTH, count),
            Run(arithmetic, threads),
            str(model),
        )
        ours = folder / "ours.dat"
        ours.write_bytes(measured.sums.legacy(B4867, text.name.encode(), measured.chunks))
        mine = {entry.name: entry for entry in entries(ours)[0]}
        names = mine.keys() == theirs.keys()
        counts = names and all(mine[name].calls == theirs[name].calls for name in mine)
        differences = []
        for name in mine.keys() & theirs.keys():
            one, other = np.asarray(mine[name].values), np.asarray(theirs[name].values)
            differences.append(np.abs(one - other) / np.maximum(np.abs(other), np.float32(1e-30)))
        median, worst = max(float(np.median(d)) for d in differences), max(float(d.max()) for d in differences)
        perplexity = float(measured.report["perplexity"])
        away = abs(perplexity / peer - 1)
        same = f"names {'equal' if names else 'DIFFER'}, counts {'equal' if counts else 'DIFFER'}"
        values = f"median {median:.4%}, worst column {worst:.4%}"
        predicted = f"perplexity {perplexity:.4f}, the tool's {peer:.4f} ({away:.4%})"
        print(f"  {arithmetic:6} {len(mine)} {same}; {values}; {predicted}")
        near = median <= MEDIAN and worst <= WORST and away <= PERPLEXITY
        fine = fine and names and counts and (near or type_ != "F32")
        sys.stdout.flush()
    return fine


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=Path, metavar="BIN")
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--f32", action="store_true")
    parser.add_argument("--text", type=Path, default=ROOT / "recipes" / "tiny" / "calibration.txt")
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    fine = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in options.models:
            bases = [model]
            if options.f32:
                bases.append(folder / f"{model.stem}-as-f32.gguf")
                quantize_file(model, bases[1], "F32", reference=B4867, threads=options.threads)
            for base in bases:
                fine &= compare(options.programs, base, options.text, options.chunks, options.threads, folder)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
