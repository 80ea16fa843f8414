"""Running a program of the toolchain: apart, with its progress heard, its last words kept and nothing left of it."""

import codecs
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from quantmill.errors import QuantmillError
from quantmill.toolchain import child

TAIL = 16_000  # characters of its last words
PASSED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
_DRIVERS = "CUDA HIP HSA ROCR GGML NVIDIA ONEAPI SYCL VK"  # of GPUs, whose variables they read
DEVICES = tuple(f"{name}_" for name in _DRIVERS.split())
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
OFFLINE |= {"USER": "quantmill", "LANG": "C.UTF-8", "PYTHONUTF8": "1", "NO_COLOR": "1"}
BAR = re.compile(r"\d+%\|")  # of tqdm: progress, and nothing that was said
BARE = re.compile(r"[A-Za-z_.]+(Error|Exception)")
ERROR = re.compile(r"\berror\b", re.IGNORECASE)

Heard = Callable[[str], None]


class ToolFailed(QuantmillError):
    """A program of a llama.cpp's ended with an error, or made what it was not to make."""


def deaf(text: str) -> None:
    """Hears nothing."""


def run(
    command: Sequence[str],
    name: str,
    work: Path,
    heard: Heard = deaf,
    *,
    apart: bool = True,
    log: IO[bytes] | None = None,
) -> str:
    """Run a program in the folder `work` and return the last of what it said. `apart`: without a network, where the
    system allows that, and with an environment of its own; else with the user's.

    `heard` is called with the last of it again and again; all of it is written to `log`. ToolFailed, by `name`, with
    its last words when it fails.
    """
    mine = environment(work) if apart else dict(os.environ)
    whole = guarded(command, apart=apart)
    pipes: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    said, decoder = "", codecs.getincrementaldecoder("utf-8")("replace")
    with subprocess.Popen(whole, cwd=work, env=mine, bufsize=0, start_new_session=True, **pipes) as process:
        try:
            while process.stdout and (data := process.stdout.read(1 << 16)):
                if log is not None:
                    log.write(data)
                said = (said + decoder.decode(data))[-TAIL:]
                heard(said)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # with what it began: make and compilers, pip's programs
            raise
        code = process.wait()
    if code:
        said = said.replace(f"{work.absolute()}/", "")  # nobody knows that folder
        raise ToolFailed(f"{name} {_ended(code)}: {last_words(said)}")
    return said


def guarded(command: Sequence[str], *, apart: bool = True) -> list[str]:
    """The call by which a program ends with this process and, `apart`, has no network."""
    asked = (str(os.getpid()), "apart" if apart else "network")
    return [sys.executable, "-I", "-S", str(child.__file__), *asked, *command]


def environment(work: Path) -> dict[str, str]:
    """What a program of the toolchain sees of this process' variables, with a home below `work`."""
    home = work / "home"
    home.mkdir(exist_ok=True)
    mine = {key: value for key, value in os.environ.items() if key in PASSED or key.startswith(DEVICES)}
    return mine | dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "HF_HOME"), str(home.absolute())) | OFFLINE


def last_words(said: str) -> str:
    """What tells why a program failed: its last line, after the first that speaks of an error; bars of progress are
    none. A sentence of its own where it said nothing."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", said)]
    kept = [line for line in lines if line and not BAR.search(line)]
    first = next((line for line in kept if ERROR.search(line)), "")
    if len(kept) > 1 and BARE.fullmatch(kept[-1]):  # of Python, with nothing said: then its line of code tells more
        code = [line for line in kept[:-1] if line.strip("^~ ")]
        return f"{kept[-1]}: {code[-1]}" if code else kept[-1]
    return " / ".join(dict.fromkeys(filter(None, (first, *kept[-1:])))) or "it said nothing"


def _ended(code: int) -> str:
    return f"failed with code {code}" if code > 0 else f"was ended by signal {-code}"
