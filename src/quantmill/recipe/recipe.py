"""Recipes: what a release is, as TOML, read into frozen dataclasses.

Validated once, here. `KEYS` is the one table of what a recipe may say; recipes/README.md documents the same keys, and a
test holds the two together. Paths in a recipe are relative to the recipe's folder.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tomli

from quantmill.errors import Unfit, UsageError, nearest
from quantmill.listing import strangers_json
from quantmill.recipe import (
    address,
    base_table,
    bench_table,
    calibration_table,
    card_table,
    convert_table,
    quality_table,
    target_table,
    team_tags,
    value_kinds,
)
from quantmill.recipe.override import Override
from quantmill.reference.admissions import of_folder
from quantmill.reference.ftypes import STANDARD_MATRIX, tensor_type
from quantmill.reference.reference import Reference
from quantmill.reference.spans import Proof, check_options, newest_tag, of_generation, proof
from quantmill.units import parse_size

LIMIT = 1_000_000  # characters of a recipe: one with a line for each tensor of a model has 50,000
LOCK_LIMIT = 50_000_000  # bytes of a lock: a config.json of the size that is read, with the spaces it is written with
NAME = r"[A-Za-z0-9][\w.+-]*"  # of a recipe, and what files' names begin with
MAX_NAME = 255  # bytes of a file's name, on every disk in use
NAME_WORDS = "letters, digits, '.', '_', '+' and '-'"

# Every key of a recipe and the kind of its value.
KEYS: dict[str, str] = {
    "llama_cpp": "string",
    "prefix": "string",
    **base_table.KEYS,
    "strict": "boolean",
    **(convert_table.KEYS | calibration_table.KEYS | quality_table.KEYS | bench_table.KEYS),
    "quants.matrix": "string or list",
    "quants.override.ftypes": "list",
    "quants.override.output": "string",
    "quants.override.token_embedding": "string",
    "quants.override.tensors": "table",
    "quants.override.pure": "boolean",
    **target_table.KEYS,
    "split.max_size": "size",
    **card_table.KEYS,
}

LISTS = ("quants.override", "quants.target", "calibration.texts")  # tables of which there may be several


class Locked(NamedTuple):
    """What a lock says of what its recipe leaves open: the llama.cpp tag, and the type of a converted base."""

    llama_cpp: str = ""
    type: str = ""


class RecipeError(UsageError):
    """The recipe `path` cannot be used; `key` is the key at fault."""

    def __init__(self, path: Path, key: str, problem: str) -> None:
        super().__init__(f"{path}: {key}: {problem}")
        self.path, self.key = path, key


@dataclass(frozen=True)
class Recipe:
    """A release. `ftypes` are in the order of the recipe, the base's own file not among them; `base_file` says whether
    the release holds it. `gates` are what [verify] asks of each file, by key. `max_size` is in bytes, 0 for files of
    any size; `convert_with`: who converts, as convert_table.tool; `projectors`: the types of [mmproj]. `targets`: files
    whose types are found by measuring, on the text of `search`."""

    path: Path
    name: str
    llama_cpp: str
    reference: Reference
    prefix: str
    base: base_table.Base
    imatrix: calibration_table.ImatrixTable | None
    calibration: calibration_table.Calibration | None
    evaluation: quality_table.Evaluation | None
    gates: Mapping[str, Any]
    bench: bench_table.BenchTable | None
    ftypes: tuple[str, ...]
    base_file: bool
    overrides: tuple[Override, ...]
    max_size: int
    strict: bool
    card: card_table.Card
    repo: str | None  # the Hub repository that the release is published as
    data: Mapping[str, Any]  # the file, as plain data
    convert_with: str = convert_table.OWN
    projectors: tuple[str, ...] = ()
    as_built: bool = False  # whether each file is published when it is built, and let go
    keep_files: int = card_table.KEEP_FILES  # of the release, that such a build has at a time
    targets: tuple[target_table.TargetTable, ...] = ()
    search: target_table.SearchTable | None = None

    def target(self, label: str) -> target_table.TargetTable | None:
        """The target of that name."""
        return next((target for target in self.targets if target.name == label), None)

    @property
    def names_tag(self) -> bool:
        """Whether the recipe says its llama.cpp tag, which else its lock does."""
        return "llama_cpp" in self.data

    @property
    def chooses_type(self) -> bool:
        """Whether the converter chooses the type of a base that is converted."""
        return base_table.chooses_type(self.reference, self.data["base"].get("type"))

    @property
    def converts_as(self) -> str | None:
        """The tag whose converter makes the base's metadata, where that is not the recipe's."""
        return self.reference.converts_as(self.llama_cpp) if self.base.gguf is None else None

    @property
    def later_converter(self) -> str:
        """The tag of the converter whose facts a conversion follows, empty for the first."""
        converter = self.reference.converter
        return "" if converter is of_generation(0).converter else converter.tag

    @property
    def proof(self) -> Proof | None:
        """What the tag stands on; None for the first span's, whose releases say nothing of it."""
        return proof(self.llama_cpp) if self.reference is not of_generation(0) else None

    @property
    def generation(self) -> int:
        """The reference's number in the keys of steps."""
        return self.reference.generation

    def overrides_of(self, ftype: str) -> tuple[Override, ...]:
        """The overrides that concern one ftype, in order."""
        return tuple(o for o in self.overrides if o.ftypes is None or ftype in o.ftypes)


