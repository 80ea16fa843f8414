"""Renders one chat template: the child process of `prompt.py`, run as a file, with nothing of quantmill in it.

Reads {template, messages, bos_token, eos_token, work, length, memory, seconds} as JSON from standard input, writes
{"text"} or {"refused": reason} to standard output. The limits are set before the template is parsed.

What a template may do is counted, not timed, so that it is refused on every machine or on none. Each pass of a loop
and each macro costs as many units as its body has nodes; each call and filter costs ten. Every value that one of them,
an operator, a comparison or the output touches costs its length, and where its parts are touched too, theirs: a part
that a value holds twice costs twice. `work` is how many units there are. A template that takes more memory than
`memory`, or processor time than `seconds`, has found what is not counted well. The first is refused like one without
units left, the second ends the process.

What may become text is a list of types (`TEXT`), with all parts: a function's text has its address in memory, and a
set's its order, so that a page would be another each time. A set is not even made.
"""

import codecs
import functools
import json
import re
import resource
import sys
import unicodedata  # noqa: F401 -- \N{...} of a template needs it, a file of Python's library
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

CALL = 10  # units
DEPTH = 100  # of a value whose parts are touched; what recurses into it stays far from the end of its stack
VIEWS: Any = (type({}.keys()), type({}.values()), type({}.items()))
PARTED: Any = (list, tuple, *VIEWS)
ITERATED: Any = (Iterator, range, *VIEWS)
SIZED: Any = (str, dict, range, *PARTED)
TEXT = (str, int, float, type(None), list, tuple, dict)  # and jinja2's Undefined


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# jinja2's filters and tests that do not touch the parts of what they get, and the filters of an iterator's items.
PASSING_FILTERS = _names(
    "attr batch count d default first items last length list map reject rejectattr reverse select selectattr slice"
)
PASSING_TESTS = _names(
    "boolean callable defined escaped false filter float integer iterable mapping none number sameas sequence string "
    "test true undefined"
)
COMPARING_TESTS = _names("== eq equalto != ne > gt greaterthan ge >= < lt lessthan <= le in")
GATHERING_FILTERS = _names("groupby join max min sort sum unique")
REMAINDER_TESTS = _names("divisibleby even odd")
# Filters of chance, and what imports a file as it runs: whether that is read already depends on the Python.
LACKING_FILTERS = _names("pprint random striptags wordwrap")
LACKING_METHODS = _names("encode striptags unescape")


class _Spent(Exception):
    """No units are left."""


class _Unsafe(Exception):
    """It is at what differs from one process to the next."""


