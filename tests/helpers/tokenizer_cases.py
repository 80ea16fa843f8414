"""Vocabularies and hostile texts for the tokenizers' tests, and the maker of tests/golden/tokenizer_expected.json.

    python tests/helpers/tokenizer_cases.py LLAMA_TOKENIZE

runs llama.cpp's own llama-tokenize (the file in the repository was made by that of llama-cpp-python 0.3.9's sources,
May 2025, which stand for b5490; names that are younger by b11312's) over each vocabulary and text, with `--no-escape`,
with and without special tokens. Ids are stored for two vocabularies; for each name of a way of cutting words, the
sha256 of all its ids.
"""

import hashlib
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from quantmill import gguf
from quantmill.gguf import KV, ValueType, kv
from quantmill.vocabulary.byte_level import byte_of
from quantmill.vocabulary.sentencepiece import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED
from quantmill.vocabulary.words import CUTTINGS

TINY = Path(__file__).resolve().parents[2] / "recipes" / "tiny"
EXPECTED = Path(__file__).resolve().parents[1] / "golden" / "tokenizer_expected.json"
CALIBRATION = TINY / "calibration.txt"
P = "tokenizer.ggml."

HOSTILE = (
    "",
    "a",
    " ",
    "  ",
    "   x",
    "x   ",
    "\n",
    "\n\n\n",
    "\r\n\r\n a",
    "\t\t x",
    "  \n  \n x",
    "\x00\x01\x1b\x1c\x1f\x7f\x85\xa0",
    "h\xe9llo w\xf6rld",
    "e\u0301\u0302\u0303 combining A\u030a \xc5",
    "\u0903\u093e\u094d\u0915\u094d\u0937\u093f",
    "\U0001f600\U0001f44d\U0001f3fd\U0001f468\u200d\U0001f469\u200d\U0001f467 ok \U0001f3f3\ufe0f\u200d\U0001f308",
    "1234567890 12 3.14159 1,000,000 1234567",
    "\xbd \u0663\u0664\u0665 \u4e00\u4e8c \u2167 \xb2\xb3",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3001\u6f22\u5b57\u3002\u4e2d\u6587\uff01\ud55c\uad6d\uc5b4",
    "<|endoftext|><|im_start|>user\n<|im_end|>",
    "<|im_start|",
    "<s></s><unk><pad>  <mask>  x",
    "<h1>a</h1>\n\n\n\nb  c",
    "\u2028\u2029\u3000\u200b\ufeff",
    "\xa0y \u2009 z",
    "DON'T don't I'LL we'Ve 'S 's ' s",
    "\u017f'\u017f'S \u212a",
    "a" * 300,
    "ab" * 50 + "  " * 20,
    "''''\"\"\"```~~~~$$$+++<=>^^^ ~x ^a `b",
    "\xab\xbb\u201c\u201d\u2018\u2019\u2026",
    '{\n\t"k": [1,2,3]\n}\n\n',
    "\u2ffc\u31ef\U0002ebf0\U0010ffff\ue000\ufffd",
    "\u0130stanbul \u1e9e \u01c5",
    "foo.bar(baz)[0]->qux;  // c\n    if (a&&b)||c",
    "http://a.b/c?d=e&f=g#h",
    "_a__b___",
    "\u2581a\u2581\u2581b",
    "IMGIMGABCZ <sentinel:12> x",
    "camelCase HTTPServer \xc9COLE \xe9cole/n",
    "wait...what?!  ...",
    "\u1100\u1161\uac01",
    "\u0531\u0561 \u10c5\u10c7\u10d0 \u13a0\u13f5 \u1c90\u1cbb \u2126\u212a\u2127",
    "\ua66d\ua66e \ufb06\ufb07 \U00010400\U0001e900\U0001e944",
    "x\u3000\u3001y \u2018z\u2020 \uff21\uff0f\uff10 \u0800\u9fa5\u9fa6 \ud7ff  \n x  ",
)


def write(path: Path, entries: dict[str, KV | None], weights: bool = False) -> Path:
    """The tiny model's GGUF with metadata replaced (None: left out); without its tensors unless `weights`."""
    base = tiny(path.parent)
    with gguf.read(base) as file:
        kept = [kv_ for key, kv_ in file.metadata.items() if key not in entries]
        tensors = file.tensor_entries() if weights else []
        with gguf.Writer(path, [*kept, *filter(None, entries.values())], tensors) as writer:
            for name, _, _ in tensors:
                writer.append(file.data(file.tensors[name]).data)
    return path


def tiny(folder: Path) -> Path:
    """The tiny model as F16, converted once a folder."""
    path = folder / "tiny-f16.gguf"
    if not path.exists():
        from quantmill.artifact import Context
        from quantmill.checkpoint.conversion import convert

        files = {p.name: p for p in TINY.iterdir() if p.suffix in (".json", ".safetensors")}
        convert(files, path, "F16", "Tiny", None, Context())
    return path


def _vocabulary(model: str, pre: str, texts: list[str], types: list[int]) -> dict[str, KV | None]:
    gone = dict.fromkeys(
        P + key
        for key in (
            "merges",
            "scores",
            "add_bos_token",
            *(f"{k}_token_id" for k in ("bos", "eos", "unknown", "padding")),
        )
    )
    return {
        **gone,
        P + "model": kv(P + "model", model),
        P + "pre": kv(P + "pre", pre),
        P + "tokens": kv(P + "tokens", texts),
        P + "token_type": kv(P + "token_type", types, subtype=ValueType.INT32),
    }


