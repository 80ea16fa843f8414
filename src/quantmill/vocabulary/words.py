"""How llama.cpp cuts text into words before it merges bytes, by the name that a GGUF's `tokenizer.ggml.pre` has.

A name stands for expressions that are applied one after another, each to the pieces that the ones before it left: what
matches becomes a piece, what lies between matches becomes one too. An expression with a category (`\\p{L}`, always
within brackets here) looks at the text with each code point beyond ASCII collapsed to one byte of its category, as
there. Any other looks at the text itself. `\\s` and `\\d` are ASCII's. Source of the facts: llama.cpp's llama-vocab.cpp
and unicode.cpp at b5490, all of whose names are here, and at b11312 for names that are younger.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from quantmill.vocabulary.unicode_classes import LETTER, MARK, NUMBER, PUNCTUATION, SYMBOL, collapse, plain_spaces

# The ASCII characters of a category beside the byte for all others. A tilde is no symbol there, though Unicode says so.
_CATEGORIES = {
    r"\p{N}": f"0-9{chr(NUMBER)}",
    r"\p{L}": f"A-Za-z{chr(LETTER)}",
    r"\p{Upper}": f"A-Z{chr(LETTER)}",  # letters that are not a-z, and
    r"\p{Lower}": f"a-z{chr(LETTER)}",  # letters that are not A-Z: all that is known of them once collapsed
    r"\p{P}": r"!-#%-*,-/:;?@\[-\]_{}" + chr(PUNCTUATION),
    r"\p{M}": chr(MARK),
    r"\p{S}": "$+<=>^`|" + chr(SYMBOL),
    r"\p{Symbol}": "$+<=>^`|~" + chr(SYMBOL),  # as later builds know it
}

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SUFFIX = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?"
_LLAMA3 = _SUFFIX + "|" + _WORD + r"[\p{L}]+|[\p{N}]{1,3}" + _TAIL
_QWEN2 = _SUFFIX + "|" + _WORD + r"[\p{L}]+|[\p{N}]" + _TAIL
_QWEN35 = _SUFFIX + "|" + _WORD + r"[\p{L}\p{M}]+|[\p{N}]| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SEED = _SUFFIX + "|" + _WORD + r"[\p{L}]+|[\p{N}]| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
_BAILING = (
    r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|"
    + _WORD
    + r"[\p{L}]+|[\p{N}]| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
_CASED_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = f"{_WORD}[\\p{{Upper}}]*[\\p{{Lower}}]+|{_WORD}[\\p{{Upper}}]+[\\p{{Lower}}]*|[\\p{{N}}]" + _CASED_TAIL
_GPT4O = (
    f"{_WORD}[\\p{{Upper}}]*[\\p{{Lower}}]+{_SUFFIX}?|{_WORD}[\\p{{Upper}}]+[\\p{{Lower}}]*{_SUFFIX}?|"
    + r"[\p{N}]{1,3}"
    + _CASED_TAIL
)
_DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
_BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_CHAMELEON = ("<sentinel:[0-9]+>", "(?:IMGIMG)[A-I]{1,4}Z", r"[\t\n]|    |  ")
_DIGIT = r"[\p{N}]"
# DeepSeek LLM's letters: those that have a case, as an old Unicode knew them. In hexadecimal: the first code point of a
# run and, after the sign, how far the last is from it.
_CASED_LETTERS = (
    "41+19 61+19 b5 c0+16 d8+1e f8+c2 1bc+3 1c4+cf 295+1a 370+3 376 377 37b+2 37f 386 388+2 38c 38e+13 3a3+52 3f7+8a "
    "48a+a5 531+25 10a0+25 13a0+55 13f8+5 1c90+2a 1cbd+2 1d00+2b 1d6b+c 1d79+21 1e00+115 1f18+5 1f20+25 1f48+5 1f50+7 "
    "1f59 1f5b 1f5d 1f5f+1e 1f80+34 1fb6+6 1fbe 1fc2+2 1fc6+6 1fd0+3 1fd6+5 1fe0+c 1ff2+2 1ff6+6 2102 2107 210a+9 "
    "2115 2119+4 2124 2126 2128 212a+3 212f+5 2139 213c+3 2145+4 214e 2183 2184 2c00+7b 2c7e+66 2ceb+3 2cf2 2cf3 "
    "a640+2d a680+1b a722+4d a771+16 a78b+3 ab70+4f fb00+6 fb13+4 ff21+19 ff41+19 10400+4f 104b0+23 104d8+23 10c80+32 "
    "10cc0+32 118a0+3f 1e900+43"
)


def _characters(runs: str) -> str:
    """The runs as the inside of a character class."""
    found = []
    for run in runs.split():
        first, _, more = run.partition("+")
        found.append(chr(int(first, 16)) + (f"-{chr(int(first, 16) + int(more, 16))}" if more else ""))
    return "".join(found)


LINE_END = "[\r\n]"
DEEPSEEK_LETTERS = rf"\s?[{_characters(_CASED_LETTERS)}]+"
DEEPSEEK_SIGNS = "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"
_DEEPSEEK_LLM = (
    LINE_END,
    DEEPSEEK_LETTERS,
    DEEPSEEK_SIGNS,
    r"\s+\Z",  # the end of a piece: a line end has been cut off before
    CJK,
    r"[\p{N}]+",
)


@dataclass(frozen=True)
class Cutting:
    """`expressions` in their order; `whole_words`: a word that is a token is not cut; `bos`: BOS in front of a text
    unless the file says otherwise."""

    expressions: tuple[str, ...]
    whole_words: bool = False
    bos: bool = False


def _rows() -> Iterator[tuple[str, Cutting]]:
    for names, cutting in (
        ("default", Cutting((r"[\p{P}$+<=>^~|]+", _GPT2, r"[\p{N}]+", "[0-9][0-9][0-9]"))),
        (
            "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2",
            Cutting((_LLAMA3,), whole_words=True, bos=True),
        ),
        ("dbrx smaug-bpe glm4 chatglm-bpe", Cutting((_LLAMA3,))),
        ("qwen2 deepseek-r1-qwen stablelm2 megrez kormo hunyuan solar-open grok-2", Cutting((_QWEN2,))),
        ("qwen35", Cutting((_QWEN35,))),
        ("starcoder refact command-r smollm codeshell exaone minerva-7b mellum2", Cutting((_DIGIT, _GPT2))),
        (
            "gpt-2 phi-2 jina-es jina-de gigachat jina-v1-en jina-v2-es jina-v2-de jina-v2-code exaone4",
            Cutting((_GPT2,)),
        ),
        ("roberta-bpe mpt olmo jais trillion granite-docling a.x-4.0 mellum", Cutting((_GPT2,))),
        ("seed-coder", Cutting((_SEED,))),
        ("deepseek-v3", Cutting((r"[\p{N}]{1,3}", _KANA, _DEEPSEEK3))),
        ("hunyuan-dense", Cutting((r"[\p{N}]{1,3}", _KANA, _DEEPSEEK3.replace(r"\p{S}", r"\p{Symbol}")))),
        ("deepseek-llm", Cutting(_DEEPSEEK_LLM)),
        ("deepseek-coder", Cutting((LINE_END, r"\s?[\p{L}]+", r"\s?[\p{P}]+", CJK, _DIGIT))),
        ("falcon", Cutting((r"[\p{P}$+<=>^~|`]+", _GPT2, "[0-9][0-9][0-9]"))),
        ("poro-chat bloom gpt3-finnish", Cutting((_BLOOM,))),
        ("viking", Cutting((_BLOOM, _DIGIT))),
        ("tekken", Cutting((_TEKKEN,), whole_words=True, bos=True)),
        ("gpt-4o llama4 minimax-m2 kanana2", Cutting((_GPT4O,))),
        ("superbpe", Cutting((r"[\p{N}]+", r"(?=(?:\d{3})+(?!\d))"))),
        ("bailingmoe bailingmoe2 llada-moe", Cutting((_BAILING,))),
        ("chameleon", Cutting((*_CHAMELEON, _DIGIT, r"[\p{P}!-/:-@\[-`{-~]", _GPT2), bos=True)),
    ):
        yield from ((name, cutting) for name in names.split())


CUTTINGS: dict[str, Cutting] = dict(_rows())


@cache
def _compiled(expression: str) -> re.Pattern[bytes] | re.Pattern[str]:
    found = expression
    for category, characters in _CATEGORIES.items():
        found = found.replace(category, characters)
    return re.compile(found.encode("latin-1")) if found != expression else re.compile(expression, re.ASCII)


def words(text: str, cutting: Cutting) -> list[str]:
    """The pieces of the text, in order; together they are the text."""
    bounds = [0, len(text)]
    collapsed, spaced = b"", ""
    for expression in cutting.expressions:
        pattern = _compiled(expression)
        if isinstance(pattern.pattern, bytes):
            collapsed = collapsed or collapse(text)
            bounds = _cut(bounds, pattern, collapsed)
        else:
            spaced = spaced or plain_spaces(text)
            bounds = _cut(bounds, pattern, spaced)
    return [text[begin:end] for begin, end in pairwise(bounds)]


def _cut(bounds: list[int], pattern: re.Pattern[bytes] | re.Pattern[str], subject: bytes | str) -> list[int]:
    """Each piece's bounds, cut at its matches' ends; no look-ahead sees beyond a piece."""
    found = [0]
    search = pattern.finditer
    for begin, end in pairwise(bounds):
        for match in search(subject, begin, end):  # type: ignore[arg-type]  # the caller pairs them
            first, last = match.span()
            if first > found[-1]:
                found.append(first)
            if last > first:
                found.append(last)
        if found[-1] < end:
            found.append(end)
    return found
