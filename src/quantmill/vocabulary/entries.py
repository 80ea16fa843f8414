"""The `tokenizer.*` keys: the vocabulary, its special tokens and the chat template."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_letters, digits
from typing import Any

from quantmill.architectures.checkpoint_tensors import architecture, hparams
from quantmill.architectures.errors import TokenizerError
from quantmill.architectures.json_file import load_json, read_file
from quantmill.gguf import KV, ValueType, kv
from quantmill.vocabulary import byte_level, pretokenizer, spm
from quantmill.vocabulary.hf_tokenizer import SPECIALS, HFTokenizer, content
from quantmill.vocabulary.sentencepiece import Piece

_PREFIX = "tokenizer.ggml."
_ID_KEYS = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "sep": "seperator_token_id",  # so spelt in GGUF
    "pad": "padding_token_id",
    "mask": "mask_token_id",
}
_FLAG_KEYS = {"bos": "add_bos_token", "eos": "add_eos_token"}
# Two vocabularies that the converter's llama class knows by their size alone.
_CODE_LLAMA, _GRANITE = 32016, 49152
_CODE_LLAMA_EOT = 32010


def vocabulary(files: Mapping[str, Path], config: Mapping[str, Any], pre_tokenizer: str | None = None) -> list[KV]:
    """Every `tokenizer.*` entry in the converter's order.

    tokenizer.model wins over tokenizer.json, as there. `pre_tokenizer` overrides the name that the tokenizer's own
    pattern has. Raises TokenizerError or UnknownPreTokenizer.
    """
    row, found = architecture(config), hparams(config)
    settings = load_json(files, "tokenizer_config.json", TokenizerError) or {}
    data = load_json(files, "tokenizer.json", TokenizerError)
    size: int = found["vocab_size"]
    tokenizer = HFTokenizer(data or {}, settings, str(config.get("model_type", "")))
    limit: int | None = None
    if "tokenizer.model" in files:
        pieces = spm.from_model(files, settings, size)
        entries, limit = list(_spm(pieces)), len(pieces)
    elif row.sentencepiece:
        raise TokenizerError(f"the model has no tokenizer.model, the only file that {row.gguf}'s vocabulary is made of")
    elif data is None:
        raise TokenizerError("the model has neither tokenizer.model nor tokenizer.json; one of them is needed")
    elif row.llama_vocabulary and spm.is_spm_json(data):
        pieces = spm.from_json(tokenizer)
        entries, limit = list(_spm(pieces)), len(pieces)
    else:
        pre = pre_tokenizer or pretokenizer.name(data, tokenizer.specials.get("bos"))
        entries = list(_byte_level(tokenizer, size, pre))
    entries += _special(data or {}, settings, config, limit)
    entries += template_entries(files, settings)
    if row.llama_vocabulary:
        entries += _llama(settings, size, {entry.key for entry in entries})
    if row.sentencepiece:
        entries.append(kv(_PREFIX + "add_space_prefix", False))
    return entries


def _byte_level(tokenizer: HFTokenizer, size: int, pre: str) -> Iterator[KV]:
    tokens = byte_level.tokens(tokenizer, size)
    yield kv(_PREFIX + "model", "gpt2")
    yield kv(_PREFIX + "pre", pre)
    yield kv(_PREFIX + "tokens", [text for text, _ in tokens])
    yield kv(_PREFIX + "token_type", [type_ for _, type_ in tokens], subtype=ValueType.INT32)
    if tokenizer.merges:
        yield kv(_PREFIX + "merges", tokenizer.merges)


def _spm(pieces: Sequence[Piece]) -> Iterator[KV]:
    yield kv(_PREFIX + "model", "llama")
    yield kv(_PREFIX + "pre", "default")
    yield kv(_PREFIX + "tokens", [piece.text for piece in pieces], subtype=ValueType.STRING)
    yield kv(_PREFIX + "scores", [piece.score for piece in pieces], subtype=ValueType.FLOAT32)
    yield kv(_PREFIX + "token_type", [piece.type for piece in pieces], subtype=ValueType.INT32)


def _special(
    data: Mapping[str, Any], settings: Mapping[str, Any], config: Mapping[str, Any], limit: int | None
) -> Iterator[KV]:
    """Ids by the token's text among tokenizer.json's added tokens, else as config.json has them; then add_…_token.

    An id is left out when it is not below `limit` or, as a list of ids is, not one number.
    """
    entries = data.get("added_tokens")
    by_content: dict[str, Any] = {}
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, Mapping):
            raise TokenizerError("tokenizer.json has an added token that is no table; fetch it again")
        by_content.setdefault(str(entry.get("content")), entry.get("id"))
    stated = {kind: by_content.get(content(settings.get(f"{kind}_token")) or "") for kind in SPECIALS}
    configured = {kind: config.get(f"{kind}_token_id") for kind in SPECIALS}
    ids: dict[str, int] = {}
    for source in (stated, configured):
        for kind, id_ in source.items():
            if not isinstance(id_, int) or (limit is not None and id_ >= limit):
                continue
            if id_ < 0:
                raise TokenizerError(f"the {kind} token has the id {id_}; an id is not negative")
            ids.setdefault(kind, id_)
    yield from (kv(_PREFIX + _ID_KEYS[kind], int(id_)) for kind, id_ in ids.items() if kind in _ID_KEYS)
    for kind, key in _FLAG_KEYS.items():
        if isinstance(settings.get(f"add_{kind}_token"), bool):
            yield kv(_PREFIX + key, settings[f"add_{kind}_token"])


def template_entries(files: Mapping[str, Path], settings: Mapping[str, Any]) -> Iterator[KV]:
    """The chat template: tokenizer_config.json's, else chat_template.json's, else the file chat_template.jinja.

    The converter at b5490 does not look for the last, which transformers writes since; without it a new model would
    have no template at all.
    """
    template = settings.get(
        "chat_template", (load_json(files, "chat_template.json", TokenizerError) or {}).get("chat_template")
    )
    if template is None and "chat_template.jinja" in files:
        try:
            raw = read_file(files["chat_template.jinja"], "chat_template.jinja", TokenizerError)
            template = raw.decode().replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError:
            raise TokenizerError("chat_template.jinja is not UTF-8 text; fetch it again") from None
    if isinstance(template, str):
        if template:
            yield kv("tokenizer.chat_template", template)
        return
    named = dict(_named(template if isinstance(template, list) else []))
    default = named.pop("default", None)
    for name, text in named.items():
        if text:
            yield kv(f"tokenizer.chat_template.{name}", text)
    if named:
        yield kv("tokenizer.chat_templates", list(named))
    if default:
        yield kv("tokenizer.chat_template", default)


def _named(choices: Sequence[Any]) -> Iterator[tuple[str, str]]:
    for choice in choices:
        name, text = (choice.get("name"), choice.get("template")) if isinstance(choice, Mapping) else (None, None)
        if isinstance(name, str) and name and isinstance(text, str):
            yield "".join(letter if letter in ascii_letters + digits else "_" for letter in name), text


def _llama(settings: Mapping[str, Any], size: int, present: set[str]) -> Iterator[KV]:
    if size == _CODE_LLAMA:
        yield kv(_PREFIX + "eot_token_id", _CODE_LLAMA_EOT)
    if "add_prefix_space" in settings:
        yield kv(_PREFIX + "add_space_prefix", bool(settings["add_prefix_space"]))
    if size == _GRANITE and _PREFIX + "add_bos_token" not in present:
        yield kv(_PREFIX + "add_bos_token", False)
