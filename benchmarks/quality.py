"""Quality as measured here beside llama-perplexity: perplexity, KL divergence, and the speed of getting them.

    python benchmarks/quality.py --llama-cpp DIR BASE.gguf TEXT [--imatrix FILE] [--ftypes Q8_0,...] [--chunks N]
    python benchmarks/quality.py --speed --llama-cpp DIR BASE.gguf TEXT [--ftypes Q4_K_M] [--chunks N]

DIR holds llama-perplexity and llama-quantize. llama.cpp rounds activations before it multiplies, to 8 bits for
quantized weights and to float16 for F16 ones, and this project does not when it measures. Whether this is all the
difference shows from both sides: each file is also expanded to F32, where llama.cpp does not round either, and
evaluated here with activations rounded as llama.cpp does (`peer_rounding.py`). For each quantity, in one run:

    peer      llama-perplexity, and in how much ours differs from it
    rounded   ours with llama.cpp's rounding put in, and in how much that differs from the peer's
    expanded  llama-perplexity on the files (and the base) as F32, and in how much ours differs from it

With --speed, tokens a second instead: whole processes by the clock, both with the same threads, in turns.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

FTYPES = "Q8_0,Q4_K_M,IQ4_XS,IQ3_M,IQ2_M"
ROUNDING = Path(__file__).parent / "peer_rounding.py"
LENGTH = 512  # tokens of a chunk


def output(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{command[0]} failed with code {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout


def number(pattern: str, text: str) -> float:
    (found,) = re.findall(pattern + r"([\d.]+)", text)
    return float(found)


@dataclass(frozen=True)
class Tools:
    """The programs of both sides, with their options."""

    folder: Path
    text: Path
    chunks: int
    threads: int
    arithmetic: str

    def peer(self, *options: object) -> str:
        threads = ("-t", self.threads, "--chunks", self.chunks)
        return output(self.folder / "llama-perplexity", *threads, *options)

    def peers(self, file: Path) -> str:
        return self.peer("-m", file, "-f", self.text)

    def expanded(self, file: Path, to: Path) -> Path:
        output(self.folder / "llama-quantize", "--allow-requantize", file, to, "F32", self.threads)
        return to

    def quantized(self, base: Path, to: Path, ftype: str, imatrix: Path | None) -> Path:
        matrix = ("--imatrix", imatrix) if imatrix else ()
        output(sys.executable, "-m", "quantmill.cli", "quantize", base, to, ftype, *matrix)
        return to

    def ours(self, file: Path, base: Path | None, rounding: bool = False) -> tuple[float, float]:
        """(perplexity, mean KLD)."""
        program = [ROUNDING] if rounding else ["-m", "quantmill.cli", "perplexity"]
        options: list[object] = ["--json", "-f", self.text, "--chunks", self.chunks, "--threads", self.threads]
        options += ["--arithmetic", self.arithmetic, *(["--base", base] if base else [])]
        found = json.loads(output(sys.executable, *program, *options, file))
        return found["perplexity"], found["kld"]["mean"] if base else 0.0


def row(name: str, ours: float, peer: float, rounded: float, expanded: float) -> None:
    print(
        f"  {name:10} ours {ours:.6g}; peer {peer:.6g} ({ours / peer - 1:+.3%}); "
        f"rounded {rounded:.6g} ({rounded / peer - 1:+.3%}); expanded {expanded:.6g} ({ours / expanded - 1:+.3%})",
        flush=True,
    )


def compare(tools: Tools, options: argparse.Namespace, work: Path) -> None:
    wide, file, logits, wide_logits = (work / name for name in ("wide.gguf", "file.gguf", "logits", "wide-logits"))
    final = r"Final estimate: PPL = "
    print("base")
    peer = number(final, tools.peer("-m", options.base, "-f", options.text, "--kl-divergence-base", logits))
    tools.expanded(options.base, wide)
    expanded = number(final, tools.peer("-m", wide, "-f", options.text, "--kl-divergence-base", wide_logits))
    row("perplexity", tools.ours(options.base, None)[0], peer, tools.ours(options.base, None, True)[0], expanded)
    for ftype in options.ftypes.split(","):
        print(ftype)
        tools.quantized(options.base, file, ftype, options.imatrix)
        found = [tools.ours(file, options.base), tools.ours(file, options.base, True)]
        for path, base in ((file, logits), (tools.expanded(file, wide), wide_logits)):
            text = tools.peer("-m", path, "--kl-divergence", "--kl-divergence-base", base)
            found.append((number(r"Mean PPL\(Q\) +: +", text), number(r"Mean +KLD: +", text)))
        ours, rounded, peers, expandeds = found
        for i, name in enumerate(("perplexity", "mean KLD")):
            row(name, ours[i], peers[i], rounded[i], expandeds[i])


def speed(tools: Tools, options: argparse.Namespace, work: Path) -> None:
    files = {"base": options.base}
    for ftype in options.ftypes.split(","):
        files[ftype] = tools.quantized(options.base, work / f"{ftype}.gguf", ftype, options.imatrix)
    for name, file in files.items():
        begin = time.perf_counter()
        said = tools.peers(file)
        between = time.perf_counter()
        tools.ours(file, None)
        end = time.perf_counter()
        tokens, peer, ours = LENGTH * number(r"calculating perplexity over ", said), between - begin, end - between
        print(f"{name:8} tokens/s: llama-perplexity {tokens / peer:.0f}, ours {tokens / ours:.0f},", end=" ")
        print(f"{peer / ours:.2f} times", flush=True)


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
    parser.add_argument("--speed", action="store_true")
    options = parser.parse_args()
    tools = Tools(options.llama_cpp, options.text, options.chunks, options.threads, options.arithmetic)
    with tempfile.TemporaryDirectory() as folder:
        (speed if options.speed else compare)(tools, options, Path(folder))


if __name__ == "__main__":
    main()
