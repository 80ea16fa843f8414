"""What tokenizer.json's post-processor puts around a text, as far as the converter reads it.

Names are compared as tokenizer_config.json has them: a token that is a table there is equal to none, as there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from quantmill.architectures.errors import TokenizerError
from quantmill.reference.converter import TokenRules

_SPARE = ("eot", "eom")  # what the EOS that tokenizer_config.json names becomes, where a text ends by another


@dataclass
class Added:
    """`settings`: tokenizer_config.json with the tokens that the post-processor names.
    `flags`: what is said of adding BOS, EOS and SEP, in the order of the file.
    `sep`: what a part of the post-processor takes for SEP: not what a template before it made so.
    `kinds`: those of tokens beyond the usual ones, which `settings` names.
    """

    settings: dict[str, Any]
    flags: dict[str, bool]
    sep: Any
    kinds: tuple[str, ...] = ()


def added(data: Mapping[str, Any], settings: Mapping[str, Any], rules: TokenRules) -> Added:
    """What the post-processor of tokenizer.json, `data`, says; `settings` is tokenizer_config.json. Raises
    TokenizerError for one that no tokenizer has."""
    found = Added(dict(settings), {}, settings.get("sep_token"))
    if not data or not rules.is_processed:
        return found
    for name, other in (("bos", "cls"), ("eos", "sep")):
        if not _of(found, name) and _of(found, other):
            found.settings[f"{name}_token"] = _of(found, other)
    processor = data.get("post_processor")
    for part in _parts(processor) if processor else ():
        kind = part.get("type")
        if kind == "ByteLevel" and rules.bytes_add_none:
            found.flags.setdefault("bos", False)
            found.flags.setdefault("eos", False)
        elif kind == "RobertaProcessing":
            found.flags |= {"bos": True, "eos": True, "sep": True}
            for name, other, known in (("cls", "bos", _of(found, "cls")), ("sep", "eos", found.sep)):
                if not known and settings:
                    pair = part.get(name) or [_of(found, other)]
                    found.settings[f"{name}_token"] = pair[0] if isinstance(pair, list) else None
            found.sep = found.sep or _of(found, "sep")
        elif kind == "TemplateProcessing":
            _template(found, part, bool(settings), rules)
    return found


def _of(found: Added, kind: str) -> Any:
    return found.settings.get(f"{kind}_token")


def _parts(processor: Any) -> Iterator[Mapping[str, Any]]:
    parts = processor.get("processors", [processor]) if isinstance(processor, Mapping) else None
    for part in parts if isinstance(parts, list) else [None]:
        if not isinstance(part, Mapping):
            raise TokenizerError("tokenizer.json's `post_processor` is no table, or has a part that is none")
        yield part


def _template(found: Added, part: Mapping[str, Any], stated: bool, rules: TokenRules) -> None:
    """`<s> A` for one text and `<s> A <s> B` for two; `stated`: there is a tokenizer_config.json."""
    single, pair = _items(part, "single"), _items(part, "pair")
    first = last = None
    bos, eos = _of(found, "bos"), _of(found, "eos")
    if len(single) > 1 and (first := _token(single[0])):
        begins = [bos, _of(found, "cls")]
        if not stated:
            begins = [first]
        elif rules.leading_is_bos and first not in begins:
            for kind in ("bos", "cls"):
                if not _of(found, kind):
                    found.settings[f"{kind}_token"] = first
            begins = [_of(found, "bos"), _of(found, "cls")]
        found.flags["bos"] = first in begins
    if len(single) > 1 and (last := _token(single[-1])):
        if not stated:
            eos = last
        elif last != eos:
            if spare := [kind for kind in _SPARE if kind not in found.kinds]:
                found.kinds += (spare[0],)
                found.settings[f"{spare[0]}_token"] = eos
            found.settings["eos_token"] = eos = last
        found.flags["eos"] = True
    if first and pair and _token(pair[0]) == first:
        pair = pair[1:]
    if last and pair and _token(pair[-1]) == last:
        pair = pair[:-1]
    between = pair[1:-1]
    if not between or _text(pair[0]) != "A" or _text(pair[-1]) != "B":
        return
    known = [text for text in (found.sep, eos) if text]
    adds = (not last and _token(between[0]) in known) or (len(between) == 2 and _token(between[1]) in known)
    found.flags["sep"] = adds
    if adds and not found.sep and stated:
        found.settings["sep_token"] = eos


def _items(part: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = part.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise TokenizerError(f"tokenizer.json's `post_processor` has a template whose `{key}` is no list of tables")
    return found


def _token(item: Mapping[str, Any]) -> Any:
    """The special token that an item of a template is; None for a text."""
    return _id(item, "SpecialToken")


def _text(item: Mapping[str, Any]) -> Any:
    return _id(item, "Sequence")


def _id(item: Mapping[str, Any], kind: str) -> Any:
    table = item.get(kind)
    return table.get("id") if isinstance(table, Mapping) else None
