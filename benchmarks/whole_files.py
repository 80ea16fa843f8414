"""Whole files of ours beside those of a llama.cpp of any tag, header included: which differ, and in what.

    python benchmarks/whole_files.py (--lib DIR | --tools DIR) --tag b11739 [--models FOLDER ...] [--rows 2] [--rotate]
        [--ftypes Q4_K_M,IQ3_XXS] [--options pure,patterns] [--imatrix with,without] [--without falcon,t5]
        [--part 1/5]

The models are the conformance set's, those of `--models` (every .gguf in a folder, with the .imatrix of its name, or
one that is made here), or both with `--models set`. `--rows` keeps the first rows of each matrix, which decide no type.
Without `--rotate` each model is written as each ftype with each options, with an imatrix and without; with it once as
each ftype, options and imatrix in turn, so that each meets every model and every ftype. `--lib` takes a libllama of any
tag but b8590 to b8659. A model whose architecture the tag does not know is left out. Ends with counts,
and with 1 when files differ.
"""

import argparse
import contextlib
import math
import sys
import tempfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from quantmill import gguf
from quantmill.admission.conformance import ALL, CHUNKS, DATASET, IMATRIX_NAME, OPTIONS, Call, write
from quantmill.admission.library import Library, Tool, form_of
from quantmill.errors import QuantmillError
from quantmill.gguf.comparison import compare
from quantmill.gguf.layout import TensorEntry
from quantmill.imatrix import Entry, encode
from quantmill.imatrix.legacy import parse
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.known_models import knows
from quantmill.reference.reference import Reference
from quantmill.reference.spans import of_tag