class _Meter:
    def __init__(self, work: int, text: tuple[type, ...]) -> None:
        self.left = work
        self.text = text

    def take(self, units: int) -> None:
        self.left -= units
        if self.left < 0:
            raise _Spent

    def values(self, values: Iterable[Any]) -> None:
        """For values that are read or made: their lengths, and what large integers take."""
        for value in values:
            self.take(1 + (len(value) if isinstance(value, SIZED) else _words(value)))

    def parts(self, value: Any, text: bool = False) -> None:
        """For a value that is read with all its parts, however often it holds one. What becomes text is to be of the
        types that have one."""
        waiting = [iter((value,))]
        while waiting:
            part = next(waiting[-1], waiting)
            if part is waiting:
                waiting.pop()
                continue
            self.values([part])
            if text and not isinstance(part, self.text):
                raise _Unsafe
            if isinstance(part, dict):
                waiting.append(chain(part.keys(), part.values()))
            elif isinstance(part, PARTED):
                waiting.append(iter(part))
            if len(waiting) > DEPTH:
                raise RecursionError

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
        if not all(isinstance(value, self.text) for value in (left, right)):
            raise _Unsafe  # a view minus something is a set
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            self.take(_words(left) * abs(right) // 16)
        elif operator == "%" and isinstance(left, str):
            self.numbers(left)
            self.parts(right, text=True)
            if "*" in left:
                self.arguments(right if isinstance(right, tuple) else [right])
        elif operator == "*" and isinstance(left, int) != isinstance(right, int):
            count, sized = (left, right) if isinstance(left, int) else (right, left)
            self.take(max(count, 0) * (len(sized) if isinstance(sized, str | list | tuple) else 1))
        else:
            self.take(_words(left) * _words(right))


def _words(value: Any) -> int:
    return value.bit_length() // 64 + 1 if isinstance(value, int) else 1


class _Raised(Exception):
    """The template's own raise_exception: it does not take these messages."""


def _raise(_message: object = "") -> None:
    raise _Raised


def _render(request: dict[str, Any]) -> dict[str, str]:
    import jinja2.debug  # jinja2 imports it when a template fails, too late for us
    import jinja2.ext
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError
    from jinja2.runtime import LoopContext, Macro, Undefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
    from jinja2.utils import Cycler, Namespace
    from jinja2.visitor import NodeTransformer

    meter = _Meter(request["work"], (*TEXT, Undefined))

    class Counted:
        """An iterator whose items are counted."""

        def __init__(self, items: Iterator[Any]) -> None:
            self.items = items

        def __iter__(self) -> Iterator[Any]:
            return self

        def __next__(self) -> Any:
            item = next(self.items)
            meter.parts(item)
            return item

    held = (*meter.text, range, *VIEWS, Counted, LoopContext, Namespace, Cycler)

    def made(value: Any) -> Any:
        """What an operator, a call or a filter made."""
        if not isinstance(value, held) and not callable(value):
            raise _Unsafe  # a set, bytes
        meter.values([value])
        return value

    def gathered(value: Any) -> Any:
        return list(value) if isinstance(value, ITERATED) else value

    # A field of str.format, of Markup too.
    def field(formatter: Any, name: str, args: Any, kwargs: Any) -> Any:
        meter.take(CALL)
        value, first = get_field(formatter, name, args, kwargs)
        meter.parts(value, text=True)
        return value, first

    def field_text(formatter: Any, value: Any, spec: str) -> Any:
        meter.numbers(spec)
        return super(SandboxedFormatter, formatter).format_field(value, spec)

    get_field = SandboxedFormatter.get_field
    fields: Any = SandboxedFormatter
    fields.get_field, fields.format_field = field, field_text

    class Metered(ImmutableSandboxedEnvironment):
        """Takes units for all that a template has done."""

        intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            meter.operator(operator, left, right)
            return made(super().call_binop(context, operator, left, right))

        def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
            if __obj in (__self.spend, __self.seen, __self.compared, __self.joined):
                return __obj(*args)
            meter.take(CALL)
            owner = getattr(__obj, "__self__", None)
            meter.values([owner])
            meter.arguments((*args, *kwargs.values()))
            if isinstance(owner, str) or (isinstance(owner, type) and issubclass(owner, str)):
                args = tuple(map(gathered, args))
                meter.parts([args, kwargs], text=True)
            elif not isinstance(__obj, Macro):
                meter.parts([args, owner if isinstance(owner, PARTED) else None])
                meter.parts(kwargs if __obj is not Namespace else None)
            return made(super().call(__context, __obj, *args, **kwargs))

        def getitem(self, obj: Any, argument: Any) -> Any:
            if isinstance(argument, tuple):  # its hash reads its parts
                meter.parts(argument)
            return super().getitem(obj, argument)

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            lacking = isinstance(obj, str) and attr in LACKING_METHODS
            return not lacking and super().is_safe_attribute(obj, attr, value)

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

        def compared(self, value: Any) -> Any:
            meter.parts(value)
            return value

        def joined(self, *values: Any) -> str:
            return self.concat(str(printed(value)) for value in values)

    def printed(value: Any) -> Any:
        meter.parts(value, text=True)
        return value

    class Counting(NodeTransformer):
        """Puts what takes units into a template's tree."""

        def __init__(self, tree: Any) -> None:
            self.sizes: dict[int, int] = {}
            self.size(tree)

        def size(self, node: Any) -> int:
            self.sizes[id(node)] = found = 1 + sum(map(self.size, node.iter_child_nodes()))
            return found

        def call(self, name: str, *arguments: Any) -> Any:
            return nodes.Call(nodes.EnvironmentAttribute(name), list(arguments), [], None, None)

        def visit_For(self, node: Any) -> Any:
            node.iter = self.call("seen", node.iter)
            return self.visit_Macro(node)

        def visit_Macro(self, node: Any) -> Any:
            units = 1 + sum(self.sizes[id(part)] for part in node.body)
            meter.take(self.sizes[id(node)])  # to compile it: jinja2 reads each once more for each that it is in
            self.generic_visit(node)
            node.body.insert(0, nodes.ExprStmt(self.call("spend", nodes.Const(units))))
            return node

        visit_CallBlock = visit_Macro

        def visit_Concat(self, node: Any) -> Any:
            self.generic_visit(node)
            return self.call("joined", *node.nodes)

        def visit_Compare(self, node: Any) -> Any:
            self.generic_visit(node)
            node.expr = self.call("compared", node.expr)
            return node

        visit_Operand = visit_Compare

        def visit_Pair(self, node: Any) -> Any:
            self.generic_visit(node)
            if not isinstance(node.key, nodes.Const):
                node.key = self.call("compared", node.key)
            return node

        def visit_Getitem(self, node: Any) -> Any:
            self.generic_visit(node)
            if isinstance(node.arg, nodes.Slice):
                node.node = self.call("seen", node.node)
            return node

    def metered(name: str, function: Any, passing: frozenset[str]) -> Any:
        at = int(hasattr(function, "jinja_pass_arg"))  # of the value, behind what jinja2 passes

        @functools.wraps(function)  # with the marks by which jinja2 knows what to pass
        def call(*args: Any, **kwargs: Any) -> Any:
            meter.take(CALL)
            passed, args = args[:at], args[at:]
            meter.arguments((*args, *kwargs.values()))
            if name in GATHERING_FILTERS:
                args = (*map(gathered, args[:1]), *args[1:])
            before = meter.left
            if name not in passing:
                meter.parts([args, kwargs], text=name not in COMPARING_TESTS)
            if name == "format":
                meter.operator("%", args[0], kwargs or args[1:])
            elif name in REMAINDER_TESTS:
                meter.operator("%", args[0], args[1] if args[1:] else 2)
            elif name == "sum" and len(args) + len(kwargs) > 1:  # lists are copied for each that is added
                meter.take((before - meter.left) * len(args[0]))
            found = function(*passed, *args, **kwargs)
            return made(Counted(found) if isinstance(found, Iterator) else found)

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
        finalize=printed,
    )
    environment.filters["tojson"] = lambda value, indent=None, **_: json.dumps(value, ensure_ascii=False, indent=indent)
    del environment.globals["lipsum"]
    for table, passing in ((environment.filters, PASSING_FILTERS), (environment.tests, PASSING_TESTS)):
        for name in LACKING_FILTERS & table.keys():
            del table[name]
        table.update({name: metered(name, function, passing) for name, function in table.items()})
    environment.globals |= {"raise_exception": _raise, "strftime_now": lambda _: "{date}"}
    try:
        meter.values([request["template"]])
        tree = environment.parse(request["template"])
        tree = Counting(tree).visit(tree)
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
        found.encode()  # half a surrogate pair is no text
        return {"text": found}
    except _Raised:
        return {"refused": "messages"}
    except (SecurityError, _Unsafe):
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
