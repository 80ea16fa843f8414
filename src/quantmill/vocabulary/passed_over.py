"""What files of a model say of its vocabulary and templates that others of its files, which win, say otherwise."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quantmill.architectures.errors import TokenizerError
from quantmill.architectures.json_file import load_json
from quantmill.gguf import KV
from quantmill.gguf.errors import shown
from quantmill.vocabulary import chat_template
from quantmill.vocabulary.hf_tokenizer import content

_TOKENS = "tokenizer.ggml.tokens"
_IDS = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "pad": "padding_token_id"}


def passed_over(
    files: Mapping[str, Path],
    settings: Mapping[str, Any],
    data: Mapping[str, Any] | None,
    entries: Sequence[KV],
    jinja_first: bool,
) -> Iterator[str]:
    """A sentence for each file that loses; `settings` is tokenizer_config.json, `data` tokenizer.json, and `entries`
    are those that are written."""
    written = {entry.key: entry.value for entry in entries}
    tokens: list[str] = written[_TOKENS]
    yield from _templates(files, settings, jinja_first)
    winner = "tokenizer.model" if "tokenizer.model" in files else "tokenizer.json"
    older = {name: _numbered(_raw(files, name)) for name in ("added_tokens.json", "vocab.json")}
    if winner == "tokenizer.model":
        told = settings.get("added_tokens_decoder")  # whoever takes these says what does not fit
        told = told if isinstance(told, Mapping) else {}
        older = {"tokenizer.json": {text: id_ for text, id_ in _texts(data or {}).items() if str(id_) not in told}}
    known = set(tokens)
    for name, ids in older.items():
        found = sorted((id_, text) for text, id_ in ids.items() if not _is(tokens, id_, text))
        more = f", and so {len(found) - 1} more" if len(found) > 1 else ""
        for id_, text in found[:1]:
            if text in known:
                yield f"{name} has {shown(text)} as the token {id_}; {winner} has another, which is written{more}"
            else:
                yield f"{name} has {shown(text)}, which {winner} lacks: it is left out{more}"
    yield from _specials(files, written, tokens)


def _templates(files: Mapping[str, Path], settings: Mapping[str, Any], jinja_first: bool) -> Iterator[str]:
    used = chat_template.templates(files, settings, jinja_first)
    for file, name, text in chat_template.stated(files, settings):
        taken, winner = used.get(name, ("", ""))
        if taken.rstrip("\n") != text.rstrip("\n"):
            instead = f"that of {winner} is" if winner else "none of that name is"
            called = "" if name == "default" else f" {shown(name)}"
            yield f"the chat template{called} of {file} is not written: {instead}, and the two differ"


def _specials(files: Mapping[str, Path], written: Mapping[str, Any], tokens: Sequence[str]) -> Iterator[str]:
    """Special tokens of special_tokens_map.json, which is not read, and ends of a text of generation_config.json."""
    known, mapped = set(tokens), _raw(files, "special_tokens_map.json")
    for kind, key in _IDS.items():
        text, id_ = content(mapped.get(f"{kind}_token")), written.get(f"tokenizer.ggml.{key}")
        if text in known and (id_ is None or tokens[id_] != text):
            other = shown(tokens[id_]) if id_ is not None else "none"
            yield f"special_tokens_map.json has {shown(text)} for {kind}; by other files it is {other}, as is written"
    ends = _raw(files, "generation_config.json").get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    ends = [end for end in ends if isinstance(end, int) and not isinstance(end, bool)]
    named = {value for key, value in written.items() if key.endswith(("eos_token_id", "eot_token_id", "eom_token_id"))}
    if ends and named and not named & set(ends):
        yield (
            f"generation_config.json ends a text with the token {ends[0]}; by the other files {min(named)} does, as is "
            "written"
        )


def _is(tokens: Sequence[str], id_: int, text: str) -> bool:
    return 0 <= id_ < len(tokens) and (tokens[id_] == text or _bare(tokens[id_]) == _bare(text))


def _bare(text: str) -> str:
    """Without spaces, which a tokenizer may take from an added token."""
    return "".join(text.replace("▁", " ").split())


def _texts(data: Mapping[str, Any]) -> dict[str, int]:
    """The tokens of a tokenizer.json, its own and those added, as far as it has them in a known form."""
    model = data.get("model")
    vocab = model.get("vocab") if isinstance(model, Mapping) else None
    if isinstance(vocab, list):
        vocab = {piece[0]: id_ for id_, piece in enumerate(vocab) if isinstance(piece, list) and piece}
    found = _numbered(vocab)
    added = data.get("added_tokens")
    for entry in added if isinstance(added, list) else ():
        found |= _numbered({entry.get("content"): entry.get("id")}) if isinstance(entry, Mapping) else {}
    return found


def _numbered(table: Any) -> dict[str, int]:
    pairs = table.items() if isinstance(table, Mapping) else ()
    return {
        text: id_ for text, id_ in pairs if isinstance(text, str) and isinstance(id_, int) and not isinstance(id_, bool)
    }


def _raw(files: Mapping[str, Path], name: str) -> Mapping[str, Any]:
    """A file that nothing of what is written is read of: a damaged one says nothing."""
    try:
        return load_json(files, name, TokenizerError) or {}
    except TokenizerError:
        return {}
