"""`quantmill show`: what a GGUF file is, here or elsewhere: metadata, tensors, types, mix, what made it."""

import argparse
import re
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from quantmill.commands.common import place, say, say_json
from quantmill.errors import UsageError, built

if TYPE_CHECKING:
    from quantmill.audit.header_facts import HeaderFacts
    from quantmill.gguf.layout import TensorEntry

_LAYER = re.compile(r"^(\D*blk\.)(\d+)(\..*)$", re.ASCII)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "files",
        type=place,
        nargs="+",
        metavar="FILE|DIR|REPO|URL",
        help="a file, a shard, a folder, OWNER/NAME or OWNER/NAME/FILE of the Hub, or an address",
    )
    parser.add_argument("--tensors", action="store_true", help="a line for each tensor, not for each kind")
    parser.add_argument("--json", action="store_true")


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    found = [described for name in options.files for described in _described(name)]
    if options.json:
        say_json([each.to_json() for each in found])
        return 0
    width = max(40, get_terminal_size((100, 24)).columns)
    for number, each in enumerate(found):
        say(*[""] * bool(number), *(_cut(line, width) for line in _lines(each, options.tensors)))
    return 0


def _described(name: str) -> "list[HeaderFacts]":
    from quantmill.audit.header_facts import describe_files
    from quantmill.audit.remote_source import is_remote

    path = Path(name)
    if path.is_dir():
        from quantmill.audit.release_files import models_in

        return [_local(model) for model in models_in(path)]
    if path.exists() or not is_remote(name):
        if not path.is_file():
            what = "this is no file" if path.exists() else f"there is no such file{built(name)}"
            raise UsageError(f"{name}: {what}; give a GGUF file, a folder, a repository or an address")
        return [_local(path)]
    from quantmill.audit.release_files import each_remote, find_release

    return [describe_files(source.files, source.sizes) for source in each_remote(find_release(name))]


def _local(path: Path) -> "HeaderFacts":
    from quantmill.audit.header_facts import describe_files
    from quantmill.gguf.reader import read
    from quantmill.gguf.shard_set import all_shards, check_shards, shards_of

    with ExitStack() as stack:
        paths = shards_of(path)
        if len(paths) > 1:
            all_shards(path)  # says which of them are missing
        files = [stack.enter_context(read(part)) for part in paths]
        if len(files) > 1:
            check_shards(files)
        return describe_files(files)


def _lines(of: "HeaderFacts", each: bool) -> list[str]:
    from quantmill.units import size_text

    size = sum(count for _, count in of.files)
    name, *others = (name for name, _ in of.files)
    shards = f" and {len(others)} more shards" if others else ""
    bits = of.data_bytes * 8 / max(of.weights, 1)
    head = f"{name}{shards}: {size_text(size)}, {len(of.tensors)} tensors, {of.weights:,} weights"
    lines = [f"{head} of {bits:.2f} bits, GGUF version {of.version}"]
    lines += _mix(of)
    lines += [
        f"  {type_:<8} {100 * count / max(of.weights, 1):5.1f} % of the weights, "
        f"{tensors} tensor{'s' * (tensors != 1)}, {size_text(size)}"
        for type_, tensors, count, size in of.shares
    ]
    made = of.made_by
    lines += ["", "metadata"]
    lines += [f"  {key}: {_value(value)}" for key, value in of.to_json()["metadata"].items() if key not in made]
    if made:
        lines += ["", "what made it", *(f"  {key}: {_value(value)}" for key, value in made.items())]
    return [*lines, "", "tensors", *_tensors(of.tensors, each)]


def _mix(of: "HeaderFacts") -> list[str]:
    from quantmill.quant.file_plan import MIX_KEY

    said = f"  general.file_type says {of.stated}"
    if MIX_KEY in of.to_json()["metadata"]:
        return ["  its tensors' types were searched, by its own word", *[said] * bool(of.stated)]
    if of.mix is None:
        return ["  its types are those of no known mix", *[said] * bool(of.stated)]
    return [f"  {of.mix}", *[said] * (of.stated is not None and not of.mix.states)]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        more = ", …" if value["count"] > len(value["first"]) else ""
        return f"{value['count']} of {value['array']}: {', '.join(map(repr, value['first']))}{more}"
    return repr(value) if isinstance(value, str) else str(value)


def _tensors(tensors: "tuple[TensorEntry, ...]", each: bool) -> list[str]:
    """A line for each tensor, or for those that differ in their layer alone."""
    if each:
        return [f"  {name}  {_shape(shape)}  {type_.name}" for name, shape, type_ in tensors]
    kinds: dict[tuple[str, str, str], list[int]] = {}
    for name, shape, type_ in tensors:
        match = _LAYER.match(name)
        kind = f"{match[1]}*{match[3]}" if match else name
        layers = kinds.setdefault((kind, _shape(shape), type_.name), [])
        if match:
            layers.append(int(match[2][:9]))
    return [
        f"  {kind}  {shape}  {type_}" + (f"  layers {_ranges(layers)}" if layers else "")
        for (kind, shape, type_), layers in kinds.items()
    ]


def _ranges(numbers: list[int]) -> str:
    """`0-3, 7`."""
    runs = []
    for _, run in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        runs.append(str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}")
    return ", ".join(runs)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _cut(line: str, width: int) -> str:
    from quantmill.errors import printable

    line = printable(line[: 2 * width])
    return line if len(line) <= width else f"{line[: width - 1]}…"
