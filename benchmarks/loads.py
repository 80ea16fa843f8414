"""Whether llama.cpp loads and generates from what odd checkpoints are converted to; see benchmarks/README.md.

Each checkpoint of broken.py, faulty_tokenizers.py and mutants.py in tests/golden/convert_golden, and each file given:
refused by a plan or a conversion, or loaded and generated from by the xllamacpp of another environment, in a process of
its own. `--record` keeps the digests of what becomes of mutants, for the suite; `--seed` draws others.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from quantmill.artifact import Context
from quantmill.checkpoint.conversion import convert
from quantmill.errors import QuantmillError

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "golden"))

from convert_golden import broken, faulty_tokenizers, mutants  # noqa: E402  (found through the line above)
from convert_golden.classes.registry import CHECKPOINTS  # noqa: E402

LOAD = """
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_predict, params.n_parallel = sys.argv[1], 128, 2, 1
params.cpuparams.n_threads, params.n_gpu_layers, params.warmup = 1, 0, False
answer = xllamacpp.Server(params).handle_completions({"prompt": "ab the 12", "n_predict": 2})
print("GENERATED", answer["usage"]["completion_tokens"], flush=True)
os._exit(0)  # its threads do not always end
"""


def made(folder: Path, only: str, seed: str) -> Iterator[tuple[str, str, Path | Exception | None]]:
    """The kind and the name of each checkpoint, and the file that becomes of it, None where it is refused."""
    for class_, name in broken.cases():
        if only in f"{class_} {name}":
            place = folder / class_ / name
            broken.write(place / "base", class_, broken.CHANGES[name])
            yield class_, name, broken.built(place) if broken.refused(place) is None else None
    for number, (kind, name, edit, _) in enumerate(faulty_tokenizers.faults()):
        if only in f"{kind} {name}":
            path = folder / f"{number}.gguf"
            try:
                files = faulty_tokenizers.write(folder / str(number), kind, edit)
                convert(files, path, "F32", "model", None, Context())
                yield kind, name, path
            except QuantmillError:
                yield kind, name, None
    for kind, checkpoint in CHECKPOINTS.items():
        for mutant in mutants.mutants(checkpoint, seed=seed):
            if only in f"{kind} {mutant.name}":
                with TemporaryDirectory(dir=folder) as place:
                    path: Path | Exception | None = None
                    with suppress(QuantmillError):
                        try:
                            path = mutants.built(checkpoint, mutant, Path(place) / kind)
                        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
                            path = error
                    yield kind, mutant.name, path


def problem(python: str, path: Path | Exception) -> str:
    """What the other program says of a file that it does not generate from; nothing for one that it does."""
    if isinstance(path, Exception):
        return f"ends in a traceback: {path!r}"
    call = [python, "-c", LOAD, str(path)]
    try:
        done = subprocess.run(call, capture_output=True, text=True, errors="replace", timeout=120)
    except subprocess.TimeoutExpired:
        return "no answer within two minutes"
    good = done.returncode == 0 and "GENERATED" in done.stdout
    return "" if good else f"exit code {done.returncode}\n{done.stderr[-1500:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="a Python that has xllamacpp")
    parser.add_argument("files", nargs="*", type=Path, help="further files")
    text = "write the mutants' digests to mutants.json; with --only, of those whole checkpoints"
    parser.add_argument("--record", action="store_true", help=text)
    parser.add_argument("--only", default="", help="checkpoints whose kind or change holds this text")
    parser.add_argument("--seed", default="", help="draw other mutants than the suite's")
    options = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    failed = False
    digests: dict[str, dict[str, str]] = {kind: {} for kind in CHECKPOINTS}
    with TemporaryDirectory() as folder:
        given = (("file", str(path), path) for path in options.files)
        for kind, name, path in chain(given, made(Path(folder), options.only, options.seed)):
            said = path and problem(options.python, path)
            outcome = "refused" if path is None else "failed" if said else "generated"
            counts[kind, outcome] += 1
            if said:
                failed = True
                print(f"{kind}, {name}: {said}", flush=True)
            elif isinstance(path, Path) and kind in digests:
                digests[kind][name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    for kind in dict.fromkeys(kind for kind, _ in counts):
        print(kind, {outcome: counts[kind, outcome] for outcome in ("refused", "generated", "failed")})
    if options.record and not options.seed:
        kept = json.loads(mutants.RECORD.read_text()) if options.only else {}
        found = {kind: digests[kind] or kept.get(kind) for kind in digests if digests[kind] or kind in kept}
        mutants.RECORD.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
