"""The `tokenizer.*` keys: the vocabulary, its special tokens and the chat template."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quantmill.architectures.configuration import hparams
from quantmill.architectures.errors import TokenizerError, UnknownVocabulary
from quantmill.architectures.json_file import load_json
from quantmill.architectures.known import class_of
from quantmill.gguf import KV, ValueType, kv
from quantmill.gguf.errors import shown
from quantmill.reference.converter import TokenRules
from quantmill.reference.reference import Reference
from quantmill.reference.spans import newest
from quantmill.vocabulary import byte_level, character_bpe, chat_template, pretokenizer, spm, tiktoken_ranks
from quantmill.vocabulary.hf_tokenizer import SPECIALS, HFTokenizer, content
from quantmill.vocabulary.passed_over import passed_over
from quantmill.vocabulary.post_processor import added
from quantmill.vocabulary.sentencepiece import Piece

_PREFIX = "tokenizer.ggml."
_ID_KEYS = {
    "bos": "bos_token_id",
    "eos": "eos_token_id",
    "unk": "unknown_token_id",
    "sep": "seperator_token_id",  # so spelt in GGUF
    "pad": "padding_token_id",
    "mask": "mask_token_id",
    "eot": "eot_token_id",
    "eom": "eom_token_id",
}
_NORMALIZERS = {"Lowercase": "lowercase", "StripAccents": "strip_accents"}
_FLAG_KEYS = {"bos": "add_bos_token", "eos": "add_eos_token", "sep": "add_sep_token"}
_MODEL_ALONE = ("sentencepiece", "ernie", "phi3")  # vocabularies that are made of tokenizer.model alone
_END = "<|endoftext|>"
_TAKEN = {
    "glm": {"bos": "[gMASK]", "eot": "<|user|>", "unk": _END, "eom": "<|observation|>"},
    "glm4": {"eos": _END, "eot": "<|user|>", "unk": _END, "bos": _END},
}
_NEEDED = ("bos", "eos")  # what llama.cpp never does without
# Two vocabularies that the converter's llama class knows by their size alone.
_CODE_LLAMA, _GRANITE = 32016, 49152
_CODE_LLAMA_EOT = 32010


def vocabulary(
    files: Mapping[str, Path],
    config: Mapping[str, Any],
    pre_tokenizer: str | None = None,
    notes: list[str] | None = None,
    reference: Reference | None = None,
) -> list[KV]:
    """Every `tokenizer.*` entry in the order of the reference's converter.

    tokenizer.model wins over tokenizer.json, as there. `pre_tokenizer` overrides the name that the tokenizer's own
    pattern has. `notes` is given a sentence for whatever is left out. Raises TokenizerError or UnknownPreTokenizer.
    """
    reference, notes = reference or newest(), [] if notes is None else notes
    (row, class_), found = class_of(config), hparams(config)
    settings = load_json(files, "tokenizer_config.json", TokenizerError) or {}
    data = load_json(files, "tokenizer.json", TokenizerError)
    size: int = found["vocab_size"]
    rules = reference.converter.tokens
    tokenizer = HFTokenizer(data or {}, settings, str(config.get("model_type", "")))
    bytes_alone = class_.vocabulary == "phi3" and settings.get("tokenizer_class") == "GPT2Tokenizer"
    if "tokenizer.model" in files and not bytes_alone and class_.vocabulary != "gemma4":
        beside = (data or {}) if class_.vocabulary == "phi3" else None
        entries = list(_spm(spm.from_model(files, settings, size, notes, rules.takes_surplus, beside)))
    elif class_.vocabulary in _MODEL_ALONE and not bytes_alone:
        raise UnknownVocabulary(
            f"the model has no tokenizer.model, the only file that {row.name}'s vocabulary is made of; "
            "take that of the model that it was tuned from"
        )
    elif data is None and class_.vocabulary == "kimi" and tiktoken_ranks.FILE in files:
        entries = list(_ranks(files[tiktoken_ranks.FILE], settings, size))
    elif data is None:
        raise UnknownVocabulary(_missing(files))
    elif class_.vocabulary == "gemma4":
        entries = list(_characters(tokenizer, size))
    elif class_.vocabulary == "llama" and spm.is_spm_json(data):
        entries = list(_spm(spm.from_json(tokenizer, size)))
    else:
        names = reference.converter.vocabularies
        names = {digest: pre for digest, pre in names.items() if pre in reference.pre_tokenizers}
        pre = pre_tokenizer or pretokenizer.known(data, names)
        pre = pre or pretokenizer.name(data, tokenizer.specials.get("bos"))
        entries = list(_byte_level(tokenizer, size, pre))
    if pre_tokenizer is not None and entries[0].value == "llama":
        notes.append(f"its vocabulary is SentencePiece's, which has no pre-tokenizer: {pre_tokenizer} is not used")
    entries += _special(data or {}, settings, config, size, notes, rules, _TAKEN.get(class_.vocabulary, {}))
    chat_template.check(files, settings, rules.is_jinja_first)
    templates = list(chat_template.template_entries(files, settings, rules.is_jinja_first))
    if templates and templates[-1].key != chat_template.KEY:
        notes.append("none of its named chat templates is the default, without which llama.cpp takes ChatML's")
    entries += templates
    entries += _normalizer(data or {}, rules)
    if class_.vocabulary == "llama":
        entries = _llama(entries, settings, size, rules)
    if class_.vocabulary == "sentencepiece":
        entries.append(kv(_PREFIX + "add_space_prefix", False))
    if class_.vocabulary == "ernie" and "add_prefix_space" in settings:
        entries.append(kv(_PREFIX + "add_space_prefix", bool(settings["add_prefix_space"])))
    if class_.vocabulary == "gemma4":
        written = {entry.key: entry for entry in entries}
        more = [kv(_PREFIX + "add_space_prefix", False), kv(_PREFIX + "add_bos_token", True)]
        entries = list((written | {entry.key: entry for entry in more}).values())
    if class_.vocabulary == "hunyuan":
        entries = _hunyuan(entries, files, size)
    notes += passed_over(files, settings, data, entries, rules.is_jinja_first)
    return entries


def _byte_level(tokenizer: HFTokenizer, size: int, pre: str) -> Iterator[KV]:
    tokens = byte_level.tokens(tokenizer, size)
    yield kv(_PREFIX + "model", "gpt2")
    yield kv(_PREFIX + "pre", pre)
    yield kv(_PREFIX + "tokens", [text for text, _ in tokens])
    yield kv(_PREFIX + "token_type", [type_ for _, type_ in tokens], subtype=ValueType.INT32)
    if tokenizer.merges:
        yield kv(_PREFIX + "merges", tokenizer.merges)


def _ranks(path: Path, settings: Mapping[str, Any], size: int) -> Iterator[KV]:
    if settings.get("tokenizer_class") != tiktoken_ranks.CLASS:
        raise UnknownVocabulary(
            f"tokenizer_config.json's `tokenizer_class` is {settings.get('tokenizer_class')!r}; of the vocabularies in "
            f"{tiktoken_ranks.FILE} only that of Kimi, {tiktoken_ranks.CLASS}, can be converted"
        )
    found = tiktoken_ranks.ranks(path)
    tokens = tiktoken_ranks.tokens(found, settings, size)
    yield kv(_PREFIX + "model", "gpt2")
    yield kv(_PREFIX + "pre", tiktoken_ranks.PRE)
    yield kv(_PREFIX + "tokens", [text for text, _ in tokens])
    yield kv(_PREFIX + "token_type", [type_ for _, type_ in tokens], subtype=ValueType.INT32)
    yield kv(_PREFIX + "merges", tiktoken_ranks.merges(found), subtype=ValueType.STRING)


def _characters(tokenizer: HFTokenizer, size: int) -> Iterator[KV]:
    tokens = character_bpe.tokens(tokenizer, size)
    yield kv(_PREFIX + "model", "gemma4")
    yield kv(_PREFIX + "tokens", [text for text, _ in tokens])
    yield kv(_PREFIX + "scores", [character_bpe.SCORE] * len(tokens), subtype=ValueType.FLOAT32)
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
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    config: Mapping[str, Any],
    size: int,
    notes: list[str],
    rules: TokenRules,
    taken: Mapping[str, str],
) -> Iterator[KV]:
    """Ids by the token's text among tokenizer.json's added tokens, else as config.json has them; then add_…_token.

    What is, as a list of ids is, not one number is left out, and so is an id that no token has: llama.cpp would take
    another in its place. For BOS and EOS, which it never does without, that is an error. `taken` are added tokens that
    the class takes for a kind, whatever the files say.
    """
    entries = data.get("added_tokens")
    by_content: dict[str, Any] = {}
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, Mapping):
            raise TokenizerError("tokenizer.json has an added token that is no table; fetch it again")
        by_content.setdefault(str(entry.get("content")), entry.get("id"))
    found = added(data, settings, rules)
    kinds = (*SPECIALS, *found.kinds)
    stated = {kind: by_content.get(content(found.settings.get(f"{kind}_token")) or "") for kind in kinds}
    text = config.get("text_config") if rules.has_text_ids else None
    table = {**text, **_known(config)} if isinstance(text, Mapping) else config
    configured = {kind: table.get(f"{kind}_token_id") for kind in kinds}
    ids: dict[str, int] = {}
    for source, where in ((stated, "tokenizer.json"), (configured, "config.json")):
        for kind, id_ in source.items():
            if not isinstance(id_, int) or isinstance(id_, bool) or kind in ids:
                continue
            if 0 <= id_ < size:
                ids[kind] = id_
                continue
            problem = f"{where} gives the {kind} token the id {id_}, and the vocabulary has {size} tokens"
            if kind in _NEEDED:
                raise TokenizerError(f"{problem}; correct it there")
            notes.append(f"{problem}: it is left out")
    for kind, text in taken.items():
        if not isinstance(by_content.get(text), int):
            raise TokenizerError(f"tokenizer.json has no added token {text!r}, which the class takes for {kind}")
        ids[kind] = by_content[text]
    if "eos" not in ids:
        notes.append("no file gives the eos token one id, in whose place llama.cpp takes a token of its own choice")
    yield from (kv(_PREFIX + _ID_KEYS[kind], id_) for kind, id_ in ids.items() if kind in _ID_KEYS)
    flags = dict(found.flags)
    for kind in _FLAG_KEYS if rules.is_processed else _NEEDED:
        adds = settings.get(f"add_{kind}_token")
        if isinstance(adds, bool) and (kind not in flags or rules.is_stated_first):
            flags[kind] = adds
    yield from (kv(_PREFIX + _FLAG_KEYS[kind], adds) for kind, adds in flags.items())


def _known(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def _normalizer(data: Mapping[str, Any], rules: TokenRules) -> Iterator[KV]:
    """What tokenizer.json's normalizer does to a text, of what has a key."""
    found: dict[str, Any] = {}
    waiting = [data.get("normalizer")]
    while waiting:
        node = waiting.pop(0)
        if not isinstance(node, Mapping):
            continue
        kind, inner = node.get("type"), node.get("normalizers")
        if kind in _NORMALIZERS:
            found[_NORMALIZERS[kind]] = True
        elif kind == "BertNormalizer":
            found |= {key: node[key] for key in _NORMALIZERS.values() if key in node}
        elif kind == "Sequence" and isinstance(inner, list):
            waiting = [*inner, *waiting]
    for key in rules.normalizer:
        if (value := found.get(key)) is not None:
            if not isinstance(value, bool):
                raise TokenizerError(
                    f"tokenizer.json's `normalizer` has {value!r} as `{key}`; take the model's own anew"
                )
            yield kv(f"{_PREFIX}normalizer.{key}", value)


