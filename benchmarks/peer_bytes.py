"""Are our files llama-quantize's? Quantize the same base with both and compare the sha256 of the whole files.

    python benchmarks/peer_bytes.py --llama-quantize PATH MODEL.gguf [MODEL.gguf ...] [--imatrix FILE] [--threads 1,2]
                                    [--ftypes Q8_0,Q4_K_M,...] [-- OPTIONS OF BOTH]

Options after `--` are llama-quantize's own (such as `--pure` or `--tensor-type attn_v=q8_0`) and go to both. The `_L`
names are given to llama-quantize as their base with `--token-embedding-type q8_0 --output-tensor-type q8_0`. Where
llama-quantize fails, we must fail too. Prints one line a file and exits with 1 when any differs.
"""

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from quantmill.errors import QuantmillError
from quantmill.quant.file_plan import parse_override
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.ftypes import FTYPES
from quantmill.reference.llama_cpp.b4867 import B4867

NATIVE = "F16,BF16,Q8_0,Q4_0,Q4_1,Q5_0,Q5_1,Q2_K,Q3_K_S,Q3_K_M,Q3_K_L,Q4_K_S,Q4_K_M,Q5_K_S,Q5_K_M,Q6_K"
LARGE = [name for name, ftype in FTYPES.items() if ftype.embedding_and_output]


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ours_of(options: list[str]) -> dict[str, Any]:
    """llama-quantize's options as quantize_file's arguments."""
    found: dict[str, Any] = {"tensor_types": [], "override_kv": [], "include_weights": [], "exclude_weights": []}
    words = iter(options)
    for word in words:
        match word:
            case "--pure" | "--leave-output-tensor" | "--allow-requantize" | "--keep-split":
                found[word[2:].replace("-", "_")] = True
            case "--output-tensor-type" | "--token-embedding-type":
                found[word[2:].replace("-", "_")] = next(words)
            case "--tensor-type":
                name, _, type_ = next(words).partition("=")
                found["tensor_types"].append((name, type_))
            case "--override-kv":
                found["override_kv"].append(parse_override(next(words)))
            case "--include-weights" | "--exclude-weights":
                found[word[2:].replace("-", "_")].append(next(words))
            case _:
                sys.exit(f"{word} is not an option of llama-quantize that changes bytes")
    return found


def peer(binary: Path, base: Path, out: Path, name: str, imatrix: Path | None, options: list[str]) -> float:
    """llama-quantize's processor seconds; -1 when it fails."""
    ftype = FTYPES[name]
    command = [str(binary), *options]
    if ftype.embedding_and_output:
        command += ["--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0"]
    if imatrix:
        command += ["--imatrix", str(imatrix)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*command, str(base), str(out), ftype.base, "2"], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return -1.0 if done.returncode else after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def outputs(out: Path) -> dict[str, str]:
    """The digests of the files that a run left, shards too."""
    return {path.name.removeprefix("theirs").removeprefix("ours"): sha256(path) for path in out.glob("*.gguf")}


def main() -> int:
    own, _, options = (sys.argv[1:], "", [])
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--llama-quantize", type=Path, required=True)
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--ftypes", default=",".join([NATIVE, *LARGE]))
    parser.add_argument("--threads", default="1,2")
    arguments = parser.parse_args(own)
    for path in [*arguments.models, arguments.imatrix, arguments.llama_quantize]:
        if path and not path.is_file():
            parser.error(f"{path} is not a file")
    names = list(FTYPES) if arguments.ftypes == "all" else arguments.ftypes.split(",")
    verdicts: Counter[str] = Counter()
    for model in arguments.models:
        for name in names:
            with tempfile.TemporaryDirectory(dir=model.parent) as folder:
                theirs, ours = Path(folder, "theirs"), Path(folder, "ours")
                theirs.mkdir()
                ours.mkdir()
                spent = peer(arguments.llama_quantize, model, theirs / "theirs.gguf", name, arguments.imatrix, options)
                expected = outputs(theirs) if spent >= 0 else {}
                results = []
                for threads in map(int, arguments.threads.split(",")):
                    started = time.process_time()
                    try:
                        quantize_file(
                            model,
                            ours / "ours.gguf",
                            name,
                            imatrix=arguments.imatrix,
                            reference=B4867,
                            threads=threads,
                            **ours_of(options),
                        )
                        error, found = "", outputs(ours)
                    except QuantmillError as failure:
                        error, found = str(failure), {}
                    seconds = time.process_time() - started
                    verdict = "DIFFERENT" if found != expected else "equal" if expected else "both fail"
                    verdicts[verdict] += 1
                    results.append(f"{threads} threads: {verdict} {seconds:6.2f} s {error}")
                    for path in ours.iterdir():
                        path.unlink()
                digest = next(iter(sorted(expected.values())), "fails")[:12]
                print(f"{model.name:28} {name:8} {digest:12} peer {spent:6.2f} s  {'; '.join(results)}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))
    return 1 if verdicts["DIFFERENT"] else 0


if __name__ == "__main__":
    sys.exit(main())
