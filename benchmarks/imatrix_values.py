"""How near our importance matrices are to llama-imatrix's: the same bases, text and chunks, value by value.

python benchmarks/imatrix_values.py BIN MODEL.gguf... [--tag b5490] [--form gguf] [--f32] [--text T] [--chunks 20]
    [--n-ctx 512] [--threads 2]

BIN is the folder of llama.cpp's programs, of that tag. `--form` is that of the files, the tag's own by default.
`--f32` adds an F32 copy of every model, made by our own quantizer. Prints, for each base: whether llama-cli's token ids
of those chunks are ours, where the folder has llama-cli; and for each arithmetic whether the files' metadata, names and
counts of the entries are the tool's, the relative differences of the values (the median over the columns of the tensor
where it is largest, and the worst column of all), and both perplexities. Exits with 1 when ids, metadata, names or
counts differ or an F32 base misses a limit: 0.1 % (median), 1 % (worst column), 0.1 % (perplexity).
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from quantmill import gguf
from quantmill.engine import chunks
from quantmill.engine.chunks import Text
from quantmill.engine.evaluation import ARITHMETICS, Run, open_model
from quantmill.engine.importance_matrix import Options, measure
from quantmill.imatrix import entries, gguf_form, read
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.reference.spans import of_tag
from quantmill.vocabulary import tokenizer

ROOT = Path(__file__).parents[1]
MEDIAN, WORST, PERPLEXITY = 1e-3, 1e-2, 1e-3


def printed(command: list[object]) -> str:
    """What a program prints, which must end well."""
    done = subprocess.run([str(part) for part in command], capture_output=True, check=True)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def same_ids(programs: Path, model: Path, text: Path, count: int, length: int) -> bool:
    """Whether llama-cli, which shows a prompt's ids and then has nothing to say, finds the ids that we find."""
    words = tokenizer.load(model)
    ids = np.array(words.encode(chunks.read_text(text)))
    ours = chunks.chunks(ids, length, words.bos if words.add_bos else None, count=count).reshape(-1)
    command = [programs / "llama-cli", "-m", model, "-f", text, "--verbose-prompt", "-n", "0", "-no-cnv"]
    said = printed([*command, "--no-warmup", "-c", len(ids) + length])
    theirs = [int(found) for found in re.findall(r"^ *(\d+) -> '", said, re.MULTILINE)]
    return theirs[: ours.size] == ours.tolist()


def base_type(model: Path) -> str:
    """The type of the model's matrices."""
    with open_model(model) as opened:
        return opened.described("blk.0.attn_q.weight")[1].name


def facts(path: Path) -> list[object]:
    """What a file says beside its values: of one in GGUF the metadata and tensors, of a legacy one names and counts."""
    with open(path, "rb") as file:
        is_gguf = file.read(4) == b"GGUF"
    if not is_gguf:
        found, dataset, count = entries(path)
        return [[(entry.name, entry.calls) for entry in found], dataset, count]
    with gguf.read(path) as file:
        counts = {name: file.data(info).tobytes() for name, info in file.tensors.items() if name.endswith(".counts")}
        return [list(file.metadata.values()), list(file.tensors.values()), counts]


def compare(options: argparse.Namespace, model: Path, folder: Path) -> bool:
    """Prints the lines of one base; whether it is within what is asked."""
    reference, text, length = of_tag(options.tag), options.text, options.n_ctx
    form = options.form or reference.imatrix.form
    target, ours = folder / f"peer.{form}", folder / f"ours.{form}"
    command = [options.programs / "llama-imatrix", "-m", model, "-f", text, "-o", target, "-c", length]
    command += ["--output-format", form] if options.form else []
    said = printed([*command, "--chunks", options.chunks, "-t", options.threads])
    predicted = re.search(r"Final estimate: PPL = ([\d.]+)", said)
    assert predicted, "llama-imatrix tells a perplexity at the end"
    peer, type_ = float(predicted[1]), base_type(model)
    theirs = read(target).vectors
    fine, ids = True, "not compared"
    if (options.programs / "llama-cli").exists():
        fine = same_ids(options.programs, model, text, options.chunks, length)
        ids = "equal" if fine else "DIFFER"
    print(f"{model.name} ({type_}), {options.chunks} chunks of {length}, {form}: token ids {ids}")
    for arithmetic in ARITHMETICS:
        measured = measure(
            model,
            [Text(str(text), chunks.read_text(text))],
            Options(length, options.chunks),
            Run(arithmetic, options.threads, reference=reference),
            str(model),
            form=form,
        )
        if form == "gguf":
            gguf_form.write(ours, measured.sums.stored(length))
        else:
            ours.write_bytes(measured.sums.legacy(reference, str(text).encode(), measured.chunks))
        mine = read(ours).vectors
        same = facts(ours) == facts(target)
        differences = []
        for name in mine.keys() & theirs.keys():
            one, other = np.asarray(mine[name]), np.asarray(theirs[name])
            differences.append(np.abs(one - other) / np.maximum(np.abs(other), np.float32(1e-30)))
        median, worst = max(float(np.median(d)) for d in differences), max(float(d.max()) for d in differences)
        perplexity = float(measured.report["perplexity"])
        away = abs(perplexity / peer - 1)
        print(
            f"  {arithmetic:6} {len(mine)} entries, all but the values {'equal' if same else 'DIFFERENT'}; "
            f"median {median:.4%}, worst column {worst:.4%}; "
            f"perplexity {perplexity:.4f}, the tool's {peer:.4f} ({away:.4%})",
            flush=True,
        )
        near = median <= MEDIAN and worst <= WORST and away <= PERPLEXITY
        fine = fine and same and (near or type_ != "F32")
    return fine


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=Path, metavar="BIN")
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--tag", default="b5490")
    parser.add_argument("--form", choices=("dat", "gguf"))
    parser.add_argument("--f32", action="store_true")
    parser.add_argument("--text", type=Path, default=ROOT / "recipes" / "tiny" / "calibration.txt")
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--n-ctx", type=int, default=512)
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
                fine &= compare(options, base, folder)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
