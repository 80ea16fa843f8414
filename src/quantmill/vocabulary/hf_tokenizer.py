"""A Hugging Face tokenizer's files, and the tokens that transformers would make of them.

Only JSON is read. What transformers (4.51) does when it loads a fast tokenizer is repeated as facts: the tokens that
tokenizer_config.json adds or changes, special tokens that are in no vocabulary, and each class's own defaults.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from quantmill.architectures.errors import TokenizerError, UnknownVocabulary
from quantmill.gguf.errors import shown

SPECIALS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")

# What a class takes for granted when tokenizer_config.json does not mention the token (null is a mention).
_DEFAULTS: dict[str, Mapping[str, str]] = {
    "Qwen2Tokenizer": {"unk": "<|endoftext|>", "eos": "<|endoftext|>", "pad": "<|endoftext|>"},
    "LlamaTokenizer": {"unk": "<unk>", "bos": "<s>", "eos": "</s>"},
    "CodeLlamaTokenizer": {"unk": "<unk>", "bos": "<s>", "eos": "</s>"},
    "GPT2Tokenizer": {"unk": "<|endoftext|>", "bos": "<|endoftext|>", "eos": "<|endoftext|>"},
}
# The class that transformers takes for a model type when tokenizer_config.json names none.
_CLASSES = {"qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer"} | dict.fromkeys(
    ("llama", "mistral"), "LlamaTokenizer"
)


@dataclass(frozen=True)
class AddedToken:
    """A token beside the model's own vocabulary. `normalized`: text is normalized before it is looked for."""

    content: str
    special: bool
    normalized: bool