def find(name: str, folder: Path = Path()) -> Path:
    """The recipe's file: `name` itself, or `recipes/<name>.toml` below `folder`."""
    for path in (Path(name), folder / "recipes" / f"{name}.toml", folder / name):
        if path.is_file() and not name.endswith(("/", "/.")):
            return path
    if not name.strip():
        raise UsageError(f"{name!r} is no recipe; name a .toml file or one of recipes/")
    known = sorted(path.stem for path in (folder / "recipes").glob("*.toml") if path.is_file())
    raise UsageError(f"{name}: there is no such recipe{nearest(name, known)}; name a .toml file or one of recipes/")


def load(path: Path, anew: bool = False) -> Recipe:
    """Read and validate one recipe; RecipeError or UsageError with one sentence for anything wrong. What it leaves
    open is its lock's; `anew`, or without a lock, the newest tag and the type of the weights."""
    return parse(path, read(path), Locked() if anew else _locked(path))


def read(path: Path) -> str:
    """The text of the recipe in the file at `path`; UsageError when there is none, or no UTF-8."""
    try:
        with path.open(encoding="utf-8-sig") as file:  # Windows' editors begin a file with a mark
            text = file.read(LIMIT + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such recipe") from None
    except UnicodeDecodeError as error:
        if path.suffix == ".gguf":
            raise UsageError(
                f"{path}: a model and no recipe; name it in one, by `[base] gguf` (quantmill init writes it)"
            ) from None
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    if len(text) > LIMIT:
        raise UsageError(f"{path}: it is longer than {LIMIT} characters, which no recipe is")
    return text


def parse(path: Path, text: str, locked: Locked = Locked()) -> Recipe:  # noqa: B008 -- a tuple of texts
    """`load` for a recipe whose text is `text` and which need not be at `path`, from where its paths lead; `locked` is
    what its lock says."""
    try:
        data = tomli.loads(text)
        repr(data)  # as messages may: more than 4,300 digits cannot be said, though hexadecimal ones can be read
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    if not re.fullmatch(NAME, path.stem):
        raise UsageError(f"{path}: {path.stem!r} cannot name tasks and folders; rename it to {NAME_WORDS}")
    _check_keys(path, data)
    return _Reader(path, data, locked).recipe()


def _locked(path: Path) -> Locked:
    """What the lock beside a recipe says of what that leaves open; nothing where there is none."""
    try:
        with path.with_suffix(".lock").open("rb") as file:
            data = strangers_json(file.read(LOCK_LIMIT))
            found = [data.get(key) for key in Locked._fields]
    except (OSError, ValueError, AttributeError):  # whoever reads the lock says what is wrong with it
        return Locked()
    return Locked(*(text if isinstance(text, str) else "" for text in found))


def _check_keys(path: Path, data: Mapping[str, Any], above: str = "") -> None:
    parents = {key.rsplit(".", 1)[0] for key in KEYS if "." in key}
    for part, value in data.items():
        key = f"{above}{part}"
        if key in parents:
            tables = value if key in LISTS else [value]
            if not isinstance(tables, list):
                raise RecipeError(path, key, f"this must be a list of tables; begin each with [[{key}]]")
            for table in tables:
                if not isinstance(table, Mapping):
                    shape = f"[[{key}]]" if key in LISTS else f"[{key}]"
                    raise RecipeError(path, key, f"this must be a table; begin it with {shape}")
                _check_keys(path, table, f"{key}.")
        elif key not in KEYS:
            beside = {above + known.removeprefix(above).split(".")[0] for known in KEYS if known.startswith(above)}
            raise RecipeError(path, key, f"there is no such key{nearest(key, beside) or nearest(key, KEYS)}")
        else:
            if secret := address.secret(value):
                raise RecipeError(path, key, f"its address holds {secret}, {address.CURE}")
            if problem := value_kinds.problem(value, KEYS[key]):
                raise RecipeError(path, key, problem)


class _Reader:
    """One recipe's data on its way into the dataclasses; the keys' names and kinds are known to be right."""

    def __init__(self, path: Path, data: Mapping[str, Any], locked: Locked) -> None:
        self.path, self.data, self.locked = path, data, locked

    def recipe(self) -> Recipe:
        name = self.path.stem
        tag = self.get("llama_cpp")
        if tag is None:
            tag = self.locked.llama_cpp or newest_tag(of_folder(self.project))
        self.reference = self.reference_of(tag)
        try:
            base = base_table.base(self.reference, self.get, self.path.parent, self.locked.type)
        except Unfit as error:
            raise self.fail(error.key, error.problem) from None
        matrix = self.ftypes(base.type)
        files = tuple(ftype for ftype in matrix if ftype.upper() != base.type)
        try:
            convert_with, projectors = convert_table.converter(self.get), convert_table.projectors(self.get)
            calibration = calibration_table.calibration(self.reference, self.get, self.path.parent)
            imatrix = calibration_table.imatrix(self.reference, self.get, self.path.parent, calibration is not None)
            evaluation = quality_table.evaluation(self.reference, self.get, self.path.parent)
            gates = quality_table.gates(self.get, evaluation is not None)
            targets = target_table.targets(self.reference, self.get, (base.type, *matrix), self.ftype)
            search = target_table.search(self.reference, self.get, self.path.parent, bool(targets))
            self.searched = tuple(target.name for target in targets)
            self.names = (*matrix, *self.searched)
            bench = bench_table.bench(self.get, self.names, self.file)
            prefix = self.prefix(name, base, (*self.names, *(f"mmproj-{type_}" for type_ in projectors)))
            card, repo = card_table.card(self.get, self.path.parent), card_table.repo(self.get, prefix)
            keep_files = card_table.keep_files(self.get)
        except Unfit as error:
            raise self.fail(error.key, error.problem) from None
        overrides = tuple(self.override(table) for table in self.data.get("quants", {}).get("override", []))
        by_hand = any(override.tensors for override in overrides)
        try:
            check_options(tag, self.reference, tensor_types=by_hand or bool(targets))
        except UsageError as error:
            raise self.fail("quants.override.tensors" if by_hand else "quants.target", str(error)) from None
        return Recipe(
            path=self.path,
            name=name,
            llama_cpp=tag,
            reference=self.reference,
            prefix=prefix,
            base=base,
            imatrix=imatrix,
            calibration=calibration,
            evaluation=evaluation,
            gates=gates,
            bench=bench,
            ftypes=files,
            base_file=len(files) < len(matrix),
            overrides=overrides,
            max_size=self.max_size(),
            strict=self.get("strict") or False,
            card=card,
            repo=repo,
            data=self.data,
            convert_with=convert_with,
            projectors=projectors,
            as_built=self.get("publish.as_built") or False,
            keep_files=keep_files,
            targets=targets,
            search=search,
        )

    def fail(self, key: str, problem: str) -> RecipeError:
        return RecipeError(self.path, key, problem)

    def get(self, key: str) -> Any:
        value: Any = self.data
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def need(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise self.fail(key, "this key is missing; every recipe needs it")
        return value

    @property
    def project(self) -> Path:
        return self.path.parent.parent if self.path.parent.name == "recipes" else self.path.parent

    def reference_of(self, tag: str) -> Reference:
        try:
            return team_tags.reference_of(tag, self.project)
        except UsageError as error:
            raise self.fail("llama_cpp", str(error)) from None

    def prefix(self, name: str, base: base_table.Base, matrix: tuple[str, ...]) -> str:
        prefix = str(self.get("prefix") or (base.repo or name).replace("/", "_"))
        if not re.fullmatch(NAME, prefix):
            raise self.fail("prefix", f"{prefix!r} cannot begin file names; use {NAME_WORDS}")
        longest = max(len(f"{prefix}-{ftype}.gguf".encode()) for ftype in matrix)
        if longest > MAX_NAME:
            raise self.fail("prefix", f"it makes file names of {longest} bytes; a disk takes at most {MAX_NAME}")
        return prefix

    def ftypes(self, base: str) -> tuple[str, ...]:
        matrix = self.need("quants.matrix")
        if matrix == "standard":
            matrix = dict.fromkeys((base, *STANDARD_MATRIX))
        if isinstance(matrix, str):
            raise self.fail("quants.matrix", f'{matrix!r} is not a matrix; write "standard" or a list of ftypes')
        names = [self.ftype("quants.matrix", name) for name in matrix]
        if twice := {name for name in names if names.count(name) > 1}:
            raise self.fail("quants.matrix", f"{min(twice)} is listed twice; once is enough")
        return tuple(names)

    def ftype(self, key: str, name: str) -> str:
        try:
            found = self.reference.ftype(name)
        except UsageError as error:
            raise self.fail(key, str(error)) from None
        if found.needs_imatrix and self.get("imatrix") is None and self.get("calibration") is None:
            right = "give a text in [calibration] or a file in [imatrix], or leave it out"
            raise self.fail(key, f"{found.name} needs an importance matrix; {right}")
        return found.name

    def file(self, key: str, name: str) -> str:
        """A file's own spelling: a target's, or an ftype's."""
        targets = {table["name"].upper(): table["name"] for table in self.get("quants.target") or []}
        return targets.get(name.upper()) or self.ftype(key, name)

    def type(self, key: str, name: str) -> str:
        try:
            return tensor_type(name).name
        except UsageError as error:
            raise self.fail(key, str(error)) from None

    def override(self, table: Mapping[str, Any]) -> Override:
        from quantmill.reference.tensor_pattern import tensor_pattern

        above = "quants.override"
        ftypes = table.get("ftypes")
        if ftypes is not None:
            ftypes = tuple(self.file(f"{above}.ftypes", name) for name in ftypes)
            if strange := [name for name in ftypes if name not in self.names]:
                raise self.fail(f"{above}.ftypes", f"{strange[0]} is not in the matrix; add it there or remove it here")
            if table.get("pure") and (searched := {*ftypes} & {*self.searched}):
                raise self.fail(f"{above}.pure", f"{min(searched)} has no type of its own; remove it or `pure`")
        tensors = []
        for pattern, type_ in table.get("tensors", {}).items():
            try:
                tensor_pattern(pattern)
            except UsageError as error:
                raise self.fail(f"{above}.tensors", str(error)) from None
            tensors.append((pattern, self.type(f"{above}.tensors", type_)))
        output, embedding = (
            self.type(f"{above}.{key}", table[key]) if key in table else None for key in ("output", "token_embedding")
        )
        return Override(ftypes, output, embedding, tuple(tensors), table.get("pure", False))

    def max_size(self) -> int:
        asked = self.get("split.max_size")
        try:
            return parse_size("50GB" if asked is None else asked)
        except ValueError as error:
            raise self.fail("split.max_size", str(error)) from None
