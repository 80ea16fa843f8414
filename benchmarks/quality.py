"""Quality as measured here beside llama-perplexity: perplexity, KL divergence, and the speed of getting them.

    python benchmarks/quality.py --llama-cpp DIR BASE.gguf TEXT [--imatrix FILE] [--ftypes Q8_0,...] [--chunks N]

DIR holds llama-perplexity and llama-quantize. llama.cpp rounds activations to 8 bits before it multiplies them with
quantized weights, and this project does not when it measures; so each file is also expanded to F32 (`expanded`), where
llama.cpp multiplies as the measurement here does: that the two agree says that the rest of a difference is this
rounding. One run, both with the same threads; seconds are of the clock, whole processes.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FTYPES = "Q8_0,Q4_K_M,IQ4_XS,IQ3_M,IQ2_M"


def timed(command: list[str]) -> tuple[str, float]:
    begin = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    return done.stdout, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", type=Path, required=True, metavar="DIR")
    parser.add_argument("base", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--ftypes", default=FTYPES)
    parser.add_argument("--chunks", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--arithmetic", default="f32")
    options = parser.parse_args()
    theirs = [str(options.llama_cpp / "llama-perplexity"), "-t", str(options.threads), "--chunks", str(options.chunks)]
    ours = [sys.executable, "-m", "quantmill.cli"]
    measure = [*ours, "perplexity", "--json", "-f", str(options.text), "--chunks", str(options.chunks)]
    measure += ["--threads", str(options.threads), "--arithmetic", options.arithmetic]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        logits = str(work / "logits")
        text, taken = timed([*theirs, "-m", str(options.base), "-f", str(options.text)])
        found, spent = timed([*measure, str(options.base)])
        value = json.loads(found)["perplexity"]
        (peer,) = re.findall(r"Final estimate: PPL = ([\d.]+)", text)
        print(f"{'base':8} perplexity {value:9.4f}, peer {peer}: {float(value) / float(peer) - 1:+.4%};", end=" ")
        print(f"{taken / spent:.2f} times its speed")
        timed([*theirs, "-m", str(options.base), "-f", str(options.text), "--kl-divergence-base", logits])
        for ftype in options.ftypes.split(","):
            file, expanded = work / f"{ftype}.gguf", work / "expanded.gguf"
            matrix = ["--imatrix", str(options.imatrix)] if options.imatrix else []
            timed([*ours, "quantize", str(options.base), str(file), ftype, *matrix])
            timed([str(options.llama_cpp / "llama-quantize"), "--allow-requantize", str(file), str(expanded), "F32"])
            _, taken = timed([*theirs, "-m", str(file), "-f", str(options.text)])
            _, spent = timed([*measure, str(file)])
            found, _ = timed([*measure, "--base", str(options.base), str(file)])
            mine = json.loads(found)
            kld = [theirs[0], "-t", str(options.threads), "--kl-divergence", "--kl-divergence-base", logits, "-m"]
            peers = [timed([*kld, str(path)])[0] for path in (file, expanded)]
            values = [
                (
                    float(*re.findall(r"Mean PPL\(Q\) +: +([\d.]+)", peer)),
                    float(*re.findall(r"Mean +KLD: +([\d.]+)", peer)),
                )
                for peer in peers
            ]
            shares = [
                f"{name}: {mine['perplexity'] / p - 1:+.4%}, KLD {k:.6f} ({mine['kld']['mean'] / k - 1:+.2%})"
                for name, (p, k) in zip(("peer", "expanded"), values, strict=True)
            ]
            print(
                f"{ftype:8} perplexity {mine['perplexity']:9.4f}, KLD {mine['kld']['mean']:.6f};",
                "; ".join(shares),
                end="; ",
            )
            print(f"{taken / spent:.2f} times the speed", flush=True)


if __name__ == "__main__":
    main()
