"""What a recipe says of its importance matrix: the keys of [calibration], a text to compute it from, and of [imatrix],
how, or a ready file instead."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.errors import Unfit
from quantmill.recipe.convert_table import OWN, tool_of
from quantmill.reference.reference import Reference
from quantmill.units import parse_size

_TEXT = {"text": "file", "url": "address", "sha256": "string", "name": "string"}
KEYS: dict[str, str] = {
    "imatrix.file": "file",
    "imatrix.sha256": "string",
    "imatrix.name": "string",
    "imatrix.arithmetic": "string",
    "imatrix.memory": "size",
    "imatrix.form": "string",
    "imatrix.zero_as_one": "boolean",
    "imatrix.with": "string",
    "imatrix.args": "list",
    **{f"calibration.{key}": kind for key, kind in _TEXT.items()},
    "calibration.n_ctx": "count",
    "calibration.chunks": "count",
    "calibration.from_chunk": "count",
    "calibration.process_output": "boolean",
    "calibration.process_embedding": "boolean",
    "calibration.perplexity": "boolean",
    "calibration.parse_special": "boolean",
    **{f"calibration.texts.{key}": kind for key, kind in _TEXT.items()},
    "calibration.texts.weight": "count",
}
ARITHMETICS = ("f32", "bf16x2")
FORMS = ("dat", "gguf")
# Options of llama-imatrix that the recipe's own keys decide, or by which it would do something else.
TAKEN = (
    *("-m", "--model", "-f", "--file", "-o", "--output", "--output-file", "-c", "--ctx-size", "--chunks", "--chunk"),
    *("--from-chunk", "--process-output", "--ppl", "--no-ppl", "--parse-special", "--output-format", "--in-file", "-t"),
    *("--threads", "-hf", "-hfr", "--hf-repo", "-mu", "--model-url", "--show-statistics", "--save-frequency"),
)
MEMORY = 8_000_000_000


@dataclass(frozen=True)
class TextSource:
    """A text: exactly one of `path` and `url`. `sha256` is None where the lock alone says it; `weight` is
    None for a text that is used whole."""

    name: str
    path: Path | None
    url: str | None
    sha256: str | None
    weight: int | None


@dataclass(frozen=True)
class Calibration:
    """What the matrix is computed from. `chunks` None: all of them."""

    texts: tuple[TextSource, ...]
    n_ctx: int
    chunks: int | None
    from_chunk: int
    process_output: bool
    perplexity: bool
    parse_special: bool = False
    process_embedding: bool = False

    @property
    def least(self) -> int:
        """The tokens that each text must have."""
        return (self.from_chunk + 2) * self.n_ctx + (self.from_chunk > 0)

    @property
    def dataset(self) -> str:
        """What the imatrix file calls its text."""
        return ", ".join(text.name for text in self.texts)


@dataclass(frozen=True)
class ImatrixTable:
    """An importance matrix: the ready `file` with its `sha256`, or, where `file` is None, one to compute by
    `arithmetic` in `memory` bytes. `name` is the literal path that the quantized files' metadata records. `form` is the
    file's where it is not the span's own; `output` is what the step calls the file; `zero_as_one`: columns without
    importance weigh alike; `tool`: who computes it, as convert_table.tool; `args`: what its llama-imatrix is given."""

    file: Path | None
    sha256: str
    name: str
    arithmetic: str
    memory: int
    output: str
    form: str | None = None
    zero_as_one: bool = False
    tool: str = OWN
    args: tuple[str, ...] = ()


def calibration(reference: Reference, get: Callable[[str], Any], folder: Path) -> Calibration | None:
    """The [calibration] of a recipe in `folder` whose keys' kinds are known to be right, None when it has none;
    `get` is its value by key. Raises Unfit."""
    table = get("calibration")
    if table is None:
        return None
    listed = table.get("texts")
    if (listed is None) == ("text" not in table and "url" not in table):
        raise Unfit("calibration", "give one text by `text` or `url`, or several as [[calibration.texts]]")
    texts: tuple[TextSource, ...]
    if listed is None:
        texts = (read_text("calibration", table, folder),)
    else:
        if extra := [key for key in ("sha256", "name") if key in table]:
            raise Unfit(f"calibration.{extra[0]}", "with [[calibration.texts]] this belongs to each of them")
        texts = tuple(read_text("calibration.texts", text, folder) for text in listed)
    names = [text.name for text in texts]
    if not texts or len(set(names)) < len(names):
        raise Unfit("calibration.texts", "no text, or two of one name; give each a `name` of its own")
    if len({text.weight is None for text in texts}) > 1:
        raise Unfit("calibration.texts.weight", "some texts have a weight and some none; give it to all or to none")
    if get("calibration.parse_special") and not reference.imatrix.parses_special:
        raise Unfit("calibration.parse_special", f"llama-imatrix of {reference} is not known to have it; remove it")
    if get("calibration.process_embedding") and get("imatrix.with") not in (None, "own"):
        raise Unfit("calibration.process_embedding", "llama-imatrix does not measure it; remove it or `imatrix.with`")
    if get("calibration.chunks") == 0:
        raise Unfit("calibration.chunks", "0 chunks measure nothing; leave it out for all")
    return Calibration(
        texts=texts,
        n_ctx=n_ctx_of(reference, "calibration", table),
        chunks=get("calibration.chunks"),
        from_chunk=get("calibration.from_chunk") or 0,
        process_output=get("calibration.process_output") or False,
        perplexity=get("calibration.perplexity") is not False,
        parse_special=get("calibration.parse_special") or False,
        process_embedding=get("calibration.process_embedding") or False,
    )


def imatrix(reference: Reference, get: Callable[[str], Any], folder: Path, computed: bool) -> ImatrixTable | None:
    """The [imatrix] of a recipe; `computed`: it has a [calibration].
    None for a recipe without either. Raises Unfit."""
    table = get("imatrix")
    if table is None and not computed:
        return None
    file, digest = get("imatrix.file"), get("imatrix.sha256")
    if file is not None and computed:
        raise Unfit("imatrix.file", "a ready file needs no [calibration]; remove one of the two")
    for key in ("arithmetic", "memory", "form", "with", "args"):
        if file is not None and get(f"imatrix.{key}") is not None:
            raise Unfit(f"imatrix.{key}", "nothing is computed for a ready file; remove it")
    if file is None and not computed:
        raise Unfit(
            "imatrix.file", "this key is missing; give a ready file, or a text to compute it from: [calibration]"
        )
    if file is None and digest is not None:
        raise Unfit("imatrix.sha256", "only a ready file (imatrix.file) has one; remove it")
    if file is not None and (digest is None or not _is_digest(digest)):
        problem = "this key is missing" if digest is None else f"{digest!r} is not a sha256"
        raise Unfit("imatrix.sha256", f"{problem}; give its 64 lower-case hex digits")
    arithmetic = get("imatrix.arithmetic") or ARITHMETICS[0]
    if arithmetic not in ARITHMETICS:
        raise Unfit("imatrix.arithmetic", f"{arithmetic!r} is not one of {', '.join(ARITHMETICS)}")
    memory = get("imatrix.memory")
    try:
        limit = MEMORY if memory is None else parse_size(memory)
    except ValueError as error:
        raise Unfit("imatrix.memory", str(error)) from None
    form = get("imatrix.form") or reference.imatrix.form
    if file is not None:  # nobody reads it yet: its name says what it is
        form = "gguf" if file.endswith(".gguf") else "dat"
    if form not in FORMS:
        raise Unfit("imatrix.form", f"{form!r} is not one of {', '.join(FORMS)}")
    made_by = _tool(get, table or {})
    name = get("imatrix.name") or file or f"imatrix.{form}"
    return ImatrixTable(
        folder / file if file else None,
        digest or "",
        name,
        arithmetic,
        limit,
        reference.imatrix.file_name(form),
        form if file is None and form != reference.imatrix.form else None,
        get("imatrix.zero_as_one") or False,
        made_by,
        tuple(get("imatrix.args") or ()),
    )


def _tool(get: Callable[[str], Any], table: Mapping[str, Any]) -> str:
    found = tool_of(get, "imatrix", "llama-imatrix", ("arithmetic", "memory"), TAKEN)
    if found != OWN and "form" in table:
        raise Unfit("imatrix.form", "llama-imatrix writes the form of its tag; remove it")
    return found


def n_ctx_of(reference: Reference, name: str, table: Mapping[str, Any]) -> int:
    """The tokens of a chunk that a table of keys like [calibration]'s names. Raises Unfit."""
    rules = reference.imatrix
    n_ctx: int = table.get("n_ctx", rules.batch)
    if not rules.ends_whole(n_ctx):
        problem = f"{n_ctx} leaves a batch of fewer than {rules.least_batch} tokens; choose {rules.batch}, say"
        raise Unfit(f"{name}.n_ctx", problem)
    return n_ctx


def read_text(key: str, table: Mapping[str, Any], folder: Path) -> TextSource:
    """The text that a table of keys like [calibration]'s names. Raises Unfit."""
    path, url, digest = table.get("text"), table.get("url"), table.get("sha256")
    if (path is None) == (url is None):
        raise Unfit(key, "give either `text`, a file's path, or `url`")
    if url is not None and not re.fullmatch(r"https?://[!-.0-~]+/[!-~]+", url):
        raise Unfit(
            f"{key}.url", f"{url!r} is not an address like https://example.org/text.txt; write all but ASCII as %XX"
        )
    if digest is not None and not _is_digest(digest):
        raise Unfit(f"{key}.sha256", f"{digest!r} is not a sha256; give its 64 lower-case hex digits")
    weight = table.get("weight")
    if weight == 0:
        raise Unfit(f"{key}.weight", "a text of weight 0 is never read; leave it out")
    name = table.get("name") or path or url
    return TextSource(str(name), folder / path if path else None, url, digest, weight)


def _is_digest(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None
