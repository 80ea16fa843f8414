"""Text → tokens as llama.cpp (b5490) makes them, from a GGUF's metadata or a model folder's files.

`encode` gives what `common_tokenize(context, text, add_special, parse_special)` gives, token by token, for byte-level
BPE (`tokenizer.ggml.model` gpt2), SentencePiece's BPE (llama) and Gemma 4's BPE of characters (gemma4).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from quantmill import gguf
from quantmill.architectures.errors import (
    DamagedModel,
    TokenizerError,
    UnknownPreTokenizer,
    UnknownVocabulary,
)
from quantmill.architectures.json_file import load_config, load_json, model_files
from quantmill.gguf import KV, model_facts
from quantmill.gguf.kinds import check_kind
from quantmill.reference.reference import Reference
from quantmill.vocabulary import character_merges
from quantmill.vocabulary.bpe import ByteLevel
from quantmill.vocabulary.entries import vocabulary
from quantmill.vocabulary.sentencepiece import CONTROL, NORMAL
from quantmill.vocabulary.special_tokens import Special, control_by_text, partition, specials
from quantmill.vocabulary.spm_merges import SentencePiece
from quantmill.vocabulary.words import CUTTINGS

_PREFIX = "tokenizer.ggml."
_DEFAULT_IDS = {"gpt2": (11, 11), "llama": (1, 2), "gemma4": (None, None)}  # BOS and EOS where the file names none


class Pieces(Protocol):
    """How text without special tokens becomes tokens."""

    def encode(self, text: str, after_special: bool) -> list[int]:
        """The ids; `after_special`: nothing, or a special token, comes before the text."""
        ...


@dataclass(frozen=True)
class Tokenizer:
    """`tokens` are their texts by id; `bos` and `eos` are ids, None where there is no such token."""

    tokens: tuple[str, ...]
    bos: int | None
    eos: int | None
    add_bos: bool
    add_eos: bool
    specials: tuple[Special, ...]
    pieces: Pieces

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self.tokens)

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """The text's ids, with BOS and EOS around them where the vocabulary wants them and `add_special` is set.

        `parse_special`: text that looks like a control token is one. User-defined tokens are always found.
        """
        found = [self._needed(self.bos, "BOS")] if add_special and self.add_bos else []
        after_special = True
        for part in partition(text, self.specials, parse_special):
            if isinstance(part, int):
                found.append(part)
            else:
                found += self.pieces.encode(part, after_special)
            after_special = isinstance(part, int)
        if add_special and self.add_eos:
            found.append(self._needed(self.eos, "EOS"))
        return found

    @staticmethod
    def _needed(id_: int | None, name: str) -> int:
        if id_ is None:
            raise TokenizerError(f"the vocabulary asks for a {name} token around a text, but has none")
        return id_


def load(model: Path, reference: Reference | None = None) -> Tokenizer:
    """The tokenizer of a GGUF file (of shards: the first) or of a folder in Hugging Face layout.

    A folder's is that of the GGUF it converts to by the reference, the newest without one; where its pattern has no
    known name, tokenizer.json's own, run by Hugging Face's tokenizers. Raises TokenizerError, a ModelError of the
    folder's files, or a GGUFError.
    """
    if model.is_dir():
        return _of_folder(model_files(model), reference)
    with gguf.read(model) as file:
        return from_metadata(file.metadata, str(model))


def _of_folder(files: Mapping[str, Path], reference: Reference | None) -> Tokenizer:
    config = load_config(files)
    try:
        entries = vocabulary(files, config, reference=reference)
    except UnknownPreTokenizer:
        from quantmill.vocabulary.hf_pieces import TokenizerJSON

        entries = vocabulary(files, config, "default", reference=reference)
        base = from_metadata({entry.key: entry for entry in entries}, "tokenizer.json")
        pieces = TokenizerJSON(load_json(files, "tokenizer.json", DamagedModel) or {})
        return replace(
            base, pieces=pieces, add_bos=base.add_bos or (base.bos is not None and pieces.begins_with(base.bos))
        )
    return from_metadata({entry.key: entry for entry in entries}, "the model's folder")


def from_metadata(metadata: Mapping[str, KV], place: str = "the metadata") -> Tokenizer:
    """The tokenizer that a GGUF's metadata describes; `place` names it in errors. Raises TokenizerError."""

    def value(key: str, default: Any = None) -> Any:
        entry = metadata.get(_PREFIX + key)
        return default if entry is None else entry.value

    def name(key: str) -> str | None:
        found = value(key)
        if not isinstance(found, str | None):
            raise TokenizerError(f"{place}: tokenizer.ggml.{key} is no text; convert the model anew")
        return found

    model = name("model")
    if model is None:
        check_kind(place, model_facts(metadata.values()))
        raise UnknownVocabulary(f"{place}: it has no vocabulary, by which texts become tokens; give a whole model")
    if model not in _DEFAULT_IDS:
        raise UnknownVocabulary(
            f"{place}: its tokenizer is of the kind {model!r}; quantmill tokenizes gpt2 (byte-level BPE), llama "
            "(SentencePiece) and gemma4 (BPE of characters)"
        )
    texts = [text or f"[EMPTY_{id_}]" for id_, text in enumerate(_list(place, "tokens", value("tokens"), str))]
    ids = {text: id_ for id_, text in enumerate(texts)}
    if len(ids) < len(texts):
        twice = next(text for id_, text in enumerate(texts) if ids[text] != id_)
        raise TokenizerError(f"{place}: its vocabulary has the token {twice!r} twice; convert the model anew")
    types = [NORMAL] * len(texts)
    if value("token_type") is not None:
        types = [*_list(place, "token_type", value("token_type"), int, len(texts))]  # the entry keeps its own
    given = {key.removeprefix(_PREFIX).removesuffix("_token_id") for key in metadata if key.endswith("_token_id")}
    for id_ in control_by_text(ids, given):
        types[id_] = CONTROL
    if model == "gemma4":
        types = character_merges.retyped(ids, types)
    default_bos, default_eos = _DEFAULT_IDS[model]
    pre = name("pre") or "default"
    pieces: Pieces
    if model == "gpt2":
        if pre not in CUTTINGS:
            known = ", ".join(CUTTINGS)
            raise UnknownVocabulary(f"{place}: its pre-tokenizer {pre!r} is not known here; known are {known}")
        merges = _list(place, "merges", value("merges"), str)
        pieces = ByteLevel(ids, merges, CUTTINGS[pre])
        add_bos = CUTTINGS[pre].bos
    elif model == "gemma4":
        pieces, add_bos = character_merges.CharacterLevel(ids, _list(place, "merges", value("merges"), str)), True
    else:
        scores = [0.0] * len(texts)
        if value("scores") is not None:
            scores = _list(place, "scores", value("scores"), float, len(texts))
        pieces, add_bos = SentencePiece(ids, scores, bool(value("add_space_prefix", True))), True
    title = metadata.get("general.name")
    return Tokenizer(
        tokens=tuple(texts),
        bos=_id(value("bos_token_id"), None if pre in ("glm4", "chatglm-bpe") else default_bos, len(texts)),
        eos=_id(value("eos_token_id"), default_eos, len(texts)),
        add_bos=model == "gemma4" or bool(value("add_bos_token", add_bos)),  # whatever the file says
        add_eos=bool(value("add_eos_token", False)),
        specials=tuple(specials(texts, types, pre, str(title.value) if title else "")),
        pieces=pieces,
    )


def _id(stated: Any, default: int | None, size: int) -> int | None:
    if isinstance(stated, int) and 0 <= stated < size:
        return stated
    return default if default is not None and default < size else None


def _list(place: str, key: str, value: Any, kind: type, count: int | None = None) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        raise TokenizerError(f"{place}: tokenizer.ggml.{key} is missing or no list of its kind; convert the model anew")
    if count is not None and len(value) != count:
        raise TokenizerError(f"{place}: tokenizer.ggml.{key} has {len(value)} entries for {count} tokens")
    return value
