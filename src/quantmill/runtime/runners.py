"""What runs the tests of speed: these kernels, or a llama-bench on PATH."""

import json
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf.source import Source
from quantmill.reference.ftypes import BY_NUMBER
from quantmill.runtime.loader import LoadedModel, load
from quantmill.runtime.speeds import Timing, Trial


class Kernels:
    """These kernels. One model is loaded at a time, so that many files take the memory of the largest."""

    def __init__(self, context: int, threads: int, repack: bool = True, activation_bits: int = 16) -> None:
        self._context, self._threads, self._repack, self._bits = context, threads, repack, activation_bits
        self._loaded: LoadedModel | None = None

    def run(self, file: Path, tests: Sequence[Trial]) -> list[Timing]:
        """One repetition of each test, after a warm-up of a new model."""
        model = self._loaded
        if model is None or model.path != file:
            model = self._loaded = None  # the memory of the one before, first
            model = self._loaded = load(
                file,
                context=self._context,
                threads=self._threads,
                repack=self._repack,
                activation_bits=self._bits,
            )
            warm = np.zeros(min(64, model.context - 1), np.int32)
            model.evaluate(warm, 0)
            model.evaluate(warm[:1], len(warm))
        backend = model.backend + ("" if self._repack else ", not repacked")
        backend += "" if self._bits == 16 else f", {self._bits}-bit activations"
        facts = (*_named(model.metadata, file), model.bytes, model.parameters, backend, self._threads)
        return [Timing(file, *facts, test, [test.count / self._seconds(model, test)]) for test in tests]

    @staticmethod
    def _seconds(model: LoadedModel, test: Trial) -> float:
        if test.count > model.context:
            raise UsageError(
                f"{model.path}: the test {test.name} needs a context of {test.count} tokens; its own is {model.context}"
            )
        tokens = np.random.default_rng(0).integers(0, model.hyper.n_vocab, test.count).astype(np.int32)
        started = time.perf_counter()
        if test.kind == "pp":
            model.evaluate(tokens, 0)
        else:
            for position in range(test.count):
                model.evaluate(tokens[position : position + 1], position)
        return time.perf_counter() - started


class LlamaBench:
    """A llama-bench, asked for JSON: the one that `call` begins with, in `environment`, else one found on PATH. It is
    given `args` too. `versions` is filled by the first run.

    `otherwise` is how the caller's user asks for what needs none, for the sentence of the error when there is none.
    """

    def __init__(
        self,
        threads: int,
        otherwise: str = "--runtime kernels",
        call: Sequence[str] = (),
        args: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        found = None if call else shutil.which("llama-bench")
        if found is None and not call:
            raise UsageError(f"there is no llama-bench on PATH; install llama.cpp, or measure with {otherwise}")
        self._call, self._threads = [*call] or [str(found)], threads
        self._args, self._environment = args, environment
        self.versions: dict[str, str] = {}

    def run(self, file: Path, tests: Sequence[Trial]) -> list[Timing]:
        """One repetition of each test, after llama-bench's own warm-up."""
        counts = {kind: ",".join(str(t.count) for t in tests if t.kind == kind) or "0" for kind in ("pp", "tg")}
        command = [*self._call, "-m", str(file.absolute()), "-p", counts["pp"], "-n", counts["tg"]]
        command += ["-t", str(self._threads), "-r", "1", "-o", "json", *self._args]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self._environment)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise QuantmillError(f"{file}: llama-bench failed with code {done.returncode}: {last}")
        try:
            return [self._row(file, entry, tests) for entry in json.loads(done.stdout)]
        except (ValueError, KeyError, TypeError, StopIteration):
            raise QuantmillError(f"{file}: llama-bench's JSON is not understood; use one of b5490 or later") from None

    def _row(self, file: Path, entry: dict[str, Any], tests: Sequence[Trial]) -> Timing:
        kind, count = ("pp", entry["n_prompt"]) if entry["n_prompt"] else ("tg", entry["n_gen"])
        test = next(test for test in tests if (test.kind, test.count) == (kind, count))
        self.versions["llama.cpp"] = f"{entry['build_number']} ({entry['build_commit']})"
        with Source(file) as source:
            facts = (*_named(source.metadata, file), entry["model_size"], entry["model_n_params"])
        return Timing(file, *facts, f"llama.cpp {entry['backends']}", self._threads, test, [float(entry["avg_ts"])])


def _named(metadata: Any, file: Path) -> tuple[str, str]:
    """(model, ftype)."""
    name, type_ = metadata.get("general.name"), metadata.get("general.file_type")
    model = str(name.value) if name else file.stem
    found = BY_NUMBER.get(type_.value) if type_ else None
    return model, found.name if found else "?"
