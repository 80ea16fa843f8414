"""Renders one chat template: the child process of `prompt.py`, run as a file, with nothing of quantmill in it.

Reads {template, messages, bos_token, eos_token, work, length, memory, seconds} as JSON from standard input, writes
{"text"} or {"refused": reason} to standard output. The limits are set before the template is parsed.

What a template may do is counted, not timed, so that it is refused on every machine or on none. Each pass of a loop
and each macro costs as many units as its body has nodes; each call and filter costs ten. Every value that one of them,
an operator, a comparison or the output touches costs its length. `work` is how many units there are. A template that
takes more memory than `memory`, or processor time than `seconds`, has found what is not counted well. The first is
refused like one without units left, the second ends the process.
"""

import codecs
import functools
import json
import re
import resource
import sys
from collections.abc import Iterable
from typing import Any

CALL = 10  # units


class _Spent(Exception):
    """No units are left."""


class _Meter:
    def __init__(self, work: int) -> None:
        self.left = work

    def take(self, units: int) -> None:
        self.left -= units
        if self.left < 0:
            raise _Spent

    def values(self, values: Iterable[Any]) -> None:
        """For values that are read or made: their lengths, and what large integers take."""
        for value in values:
            self.take(1 + (len(value) if isinstance(value, str | list | tuple | dict | set) else _words(value)))

    def arguments(self, values: Iterable[Any]) -> None:
        """For a call: integers may be the width or number of what it makes."""
        for value in values:
            self.take(abs(value) if isinstance(value, int) else 1)
            self.values([value])

    def numbers(self, text: str) -> None:
        """For a format: its numbers are widths."""
        for number in re.findall(r"\d+", text):
            self.take(int(number[:12]))

    def operator(self, operator: str, left: Any, right: Any) -> None:
        self.values([left, right])
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            self.take(_words(left) * abs(right) // 16)
        elif operator == "%" and isinstance(left, str):
            self.numbers(left)
        elif operator == "*" and isinstance(left, int) != isinstance(right, int):
            count, sized = (left, right) if isinstance(left, int) else (right, left)
            self.take(max(count, 0) * (len(sized) if isinstance(sized, str | list | tuple) else 1))
        else:
            self.take(_words(left) * _words(right))


def _words(value: Any) -> int:
    return value.bit_length() // 64 + 1 if isinstance(value, int) else 1


class _Raised(Exception):
    """The template's own raise_exception: it does not take these messages."""


def _raise(message: object = "") -> None:
    raise _Raised(str(message))


def _render(request: dict[str, Any]) -> dict[str, str]:
    import jinja2.debug  # jinja2 imports it when a template fails, too late for us
    import jinja2.ext
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.visitor import NodeTransformer

    meter = _Meter(request["work"])

    class Metered(ImmutableSandboxedEnvironment):
        """Takes units for all that a template has done."""

        intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            meter.operator(operator, left, right)
            return super().call_binop(context, operator, left, right)

        def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
            if __obj in (__self.spend, __self.seen, __self.joined):
                return __obj(*args)
            meter.take(CALL)
            meter.values([getattr(__obj, "__self__", None)])
            meter.arguments((*args, *kwargs.values()))
            made = super().call(__context, __obj, *args, **kwargs)
            meter.values([made])
            return made

        def wrap_str_format(self, value: Any) -> Any:
            made = super().wrap_str_format(value)
            if made is not None:
                meter.numbers(value.__self__)
            return made

        @staticmethod
        def concat(pieces: Iterable[str]) -> str:
            found = list(pieces)
            meter.values(found)
            return "".join(found)

        def spend(self, units: int) -> str:
            meter.take(units)
            return ""

        def seen(self, value: Any) -> Any:
            meter.values([value])
            return value

        def joined(self, *values: Any) -> str:
            return self.concat(map(str, values))

    class Counting(NodeTransformer):
        """Puts what takes units into a template's tree."""

        def call(self, name: str, *arguments: Any) -> Any:
            return nodes.Call(nodes.EnvironmentAttribute(name), list(arguments), [], None, None)

        def visit_For(self, node: Any) -> Any:
            node.iter = self.call("seen", node.iter)
            return self.visit_Macro(node)

        def visit_Macro(self, node: Any) -> Any:
            units = 1 + sum(len(list(part.find_all(nodes.Node))) + 1 for part in node.body)
            self.generic_visit(node)
            node.body.insert(0, nodes.ExprStmt(self.call("spend", nodes.Const(units))))
            return node

        visit_CallBlock = visit_Macro

        def visit_Concat(self, node: Any) -> Any:
            self.generic_visit(node)
            return self.call("joined", *node.nodes)

        def visit_Operand(self, node: Any) -> Any:
            self.generic_visit(node)
            node.expr = self.call("seen", node.expr)
            return node

        def visit_Getitem(self, node: Any) -> Any:
            self.generic_visit(node)
            if isinstance(node.arg, nodes.Slice):
                node.node = self.call("seen", node.node)
            return node

    def metered(function: Any) -> Any:
        @functools.wraps(function)  # with the marks by which jinja2 knows what to pass
        def call(*args: Any, **kwargs: Any) -> Any:
            meter.take(CALL)
            meter.arguments((*args, *kwargs.values()))
            made = function(*args, **kwargs)
            meter.values([made])
            return made

        return call

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
    environment = Metered(
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # what is constant is computed when units are counted
        extensions=[jinja2.ext.LoopControlExtension, Generation],
    )
    environment.filters["tojson"] = lambda value, indent=None, **_: json.dumps(value, ensure_ascii=False, indent=indent)
    for table, chance in ((environment.globals, "lipsum"), (environment.filters, "random")):
        del table[chance]
    for table in (environment.filters, environment.tests):
        table.update({name: metered(function) for name, function in table.items()})
    environment.globals |= {"raise_exception": _raise, "strftime_now": lambda _: "{date}"}
    try:
        meter.values([request["template"]])
        tree = environment.parse(request["template"])
        tree = Counting().visit(tree)
        tree.set_environment(environment)
        for node in tree.find_all(nodes.Node):
            node.lineno = node.lineno or 1
        stream = environment.from_string(tree).generate(
            messages=request["messages"],
            add_generation_prompt=True,
            bos_token=request["bos_token"],
            eos_token=request["eos_token"],
        )
        found = ""
        for piece in stream:
            meter.values([piece])
            found += piece
            if len(found) > request["length"]:
                return {"refused": "long"}
        # An object that was printed with its address in memory would make another page each time.
        return {"refused": "unsafe"} if re.search(r" at 0x[0-9a-f]{4}", found) else {"text": found}
    except _Raised:
        return {"refused": "messages"}
    except SecurityError:
        return {"refused": "unsafe"}
    except (_Spent, MemoryError):
        return {"refused": "slow"}
    except Exception:  # whatever a stranger's template runs into
        return {"refused": "broken"}


if __name__ == "__main__":
    request = json.load(sys.stdin)
    try:
        answer = _render(request)
    except MemoryError:
        answer = {"refused": "slow"}
    sys.stdout.write(json.dumps(answer))
