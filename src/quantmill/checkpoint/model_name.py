"""What a model's name says: the parts that llama.cpp's converter reads out of `Qwen2.5-32B-Instruct`.

The rules are those of gguf-py's metadata heuristics at b5490, as facts. A name is cut at hyphens. Each part is a
version, a size, a format or a kind of training; what comes before all of them is the base name.
"""

import re
from dataclasses import dataclass, field

_VERSION = re.compile(r"(v|iter)?\d+(\.\d+)*", re.IGNORECASE)
_FORMAT = re.compile(r"i?q\d(_\w)*|b?fp?(16|32)", re.IGNORECASE)
_SIZE = re.compile(r"(([A]|\d+[x])?\d+([._]\d+)?[KMBT]\d?|small|mini|medium|large|x?xl)", re.IGNORECASE)
_TRAINING = re.compile(r"chat|instruct|vision|lora", re.IGNORECASE)
_KEPT = re.compile(r"(v\d+(\.\d+)*|\d.*)$")
_UNITS = {"": 0, "K": 1, "M": 2, "B": 3, "T": 4}


@dataclass(frozen=True)
class Components:
    """The parts of a model id; None for what it does not say."""

    name: str | None = None
    organization: str | None = None
    basename: str | None = None
    finetune: str | None = None
    version: str | None = None
    size_label: str | None = None


@dataclass
class _Part:
    text: str
    kinds: set[str] = field(default_factory=set)


def title(text: str) -> str:
    """`qwen2.5-32b-Instruct` → `Qwen2.5 32b Instruct`: capitals for lower-case words that are no version or number."""
    words = text.strip().replace("-", " ").split()
    return " ".join(word.title() if word.islower() and not _KEPT.match(word) else word for word in words)


def components(model_id: str, parameters: int = 0) -> Components:
    """The parts of `organization/name`. A name with spaces is a title and has no parts.

    `parameters` is the model's number of weights: a "size" far from it (`128k`) is a context length.
    """
    if " " in model_id:
        return Components(model_id)
    organization, slash, name = model_id.partition("/")
    if not slash:
        name = model_id
    parts = [_Part(text) for text in name.split("-") if text]
    for index, part in enumerate(parts):
        _annotate(part, index == 0, parameters)
    sizes = [part for part in parts if "size" in part.kinds]
    if any(character.isdecimal() for part in sizes for character in part.text):
        for part in sizes:
            if part.text.isalpha():
                part.kinds.discard("size")
    _mark_base(parts)

    def joined(kind: str, without: str = "") -> str | None:
        return "-".join(part.text for part in parts if kind in part.kinds and without not in part.kinds) or None

    size = "-".join(dict.fromkeys(part.text for part in parts if "size" in part.kinds)) or None
    finetune, version = joined("finetune"), joined("version", without="base")
    has_parts = size is not None or finetune is not None or version is not None
    return Components(
        name,
        organization if slash and not organization.startswith(".") else None,
        joined("base") if has_parts else None,  # a base name alone would only repeat the name
        finetune,
        version,
        size,
    )


def _annotate(part: _Part, first: bool, parameters: int) -> None:
    if _VERSION.fullmatch(part.text):
        part.kinds.add("version")
    elif _FORMAT.fullmatch(part.text):
        part.kinds.add("format")
        part.text = part.text.upper()
    elif not first and _SIZE.fullmatch(part.text):
        _annotate_size(part, parameters)
    elif not first and _TRAINING.fullmatch(part.text):
        part.kinds.add("finetune")


def _annotate_size(part: _Part, parameters: int) -> None:
    text = part.text.replace("_", ".")
    if text[-1].isdecimal():  # bloom's 7b1 is 7.1B
        text = f"{text[:-2]}.{text[-1]}{text[-2]}"
    if len(text) > 1 and text[-2].isdecimal() and text[-1] in "kmbt":
        text = text[:-1] + text[-1].upper()
    kind = "size"
    if parameters:
        try:
            weights = float(text[:-1]) * 1000 ** _UNITS.get(text[-1], -1)
        except ValueError:
            pass  # a word, or 8x7B: taken at its word
        else:
            if abs(weights - parameters) > 7 * parameters // 8:
                kind, text = "finetune", text[:-1] + text[-1].lower()
    part.text = text
    part.kinds.add(kind)


def _mark_base(parts: list[_Part]) -> None:
    """The base name: the words at the start and the versions among them, but not versions that come last."""
    at_start = True
    for part in parts:
        at_start = at_start and (("version" in part.kinds) or (not part.kinds and part.text[0].isalpha()))
        if at_start:
            part.kinds.add("base")
        elif not part.kinds:
            part.kinds.add("finetune")
    for part in reversed(parts):
        if "base" not in part.kinds or len(part.kinds) == 1:
            break
        part.kinds.discard("base")


def size_label(total: int, shared: int = 0, expert: int = 0, experts: int = 0) -> str:
    """`494M`, `32B`, `8x7B`: the number of weights with at least two digits; for experts, of one expert's model."""
    return f"{experts}x{_rounded(shared + expert)}" if experts else _rounded(total)


def _rounded(count: int) -> str:
    units = ((1e12, 1e-12, "T"), (1e9, 1e-9, "B"), (1e6, 1e-6, "M"), (-1, 1e-3, "K"))
    scale, unit = next((scale, unit) for limit, scale, unit in units if count > limit)
    scaled = count * scale
    digits = max(2 - len(str(round(scaled)).lstrip("0")), 0)
    return f"{scaled:.{digits}f}{unit}"
