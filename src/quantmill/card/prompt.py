"""The prompt format: a model's own chat template, rendered for a system message, a user's message and the turn to come.

A template is a stranger's program. It runs in jinja2's immutable sandbox, in a child process of its own that counts
what it does (sandbox.py) and has limits of memory, processor time and files. What a page says is refused is refused by
the count: a machine that is slow, or has other things to do, makes the same page, or an error.
"""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.errors import QuantmillError

SYSTEM, USER = "{system_prompt}", "{prompt}"
LENGTH = 4000  # characters of a rendered prompt; long ones describe tools that nobody asked for
LONGEST = 100_000  # of one that is shown shortened
CONSTANT, CUT = (
    1000,
    "[…]",
)  # characters of a part between the messages that is shown whole, and what a longer one holds
WORK = 1_000_000  # units, as sandbox.py counts them; public models' templates take a thirtieth of that
MEMORY = 512_000_000  # bytes of address space
SECONDS = 60  # of processor time; those units take one at most
ENDED = (-signal.SIGKILL, -signal.SIGXCPU)  # how a child ends that has had its time, by the kernel's limit or by ours
SEED = {"PYTHONHASHSEED": "0"}  # the child's whole environment
CHILD = Path(__file__).with_name("sandbox.py")
PATIENCE = 300  # seconds of wall clock, on a machine with much else to do


def timed_out() -> QuantmillError:
    """A chat template did what is not counted for longer than any should take."""
    return QuantmillError(
        f"the model's chat template was still not rendered after {SECONDS} s of processor time, or {PATIENCE} s; "
        "run again when the machine has less to do, or take a model whose template ends"
    )


def no_answer(code: int) -> QuantmillError:
    """The program that renders chat templates ended by itself and said nothing."""
    ending = f"signal {-code}" if code < 0 else f"exit code {code}"
    return QuantmillError(
        f"{CHILD} was to render the model's chat template, and ended with {ending} and no answer; see that jinja2 is "
        "installed for this Python and that memory is free"
    )


@dataclass(frozen=True)
class Prompt:
    """A chat template's prompt, or why there is none.

    `text`: the prompt as rendered
    `shortened`: whether the middle of a long constant part is left out of it
    `system`: whether the template takes a system message
    `thinks`: whether it opens a `<think>` that the model is to go on in
    `refused`: "unsafe", "slow", "long" or "broken", where there is no prompt
    """

    text: str = ""
    system: bool = True
    thinks: bool = False
    refused: str = ""
    shortened: bool = False


def prompt_of(about: Mapping[str, Any]) -> Prompt | None:
    """The prompt format of a model of which the lock says `about` this; None when it has no chat template. Raises
    QuantmillError."""
    template = about.get("chat_template")
    if not template:
        return None
    user = {"role": "user", "content": USER}
    for messages in ([{"role": "system", "content": SYSTEM}, user], [user]):
        request = {
            "template": template,
            "messages": messages,
            "bos_token": about.get("bos_token", ""),
            "eos_token": about.get("eos_token", ""),
            "length": LENGTH,
            "work": WORK,
        }
        answer = _render(request)
        shortened = answer.get("refused") == "long"
        text = (_render({**request, "length": LONGEST}) if shortened else answer).get("text", "").strip("\n")
        if USER in text:
            last = text.rpartition(USER)[2]
            thinks = "<think>" in last and "</think>" not in last
            whole, text = text, _shortened(text) if shortened else text
            if len(text) <= LENGTH:
                return Prompt(text, SYSTEM in whole, thinks, shortened=shortened)
    return Prompt(refused=answer.get("refused", "broken").replace("messages", "broken"))


def _shortened(text: str) -> str:
    """The text with the middle of each long part between the messages left out."""
    parts = re.split(f"({re.escape(SYSTEM)}|{re.escape(USER)})", text)
    half = CONSTANT // 2
    return "".join(part if len(part) <= CONSTANT else f"{part[:half]}{CUT}{part[-half:]}" for part in parts)


def chat(template: str, messages: list[dict[str, str]], bos: str, eos: str, length: int) -> Prompt:
    """A conversation rendered, of at most `length` characters; `refused` says what kept it from being. Raises
    QuantmillError."""
    request = {"template": template, "messages": messages, "bos_token": bos, "eos_token": eos, "length": length}
    work = WORK + 100 * sum(len(message["content"]) for message in messages)
    answer = _render({**request, "work": work})
    return Prompt(answer.get("text", ""), refused=answer.get("refused", ""))


def _render(request: Mapping[str, Any]) -> dict[str, str]:
    """What the child answers; QuantmillError when it does not. It gets no environment but one seed of hashes for all,
    no arguments and an empty folder's view of the disk: the root, where nothing is its own."""
    command = [sys.executable, "-s", "-P", "-B", str(CHILD)]  # what -I is, but that it would ignore the seed
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=SEED, cwd="/"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(PATIENCE, process.kill)
        late.start()
        try:
            most = request["length"] * 12 + 100  # JSON writes up to two escapes of six bytes for a character
            try:
                process.stdin.write(json.dumps({**request, "memory": MEMORY, "seconds": SECONDS}).encode())
                process.stdin.close()
            except BrokenPipeError:
                pass
            data = process.stdout.read(most + 1)
            if len(data) > most:
                process.kill()
            code = process.wait()
        finally:
            late.cancel()
    try:
        answer = json.loads(data)
        kind, value = next(iter(answer.items()))
        if len(data) <= most and kind in ("text", "refused") and isinstance(value, str):
            return {kind: value}
    except (ValueError, AttributeError, StopIteration):
        pass
    raise timed_out() if code in ENDED and len(data) <= most else no_answer(code)
