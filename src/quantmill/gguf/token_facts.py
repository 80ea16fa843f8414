"""What of a file's vocabulary keeps llama.cpp from loading it, and what it warns of.

Source: llama-vocab.cpp at b5490 and at the newest known, of late 2026, which asserts or throws, or warns and goes on.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from quantmill.errors import nearest
from quantmill.gguf.errors import shown
from quantmill.gguf.types import ValueType
from quantmill.gguf.values import KV

PREFIX = "tokenizer.ggml."
_ROLES = "bos eos eot eom unknown seperator padding mask fim_pre fim_suf fim_mid fim_pad fim_rep fim_sep"
ID_KEYS = tuple(f"{role}_token_id" for role in f"{_ROLES} prefix suffix middle".split())
_FLAGS = ("add_bos_token", "add_eos_token", "add_sep_token", "add_space_prefix", "remove_extra_whitespaces")
_MERGED = ("gpt2", "gemma4", "hybriddna", "whitespace")  # kinds whose merges are read
_WITHOUT_MERGES = "kimi-k2"
_DEFAULTS = {"gpt2": (11, 11), "llama": (1, 2)}  # BOS and EOS where the file names none
_NO_BOS = ("glm4", "glm5", "chatglm-bpe")  # pre-tokenizers that have no BOS to fall back to
_CONTROL, _BYTE = 3, 6  # token types
_NEW_LINES = {"gpt2": (b"\xc4\x8a",), "llama": (b"<0x0A>", b"\n")}
# A name by which llama.cpp looks for tokens, without asking whether they are there.
_PHI3 = re.compile("phi-?3", re.IGNORECASE)
_PHI3_TOKENS = ("</s>", "<unk>", "<s>", "<|endoftext|>")
# What llama.cpp takes for the end of a turn by its text, whatever its type, and so treats as a control token.
ENDS = frozenset(
    ["<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>", "<EOT>", "_<EOT>"]
)


class Known(NamedTuple):
    """What llama.cpp of a span knows of `tokenizer.ggml.model` and `.pre`; `span` says which, for messages."""

    span: str
    models: Collection[str]
    pre_tokenizers: Collection[str]


class TokenFacts:
    """The vocabulary of a file whose metadata is `metadata`; `rows` are those of its token embedding, where known."""

    def __init__(self, metadata: Mapping[str, KV], rows: int | None = None) -> None:
        self._metadata, self._rows = metadata, rows
        self.model = self._text(PREFIX + "model")
        self.pre = self._text(PREFIX + "pre")
        self._stated = self._entry("tokens", ValueType.STRING) is not None

    def present(self) -> bool:
        """Whether the file has any vocabulary."""
        return any(key.startswith(PREFIX) for key in self._metadata)

    def refused(self) -> Iterator[str]:
        """For what llama.cpp does not load the file, or aborts as soon as it reads a text."""
        if PREFIX + "model" not in self._metadata:
            yield f"it has no {PREFIX}model"
        yield from self._types()
        if self.model in ("none", "no_vocab"):
            return
        if not self._stated:
            yield f"{PREFIX}tokens is missing or no list of texts"
            return
        texts, size = self.texts(), len(self._metadata[PREFIX + "tokens"])
        if self._rows is not None and size != self._rows:
            yield f"it has {size} tokens for {self._rows} rows of token_embd.weight"
        for key in ("scores", "token_type"):
            if (entry := self._metadata.get(PREFIX + key)) is not None and len(entry) < size:
                yield f"{PREFIX}{key} has {len(entry)} entries for {size} tokens"
        if self.model in _MERGED and self.pre != _WITHOUT_MERGES and self._entry("merges", ValueType.STRING) is None:
            yield f"{PREFIX}merges is missing or no list of texts, which a vocabulary of the kind {self.model} needs"
        seen: dict[bytes, int] = {}
        for id_, text in enumerate(texts):
            if (before := seen.setdefault(text, id_)) != id_:
                yield f"the tokens {before} and {id_} have the same text {shown(text.decode(errors='replace'))}"
                break
        yield from self._absent(seen)

    def unknown(self, known: Known) -> str | None:
        """The kind of the vocabulary, or its pre-tokenizer, where llama.cpp of the span does not know it."""
        for key, value, names in (("model", self.model, known.models), ("pre", self.pre, known.pre_tokenizers)):
            if value and value not in names and (key == "model" or self.model == "gpt2"):
                return f"llama.cpp {known.span} knows no {PREFIX}{key} {shown(value)}{nearest(value, names)}"
        return None

    def _absent(self, ids: Mapping[bytes, int]) -> Iterator[str]:
        name = self._text("general.name") or ""
        if _PHI3.search(name) and (lost := [text for text in _PHI3_TOKENS if text.encode() not in ids]):
            yield f"its name is {shown(name)}, and a model so called needs the token {shown(lost[0])}, which it lacks"
        types = self._list("token_type")
        if self.model == "llama" and types:
            for text, type_ in zip(self.texts(), types, strict=False):
                if type_ == _BYTE and len(text) < len("<0x"):
                    yield f"the token {shown(text.decode(errors='replace'))} is of the type BYTE and no <0x..>"
                    break
        for kind, added in (("bos", self.model == "llama"), ("eos", False)):
            entry = self._metadata.get(f"{PREFIX}add_{kind}_token")
            if (added if entry is None else bool(entry.value)) and self._id_of(kind, len(ids)) is None:
                yield f"it asks for a {kind.upper()} token around a text and has none"

    def _id_of(self, kind: str, size: int) -> int | None:
        entry = self._metadata.get(f"{PREFIX}{kind}_token_id")
        if entry is not None and entry.value < size:
            return int(entry.value)
        if self.model not in _DEFAULTS:
            return 0  # not known here
        default = _DEFAULTS[self.model][kind == "eos"]
        return None if default >= size or (kind == "bos" and self.pre in _NO_BOS) else default

    def _types(self) -> Iterator[str]:
        named = (("model", "pre"), ValueType.STRING)
        for keys, wanted in ((ID_KEYS, ValueType.UINT32), (_FLAGS, ValueType.BOOL), named):
            for key in keys:
                entry = self._metadata.get(PREFIX + key)
                if entry is not None and entry.type != wanted:
                    yield f"{PREFIX}{key} is {ValueType(entry.type).name} and not {wanted.name}"
        for key, subtypes in (
            ("scores", (ValueType.FLOAT32, ValueType.INT32)),
            ("token_type", (ValueType.INT32,)),
        ):
            entry = self._metadata.get(PREFIX + key)
            if entry is not None and entry.subtype not in subtypes:
                yield f"{PREFIX}{key} is no list of {subtypes[0].name}"

    def doubted(self) -> Iterator[str]:
        """What llama.cpp warns of, or passes over in silence, in a vocabulary that it loads."""
        if not self._stated or self.model is None:
            return
        if self.model == "gpt2" and not self.pre:
            yield f"it has no {PREFIX}pre, so that its words are cut in a way that fits few models"
        texts, size = self.texts(), len(self._metadata[PREFIX + "tokens"])
        for key in ID_KEYS:
            entry = self._metadata.get(PREFIX + key)
            if entry is not None and entry.value >= size:
                yield f"{PREFIX}{key} is {entry.value} and the vocabulary has {size} tokens, so that it is not used"
        for key in ("scores", "token_type"):
            if (entry := self._metadata.get(PREFIX + key)) is not None and len(entry) > size:
                yield f"{PREFIX}{key} has {len(entry)} entries for {size} tokens"
        known = set(texts)
        if empty := [id_ for id_, text in enumerate(texts) if text == _empty(id_)]:
            yield f"the token {empty[0]} has no text" + (f", nor have {len(empty) - 1} more" if empty[1:] else "")
        if self.model in _NEW_LINES and not known.intersection(_NEW_LINES[self.model]):
            yield "it has no token for the end of a line"
        types = self._list("token_type") or []
        for id_, (text, type_) in enumerate(zip(texts, types, strict=False)):
            if type_ != _CONTROL and (end := text.decode(errors="replace")) in ENDS:
                yield f"the token {id_}, {shown(end)}, ends a turn by its text and is no control token by its type"
        if self.model == "gpt2" and (odd := self._unknown_parts(known)):
            more = f" and {len(odd) - 1} more" if odd[1:] else ""
            yield f"the merge {shown(odd[0])}{more} is of texts that are no tokens"

    def _unknown_parts(self, known: set[bytes]) -> list[str]:
        """The merges a part of which is no token. A space within a part is written as another sign (Ġ)."""
        space = "Ġ".encode()
        found = []
        for merge in self._list("merges") or []:
            at = merge.find(" ", 1)
            parts = (merge[:at].encode(), merge[at + 1 :].encode())
            if at < 0 or any(part not in known and part.replace(space, b" ") not in known for part in parts):
                found.append(merge)
        return found

    def texts(self) -> list[bytes]:
        """The tokens' texts as llama.cpp has them: they end at a NUL, and an empty one gets a name."""
        entry = self._entry("tokens", ValueType.STRING)
        found = [text.encode().partition(b"\0")[0] for text in entry.value] if entry else []
        return [text or _empty(id_) for id_, text in enumerate(found)]

    def _entry(self, key: str, subtype: ValueType) -> KV | None:
        entry = self._metadata.get(PREFIX + key)
        return entry if entry is not None and entry.subtype == subtype else None

    def _list(self, key: str) -> list[Any] | None:
        entry = self._metadata.get(PREFIX + key)
        return entry.value if entry is not None and entry.subtype is not None else None

    def _text(self, key: str) -> str | None:
        entry = self._metadata.get(key)
        return entry.value if entry is not None and isinstance(entry.value, str) else None


def _empty(id_: int) -> bytes:
    return f"[EMPTY_{id_}]".encode()