def pairs(pre: str) -> dict[str, KV | None]:
    """Byte-level: every byte, and a token for every two of them in a fixed random order, so that each change of where a
    word begins or ends changes ids."""
    signs = list(byte_of())
    both = [(left, right) for left in signs for right in signs]
    random.Random(3).shuffle(both)
    special = {"<mask>": USER_DEFINED, "<|endoftext|>": CONTROL, "<unk>": CONTROL, "<s>": CONTROL, "</s>": CONTROL}
    texts = [*signs, *(left + right for left, right in both), *special]
    found = _vocabulary("gpt2", pre, texts, [NORMAL] * (256 + len(both)) + list(special.values()))
    return found | {P + "merges": kv(P + "merges", [f"{left} {right}" for left, right in both])}


def sentencepiece(size: int = 2048, prefix: bool = True) -> dict[str, KV | None]:
    """SentencePiece's kind with `size` tokens: bytes, the calibration text's characters and frequent parts of words,
    runs of spaces and lines, user-defined ones."""
    text = CALIBRATION.read_text()
    parts: Counter[str] = Counter()
    for word in text.split():
        marked = "\u2581" + word
        for begin in range(len(marked)):
            parts.update(marked[begin:end] for end in range(begin + 2, min(len(marked), begin + 8) + 1))
    rows = [("<unk>", UNKNOWN, 0.0), ("<s>", CONTROL, 0.0), ("</s>", CONTROL, 0.0)]
    rows += [(f"<0x{byte:02X}>", BYTE, 0.0) for byte in range(256)]
    rows += [(text, USER_DEFINED, 0.0) for text in ("\n\n", "\n\n\n", "<h1>", "  ", "<end_of_turn>")]
    rows += [(sign, NORMAL, -20000.0) for sign in sorted({*text.replace(" ", "\u2581"), "\u00e9", "\u65e5", "\u0301"})]
    rows += [("\u2581\u2581", NORMAL, -1.0), ("b\u2581c", NORMAL, -2.0)]
    known = {text for text, _, _ in rows}
    ordered = sorted(parts.items(), key=lambda item: (-item[1], item[0]))
    fresh = [part for part, _ in ordered if part not in known][: size - len(rows)]
    rows += [(part, NORMAL, -float(rank // 3)) for rank, part in enumerate(fresh)]
    found = _vocabulary("llama", "default", [text for text, _, _ in rows], [type_ for _, type_, _ in rows])
    return found | {
        P + "scores": kv(P + "scores", [score for _, _, score in rows], subtype=ValueType.FLOAT32),
        P + "add_space_prefix": kv(P + "add_space_prefix", prefix),
    }


def characters() -> dict[str, KV | None]:
    """Gemma 4's kind: the tokens of `sentencepiece`, each merged of two in every way, and control tokens of its own."""
    found = sentencepiece()
    tokens, types = (found[P + key] for key in ("tokens", "token_type"))
    assert tokens is not None
    assert types is not None
    texts, kinds = [*tokens.value], [*types.value]
    known = set(texts)
    parts = [text for text, kind in zip(texts, kinds, strict=True) if kind == NORMAL and len(text) > 1]
    cuts = [(text[:at], text[at:]) for text in parts for at in range(1, len(text))]
    more = {"<eos>": NORMAL, "<turn|>": NORMAL, "<|tool_response>": USER_DEFINED, "<|channel>": USER_DEFINED}
    made = _vocabulary("gemma4", "gemma4", [*texts, *more], [*kinds, *more.values()])
    merges = [f"{left} {right}" for left, right in cuts if {left, right} <= known]
    return made | {P + "merges": kv(P + "merges", merges), P + "bos_token_id": kv(P + "bos_token_id", 1)}


def names() -> list[str]:
    """The vocabularies of the expected file by their names there."""
    return ["tiny", "sentencepiece", "sentencepiece bare", "phi3", "gemma4", *(f"cut {name}" for name in CUTTINGS)]


def vocabulary(name: str) -> dict[str, KV | None]:
    """One of `names`, as what it changes of the tiny model's metadata."""
    if name == "tiny":
        return {}
    if name == "gemma4":
        return characters()
    if name.startswith("sentencepiece"):
        return sentencepiece(prefix=name == "sentencepiece")
    if name == "phi3":
        return pairs("qwen2") | {"general.name": kv("general.name", "My Phi-3 mini")}
    return pairs(name.removeprefix("cut "))


def digest(ids: list[list[int]]) -> str:
    """sha256 of the ids of all cases."""
    return hashlib.sha256(json.dumps(ids, separators=(",", ":")).encode()).hexdigest()


def cases() -> list[tuple[str, bool]]:
    """(text, special): `special` adds BOS and EOS and parses control tokens, as one of llama.cpp's calls does."""
    return [(text, special) for text in HOSTILE for special in (True, False)]


def _text(value: object) -> str:
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in value) + "\n]"


def _make(program: str) -> None:
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names():
            path = write(Path(folder) / "vocabulary.gguf", vocabulary(name))
            rows = []
            for text, special in cases():
                flags = [] if special else ["--no-bos", "--no-parse-special"]
                command = [program, "-m", str(path), "--stdin", "--ids", "--log-disable", "--no-escape", *flags]
                done = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
                rows.append(json.loads(done.stdout))
            found[name] = digest(rows) if name.startswith(("cut", "phi3", "gemma4")) else rows
    lines = ",\n".join(f"{json.dumps(name)}: {_text(value)}" for name, value in found.items())
    EXPECTED.write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    _make(sys.argv[1])
