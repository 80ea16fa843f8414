"""The name of a pre-tokenizer, from the tokenizer's own pattern.

llama.cpp's converter hashes the ids of a sample text and so knows only vocabularies that it has met: `known` does the
same, by the tables of converters after b5490. What the name stands for in llama.cpp is how text is cut into words, and
tokenizer.json states that: here it is brought to a canonical list of stages and looked up. Each row was read off the
tokenizer.json of the named model and off the expressions in llama.cpp's llama-vocab.cpp (b5490). Where several names
share one expression, the row holds the name of the vocabulary that is most common, as said beside it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from quantmill.architectures.errors import TokenizerError, UnknownPreTokenizer
from quantmill.vocabulary.words import CJK, DEEPSEEK_LETTERS, DEEPSEEK_SIGNS, LINE_END

Stages = tuple[str, ...]

_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*%s|"
_CASED_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_LLAMA3 = "split " + _WORDS + r"|\p{N}{1,3}" + _TAIL
# DeepSeek's file holds the line ends themselves, not their escapes.
_DEEPSEEK_WORDS = (
    r"""split [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^<LINE>\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[<LINE>]*|\s*[<LINE>]+|\s+(?!\S)|\s+"""
).replace("<LINE>", "\r\n")

PATTERNS: dict[Stages, str] = {
    ("split " + _WORDS + r"|\p{N}" + _TAIL, "bytes"): "qwen2",
    (_LLAMA3, "bytes", "whole words first"): "llama-bpe",
    # SmolLM; starcoder, refact and codeshell cut the same way
    ("digits", "words bytes"): "smollm",
    # GPT-2; phi-2 and others cut the same way
    ("words bytes",): "gpt-2",
    (
        r"split \p{N}{1,3}",
        "split [\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        _DEEPSEEK_WORDS,
        "bytes",
    ): "deepseek-v3",
    (
        "split " + LINE_END,
        "split " + DEEPSEEK_LETTERS,
        "split " + DEEPSEEK_SIGNS,
        r"split \s+$",
        "split " + CJK,
        "digits",
        "bytes",
    ): "deepseek-llm",
    ("split " + LINE_END, r"split \s?\p{L}+", r"split \s?\p{P}+", "split " + CJK, "digits", "bytes"): "deepseek-coder",
    # Mistral; llama.cpp looks for whole words first by this name, whether the file says so or not
    ("split " + _CASED % ("", "") + r"\p{N}" + _CASED_TAIL, "bytes", "whole words first"): "tekken",
    ("split " + _CASED % ("", "") + r"\p{N}" + _CASED_TAIL, "bytes"): "tekken",
    # GPT-4o; Llama 4 cuts the same way
    ("split " + _CASED % (_SHORT, _SHORT) + r"\p{N}{1,3}" + _CASED_TAIL, "bytes"): "gpt-4o",
}

# The text by whose ids the converter knows a vocabulary.
_SAMPLE = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n"
    "🚀 (normal) 😶\u200d🌫\ufe0f (multiple emojis concatenated) ✅ 🦙🦙 3 33 333 3333 33333 333333 3333333 33333333 "
    "3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天\uff5e ------======="
    " нещо на Български ''''''```````\"\"\"\"......!!!!!!??????"
    " I've been 'told he's there, 'RE you sure? 'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)
# A pattern that several names share, with different rules about BOS: only a person can tell.
_AMBIGUOUS: dict[Stages, str] = {
    (_LLAMA3, "bytes"): "llama-bpe for Llama 3 and its descendants, smaug-bpe or dbrx to leave BOS to the model",
}
# DeepSeek's distilled Qwen models cut text as Qwen does and differ by the BOS token that they put in front. The
# converter names them apart because its hash sees that token; llama.cpp treats both names alike.
_DEEPSEEK_BOS = "<\uff5cbegin▁of▁sentence\uff5c>"
# llama.cpp does not normalize text for a byte-level vocabulary, so these normalizers do not decide the name.
_NORMALIZERS: tuple[Any, ...] = (None, {"type": "NFC"}, {"type": "Sequence", "normalizers": []})


def stages(tokenizer: Mapping[str, Any]) -> Stages:
    """tokenizer.json's way of cutting words in canonical form; unknown stages appear as their JSON."""
    found = list(_flat(tokenizer.get("pre_tokenizer")))
    if tokenizer.get("normalizer") not in _NORMALIZERS:
        found.insert(0, "normalizer " + json.dumps(tokenizer["normalizer"], sort_keys=True, ensure_ascii=False))
    model = tokenizer.get("model")
    if isinstance(model, Mapping) and model.get("ignore_merges"):
        found.append("whole words first")
    return tuple(found)


def _flat(node: Any) -> Iterator[str]:
    if not isinstance(node, Mapping):
        return
    kind = node.get("type")
    if kind == "Sequence":
        children = node.get("pretokenizers")
        for child in children if isinstance(children, list) else ():
            yield from _flat(child)
        return
    pattern = node.get("pattern")
    regex = pattern.get("Regex") if isinstance(pattern, Mapping) else None
    # Keeping the matches by removing what lies between them is the same, for a pattern that matches every character.
    way = (node.get("behavior"), bool(node.get("invert")))
    if kind == "Split" and isinstance(regex, str) and way in (("Isolated", False), ("Removed", True)):
        yield "split " + regex
    elif kind == "Digits" and node.get("individual_digits"):
        yield "digits"
    elif kind == "ByteLevel" and not node.get("add_prefix_space"):
        yield "words bytes" if node.get("use_regex", True) else "bytes"
    else:
        yield json.dumps(node, sort_keys=True, ensure_ascii=False)


def known(tokenizer: Mapping[str, Any], names: Mapping[str, str]) -> str | None:
    """The name that the converter knows tokenizer.json's own vocabulary by, None for one that it never met; `names` are
    by the SHA-256 of a sample's ids."""
    return names.get(_sample_digest(json.dumps(tokenizer))) if names else None


@lru_cache(maxsize=4)  # a plan asks several times
def _sample_digest(tokenizer: str) -> str:
    from quantmill.vocabulary.hf_pieces import TokenizerJSON

    try:
        ids = TokenizerJSON(json.loads(tokenizer)).whole(_SAMPLE)
    except TokenizerError:  # who reads the vocabulary says what is wrong with it
        return ""
    return hashlib.sha256(str(ids).encode()).hexdigest()


def name(tokenizer: Mapping[str, Any], bos: str | None = None) -> str:
    """The name for tokenizer.json's pattern; `bos` is the text of its BOS token. Raises UnknownPreTokenizer.

    The digest in the error is that of the canonical stages, so that two models can be compared.
    """
    found = stages(tokenizer)
    known = PATTERNS.get(found)
    if known == "qwen2" and bos == _DEEPSEEK_BOS:
        return "deepseek-r1-qwen"
    if known is None:
        digest = hashlib.sha256(json.dumps(found, ensure_ascii=False).encode()).hexdigest()[:12]
        raise UnknownPreTokenizer(digest, _AMBIGUOUS.get(found, ""))
    return known