def content(token: Any) -> str | None:
    """The text of a special token as tokenizer_config.json names it: a text, or a table with `content`."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else None


@dataclass(frozen=True)
class HFTokenizer:
    """tokenizer.json (`data`), tokenizer_config.json (`config`, empty when there is none), the model's `model_type`."""

    data: Mapping[str, Any]
    config: Mapping[str, Any]
    model_type: str = ""

    @cached_property
    def vocab(self) -> dict[str, int]:
        """The BPE model's own vocabulary, without added tokens."""
        model = self.data.get("model")
        vocab = model.get("vocab") if isinstance(model, Mapping) else None
        if not isinstance(vocab, dict) or not isinstance(model, Mapping) or model.get("type", "BPE") != "BPE":
            raise UnknownVocabulary(
                "tokenizer.json holds no BPE vocabulary; only BPE and SentencePiece can be converted"
            )
        if not all(isinstance(id_, int) and 0 <= id_ < 2**31 for id_ in vocab.values()):
            raise TokenizerError("tokenizer.json has a token whose id is not a whole number")
        by_id: dict[int, str] = {}
        for text, id_ in vocab.items():
            if by_id.setdefault(id_, text) != text:
                raise _two(text, by_id[id_], f"have the same id {id_}")
        return vocab

    @cached_property
    def specials(self) -> dict[str, str]:
        """Special tokens by kind (`bos`, `eos`, …, and `additional 0` on), as the class loads them."""
        name = self.config.get("tokenizer_class") or _CLASSES.get(self.model_type, "")
        defaults = _DEFAULTS.get(str(name).removesuffix("Fast"), {})
        found: dict[str, str] = {}
        for kind in SPECIALS:
            key = f"{kind}_token"
            text = content(self.config[key]) if key in self.config else defaults.get(kind)
            if text:
                found[kind] = text
        more = self.config.get("additional_special_tokens")
        for index, token in enumerate(more if isinstance(more, list) else []):
            if text := content(token):
                found[f"additional {index}"] = text
        return found

    @cached_property
    def added(self) -> dict[int, AddedToken]:
        """Added tokens by id: tokenizer.json's, then as tokenizer_config.json changes or extends them."""
        special = set(self.specials.values())
        found = dict(self._listed())
        by_content = {token.content: id_ for id_, token in found.items()}
        after = max([len(self.vocab), *(known + 1 for known in found)])

        def add(token: AddedToken) -> None:
            nonlocal after
            id_ = by_content.get(token.content, self.vocab.get(token.content, after))
            by_content[token.content] = id_
            found[id_] = token
            after = max(after, id_ + 1)

        decoder = self.config.get("added_tokens_decoder")
        declared = list(found.values())  # without a list in tokenizer_config.json, tokenizer.json's own is taken for it
        if isinstance(decoder, Mapping):
            declared = [_added(entry) for _, entry in sorted(_numbered(decoder), key=lambda item: item[0])]
        for token in declared:
            add(replace(token, special=token.special or token.content in special))
        for text in self.specials.values():
            if text not in by_content:
                add(AddedToken(text, special=True, normalized=False))
        return found

    def _listed(self) -> Iterator[tuple[int, AddedToken]]:
        entries = self.data.get("added_tokens") or []
        ids: dict[str, int] = {}
        texts = {id_: text for text, id_ in self.vocab.items()}
        for entry in entries if isinstance(entries, list) else []:
            if not isinstance(entry, Mapping) or not isinstance(entry.get("id"), int) or entry["id"] < 0:
                raise TokenizerError("tokenizer.json has an added token without a whole number as its id")
            id_, token = entry["id"], _added(entry)
            if ids.setdefault(token.content, id_) != id_:
                problem = f"has the ids {ids[token.content]} and {id_}; llama.cpp takes no two tokens of one text"
                raise TokenizerError(f"tokenizer.json: the token {shown(token.content)} {problem}")
            if texts.setdefault(id_, token.content) != token.content:
                raise _two(token.content, texts[id_], f"have the same id {id_}")
            yield id_, token

    @cached_property
    def merges(self) -> list[str]:
        """Each merge as `left right`; a space within a part is written as the byte alphabet's sign for it (Ġ)."""
        found = self.data["model"].get("merges") or []
        pairs = [merge for merge in found if isinstance(merge, list)] if isinstance(found, list) else []
        if not isinstance(found, list) or (pairs and len(pairs) < len(found)):
            raise TokenizerError("tokenizer.json has merges in two forms or none")
        texts = found
        if pairs:
            texts = [" ".join(part.replace(" ", "Ġ") for part in pair) for pair in pairs if _texts(pair)]
        if len(texts) < len(found) or not all(isinstance(text, str) for text in texts):
            raise TokenizerError("tokenizer.json has a merge that is not two texts")
        if not texts:
            raise TokenizerError(
                "tokenizer.json has no merges, without which llama.cpp loads no vocabulary of its kind"
            )
        for merge in found:
            left, right = merge if isinstance(merge, list) else merge.split(" ", 1) if " " in merge else (merge, "")
            if lost := [text for text in (left, right, left + right) if text not in self.vocab]:
                pair = f"{shown(left)} and {shown(right)}"
                raise TokenizerError(
                    f"tokenizer.json: the merge of {pair} needs the token {shown(lost[0])}, which it lacks"
                )
        return texts

    @cached_property
    def tidies(self) -> bool:
        """Whether decoding removes spaces before punctuation."""
        return bool(self.config.get("clean_up_tokenization_spaces", False))


def _two(text: str, other: str, problem: str) -> TokenizerError:
    return TokenizerError(
        f"tokenizer.json: the tokens {shown(other)} and {shown(text)} {problem}; take the model's own anew"
    )


def _texts(pair: list[Any]) -> bool:
    return len(pair) == 2 and all(isinstance(part, str) for part in pair)


def _numbered(decoder: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
    for id_, entry in decoder.items():
        if not (id_.isdecimal() and len(id_) <= 10):
            raise TokenizerError(f"tokenizer_config.json's `added_tokens_decoder` has {id_!r} where an id belongs")
        yield int(id_), entry


def _added(entry: Any) -> AddedToken:
    text = content(entry)
    if not text or not isinstance(entry, Mapping):
        raise TokenizerError("an added token of the tokenizer has no `content`")
    special = bool(entry.get("special", False))
    return AddedToken(text, special, bool(entry.get("normalized", not special)))
