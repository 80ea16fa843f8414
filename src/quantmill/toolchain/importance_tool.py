"""The importance of a model's columns, measured by the llama-imatrix of a llama.cpp."""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.disk import below
from quantmill.toolchain.installed import IMATRIX, program
from quantmill.toolchain.subprogram import ToolFailed, last_words, run

_COUNT, _DONE = re.compile(r"computing over (\d+) chunks"), re.compile(r"\[(\d+)\]-?[\d.]+")
_FINAL = re.compile(r"Final estimate: PPL = ([\d.]+) \+/- ([\d.]+)")


@dataclass(frozen=True)
class ImatrixOptions:
    """What is to be measured; `name` is what the file calls the text. `chunks` None: all of them."""

    model: Path
    text: Path
    name: str
    n_ctx: int = 512
    chunks: int | None = None
    from_chunk: int = 0
    process_output: bool = False
    perplexity: bool = True
    parse_special: bool = False
    args: Sequence[str] = ()


def measure(
    facts: Mapping[str, Any],
    asked: ImatrixOptions,
    out: Path,
    work: Path,
    threads: int,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Write the matrix to the new file `out`, and return the text's `perplexity` and its error, or None for both.

    `facts` are the lock's of the toolchain; `work` is a new folder for what it needs. UsageError where the toolchain is
    not here; ToolFailed where it fails or writes nothing.
    """
    tool = program(facts, "imatrix")
    name = asked.name if below(asked.name) and not asked.name.endswith(".gguf") else Path(asked.name).name or "text"
    work.mkdir()
    text = work / name
    text.parent.mkdir(parents=True, exist_ok=True)
    text.symlink_to(asked.text.resolve())
    command = [str(tool), "-m", str(asked.model.resolve()), "-f", name, "-o", str(out.absolute())]
    command += ["-c", str(asked.n_ctx), "-t", str(threads)]
    command += ["--chunks", str(asked.chunks)] if asked.chunks else []
    command += ["--chunk", str(asked.from_chunk)] if asked.from_chunk else []
    command += ["--process-output"] * asked.process_output + ["--no-ppl"] * (not asked.perplexity)
    command += ["--parse-special"] * asked.parse_special

    chunks, told = 0, f"{IMATRIX} of llama.cpp {facts['llama_cpp']}"

    def heard(said: str) -> None:
        nonlocal chunks
        chunks = int(found[1]) if (found := _COUNT.search(said)) else chunks
        if chunks and (done := _DONE.findall(said)):
            progress(min(int(done[-1]), chunks), chunks)

    said = run([*command, *asked.args], told, work, heard)
    if not out.is_file():
        raise ToolFailed(f"{told} wrote no file: {last_words(said)}")
    final = _FINAL.findall(said)
    shutil.rmtree(work)
    perplexity, error = map(float, final[-1]) if final else (None, None)
    return {"perplexity": perplexity, "perplexity_error": error}