def _missing(files: Mapping[str, Path]) -> str:
    """What a folder without a vocabulary that is read has in its place, and what would help."""
    made = "make one by transformers: AutoTokenizer.from_pretrained(DIR, use_fast=True).save_pretrained(DIR)"
    if "vocab.json" in files:
        return f"the model has no tokenizer.json, only the older vocab.json; {made}"
    if "tekken.json" in files:
        return "the model has no tokenizer.json, only mistral-common's tekken.json; take that of its other layout"
    if other := sorted(name for name in files if name.endswith(".model")):
        return f"the model has no tokenizer.json, and {shown(other[0])} is none of tokenizer.model's kind; {made}"
    copied = "copy it from the model that this one was made of, or save it there: tokenizer.save_pretrained(DIR)"
    return f"the model has neither tokenizer.model nor tokenizer.json; one of them is needed: {copied}"


def _hunyuan(entries: list[KV], files: Mapping[str, Path], size: int) -> list[KV]:
    """The entries, with generation_config.json's end of a turn. config.json's `eod_token_id` is not read: transformers
    4.57 drops it before the converter sees it."""
    ends = (load_json(files, "generation_config.json", TokenizerError) or {}).get("eos_token_id")
    if not isinstance(ends, list) or len(ends) < 2:
        return entries
    if not isinstance(ends[0], int) or isinstance(ends[0], bool) or not 0 <= ends[0] < size:
        raise TokenizerError(
            f"generation_config.json's first `eos_token_id` is {ends[0]!r}, and the vocabulary has {size} tokens; "
            "correct it there"
        )
    found = {entry.key: entry for entry in entries}
    found[_PREFIX + _ID_KEYS["eot"]] = kv(_PREFIX + _ID_KEYS["eot"], ends[0])
    return list(found.values())


def _llama(entries: list[KV], settings: Mapping[str, Any], size: int, rules: TokenRules) -> list[KV]:
    """A llama's entries with what its class adds."""
    stated = "add_prefix_space" in settings
    if rules.is_prefix_first:
        stated = settings.get("add_prefix_space") is not None
    space = [kv(_PREFIX + "add_space_prefix", bool(settings["add_prefix_space"]))] if stated else []
    found = {entry.key: entry for entry in (*(space if rules.is_prefix_first else ()), *entries)}
    if size == _CODE_LLAMA:
        found[_PREFIX + "eot_token_id"] = kv(_PREFIX + "eot_token_id", _CODE_LLAMA_EOT)
    found |= {entry.key: entry for entry in space}
    if size == _GRANITE and (rules.is_bos_replaced or _PREFIX + "add_bos_token" not in found):
        found[_PREFIX + "add_bos_token"] = kv(_PREFIX + "add_bos_token", False)
    return list(found.values())