def importance(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Some importance of a tensor, the same in every run."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    return np.exp(random.standard_normal(shape[0] * (shape[2] if len(shape) > 2 else 1))).astype(np.float32)


def place(path: Path, to: Path, rows: int) -> str:
    """Put a model there, cut to so many rows a matrix (0: whole), with an imatrix; say its architecture."""
    guide = path.with_suffix(".imatrix")
    with gguf.read(path) as file:
        if guide.exists():
            stored, _, _ = parse(str(guide), guide.read_bytes())
            entries = [Entry(entry.name, 1, entry.values / np.float32(entry.calls)) for entry in stored]
        else:
            layers = [info for info in file.tensors.values() if "blk." in info.name and len(info.shape) > 1]
            entries = [Entry(info.name, 1, importance(info.name, info.shape)) for info in layers]
        to.with_suffix(".imatrix").write_bytes(encode(entries, DATASET, CHUNKS))
        if rows:
            cut = {name: _cut(info.entry, rows) for name, info in file.tensors.items()}
            with gguf.Writer(to, file.metadata.values(), cut.values()) as writer:
                for name, info in file.tensors.items():
                    writer.append(file.data(info).reshape(info.rows, -1)[_kept(info.shape, cut[name].shape)].tobytes())
        else:
            to.symlink_to(path.resolve())
        return str(file.metadata["general.architecture"].value)


def _cut(entry: TensorEntry, rows: int) -> TensorEntry:
    columns, *others = entry.shape
    return entry._replace(shape=(columns, *(min(rows, count) for count in others[:1]), *others[1:]))


def _kept(whole: tuple[int, ...], cut: tuple[int, ...]) -> np.ndarray:
    """Which rows of a tensor are kept, matrix by matrix."""
    if len(whole) < 2:
        return np.ones(1, bool)
    return np.arange(math.prod(whole[1:])) % whole[1] < cut[1]


def models(folders: list[str], folder: Path, rows: int) -> dict[str, str]:
    """Architectures by the names of the models, which lie in the folder then."""
    found: dict[str, str] = {}
    for name in folders:
        if name == "set":
            for model, (facts, _) in ALL.items():
                write(folder, model)
                found[model] = facts["general.architecture"]
        else:
            for path in sorted(Path(name).glob("*.gguf")):
                model = path.stem if path.stem not in found else f"{path.parent.name}-{path.stem}"
                found[model] = place(path, folder / f"{model}.gguf", rows)
    return found


def calls(
    names: list[str], ftypes: list[str], ways: list[tuple[str, bool]], rotate: bool, part: tuple[int, int]
) -> Iterator[Call]:
    """Every one, or for each model and ftype the next way in turn; of models and ftypes the `k`-th pair of `n`."""
    k, n = part
    for i, name in enumerate(names):
        for j, ftype in enumerate(ftypes):
            if (i + 3 * j) % n == k % n:
                for options, guided in [ways[(i + j) % len(ways)]] if rotate else ways:
                    yield Call(name, ftype, guided, options)


class Verdicts:
    """What became of the calls."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.different: defaultdict[str, list[str]] = defaultdict(list)
        self.aborted: list[str] = []

    def add(self, call: Call, peer: Library | Tool, reference: Reference, folder: Path) -> None:
        base, theirs, ours = folder / f"{call.model}.gguf", folder / "theirs", folder / "ours"
        written, problem = peer.answer(call, base, theirs), ""
        try:
            quantize_file(
                base,
                ours,
                call.ftype,
                imatrix=base.with_suffix(".imatrix") if call.guided else None,
                imatrix_name=IMATRIX_NAME,
                reference=reference,
                **OPTIONS[call.options],
            )
        except QuantmillError as error:
            problem = str(error).replace(str(base), "")
        if not problem and not written and isinstance(peer, Library) and peer.aborted:
            self.counts["aborted"] += 1
            self.aborted.append(str(call))
        elif problem or not written:
            self.counts["refused" if problem and not written else "different"] += 1
            if written:
                self.different[f"it writes a file, we do not: {problem}"].append(str(call))
            elif not problem:
                self.different["it writes none, we do"].append(str(call))
        elif theirs.read_bytes() == ours.read_bytes():
            self.counts["equal"] += 1
        else:
            self.counts["different"] += 1
            differences = [str(difference) for difference in compare(theirs, ours)]
            self.different["; ".join(differences[:3]) or "the bytes differ"].append(str(call))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peer = parser.add_mutually_exclusive_group(required=True)
    peer.add_argument("--lib", type=Path)
    peer.add_argument("--tools", type=Path)
    parser.add_argument("--tag", required=True)
    parser.add_argument("--models", nargs="+", default=["set"], metavar="FOLDER")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--ftypes")
    parser.add_argument("--without", default="", help="models that are left out")
    parser.add_argument("--options", default=",".join(OPTIONS))
    parser.add_argument("--imatrix", default="with,without")
    parser.add_argument("--rotate", action="store_true")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="of the pairs of a model and an ftype, every N-th")
    parser.add_argument("--shown", type=int, default=20, help="kinds of differences that are printed")
    given = parser.parse_args()
    reference, verdicts = of_tag(given.tag), Verdicts()
    options = [name for name in given.options.split(",") if _has(given.tag, reference, name)]
    ways = [(name, guide == "with") for guide in given.imatrix.split(",") for name in options]
    ftypes = given.ftypes.split(",") if given.ftypes else list(reference.ftypes)
    with tempfile.TemporaryDirectory(prefix="quantmill-whole-files-") as name, contextlib.ExitStack() as ended:
        folder = Path(name)
        found = models(given.models, folder, given.rows)
        left_out = given.without.split(",")
        known = [name for name, arch in found.items() if knows(given.tag, arch) and name not in left_out]
        oracle = Library(given.lib, form_of(given.tag)) if given.lib else Tool(given.tools)
        ended.callback(oracle.close)
        k, _, n = given.part.partition("/")
        for call in calls(known, ftypes, ways, given.rotate, (int(k), int(n))):
            verdicts.add(call, oracle, reference, folder)
    counts = verdicts.counts
    print(
        f"{given.tag}: {len(known)} models, {len(ftypes)} ftypes, {len(options)} options, {counts.total()} files: "
        f"{counts['equal']} equal, {counts['refused']} both refuse, {counts['different']} different, "
        f"{counts['aborted']} where it aborts and we do not"
    )
    kinds = sorted(verdicts.different.items(), key=lambda kind: -len(kind[1]))
    for what, where in [*kinds[: given.shown], *[("it aborts, we write", verdicts.aborted)] * bool(verdicts.aborted)]:
        print(f"  {len(where):5} {what}: {'; '.join(where[:3])}")
    return 1 if counts["different"] else 0


def _has(tag: str, reference: Reference, name: str) -> bool:
    """Whether the tag's llama-quantize has these options, and writes by them what it means to."""
    last = int(tag[1:]) if tag.startswith("b") else reference.last
    if "prune_layers" in OPTIONS[name] and reference.last < reference.options["--prune-layers"]:
        return False
    return "tensor_types" not in OPTIONS[name] or last >= reference.options["--tensor-type"]


if __name__ == "__main__":
    sys.exit(main())
