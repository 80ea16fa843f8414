"""Renders one chat template: the child process of `prompt.py`, run as a file, with nothing of quantmill in it.

Reads {template, messages, bos_token, eos_token, memory, seconds, length} as JSON from standard input, writes {"text"}
or {"refused": reason} to standard output. The limits are set before the template is parsed.
"""

import codecs
import json
import re
import resource
import sys
from typing import Any


class _Raised(Exception):
    """The template's own raise_exception: it does not take these messages."""


def _raise(message: object = "") -> None:
    raise _Raised(str(message))


def _render(request: dict[str, Any]) -> dict[str, str]:
    import jinja2.debug  # jinja2 imports it when a template fails, too late for us
    import jinja2.ext
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """transformers' {% generation %} … {% endgeneration %}, which marks what a model is trained on: its body."""

        tags = {"generation"}  # noqa: RUF012 -- jinja2's own name and kind

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    codecs.lookup("unicode-escape")  # the lexer's, a file of Python's library
    for limit, most in ((resource.RLIMIT_AS, request["memory"]), (resource.RLIMIT_CPU, request["seconds"])):
        resource.setrlimit(limit, (most, most))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))  # what is open stays open, nothing else opens
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # As transformers renders chat templates, but that a date is the word {date}, so that a page has none of its own.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.LoopControlExtension, Generation]
    )
    environment.filters["tojson"] = lambda value, indent=None, **_: json.dumps(value, ensure_ascii=False, indent=indent)
    for table, chance in ((environment.globals, "lipsum"), (environment.filters, "random")):
        del table[chance]
    environment.globals |= {"raise_exception": _raise, "strftime_now": lambda _: "{date}"}
    try:
        stream = environment.from_string(request["template"]).generate(
            messages=request["messages"],
            add_generation_prompt=True,
            bos_token=request["bos_token"],
            eos_token=request["eos_token"],
        )
        found = ""
        for piece in stream:
            found += piece
            if len(found) > request["length"]:
                return {"refused": "long"}
        # An object that was printed with its address in memory would make another page each time.
        return {"refused": "unsafe"} if re.search(r" at 0x[0-9a-f]{4}", found) else {"text": found}
    except _Raised:
        return {"refused": "messages"}
    except SecurityError:
        return {"refused": "unsafe"}
    except MemoryError:
        return {"refused": "long"}
    except Exception:  # whatever a stranger's template runs into
        return {"refused": "broken"}


if __name__ == "__main__":
    request = json.load(sys.stdin)
    try:
        answer = _render(request)
    except MemoryError:
        answer = {"refused": "long"}
    sys.stdout.write(json.dumps(answer))
