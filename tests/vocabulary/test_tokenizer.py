"""Tokens are llama.cpp's: against stored ids of b5490's, against a live llama.cpp, and where they break."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantmill.architectures.errors import TokenizerError
from quantmill.gguf import KV, ValueType, kv
from quantmill.vocabulary.hf_pieces import TokenizerJSON
from quantmill.vocabulary.merges import merge
from quantmill.vocabulary.special_tokens import Special, partition
from quantmill.vocabulary.tokenizer import Tokenizer, from_metadata, load
from quantmill.vocabulary.words import CUTTINGS, words
from tokenizer_cases import (
    CALIBRATION,
    EXPECTED,
    HOSTILE,
    TINY,
    P,
    cases,
    digest,
    pairs,
    sentencepiece,
    tiny,
    vocabulary,
    write,
)

LIVE = """
import json, os, sys, urllib.request, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx, params.n_gpu_layers, params.warmup, params.cpuparams.n_threads = 64, 0, False, 1
server = xllamacpp.Server(params)
found = []
for text, special in json.load(sys.stdin):
    body = json.dumps({"content": text, "add_special": special, "parse_special": special}).encode()
    request = urllib.request.Request(server.listening_address + "/tokenize", body, {"Content-Type": "application/json"})
    found.append(json.load(urllib.request.urlopen(request))["tokens"])
print(json.dumps(found), flush=True)
os._exit(0)
"""
GPT2 = kv(P + "model", "gpt2")
EXPECTATIONS = json.loads(EXPECTED.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vocabularies")


def encode_all(tokenizer: Tokenizer, chosen: list[tuple[str, bool]]) -> list[list[int]]:
    return [tokenizer.encode(text, add_special=special, parse_special=special) for text, special in chosen]


def live(model: Path, chosen: list[tuple[str, bool]]) -> list[list[int]]:
    """The ids of the llama.cpp that xllamacpp holds, which is later than b5490."""
    program = [sys.executable, "-c", LIVE, str(model)]
    done = subprocess.run(program, input=json.dumps(chosen), capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[list[int]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", EXPECTATIONS)
def test_the_ids_of_b5490(folder: Path, name: str) -> None:
    tokenizer = load(write(folder / "vocabulary.gguf", vocabulary(name)))
    found = encode_all(tokenizer, cases())
    expected = EXPECTATIONS[name]
    if isinstance(expected, str):
        assert digest(found) == expected
    else:
        for case, ids, wanted in zip(cases(), found, expected, strict=True):
            assert ids == wanted, case


def test_every_way_of_cutting_has_ids() -> None:
    covered = {CUTTINGS[name[4:]] for name in EXPECTATIONS if name.startswith("cut ")}
    assert covered == set(CUTTINGS.values())


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), min_size=200, max_size=200))
@settings(max_examples=3, deadline=None)
def test_a_live_llama_cpp_agrees(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    model = tiny(tmp_path_factory.mktemp("live"))
    chosen = [(text, special) for text in (*texts, *HOSTILE, CALIBRATION.read_text()) for special in (True, False)]
    assert encode_all(load(model), chosen) == live(model, chosen)


@pytest.mark.parametrize("pre", ["llama-bpe", "smollm", "gpt-2", "default", "tekken", "gpt-4o", None])
def test_a_live_llama_cpp_agrees_on_other_vocabularies(folder: Path, pre: str | None) -> None:
    entries = sentencepiece() if pre is None else {P + "pre": kv(P + "pre", pre)}
    model = write(folder / "live.gguf", entries, weights=True)
    chosen = [*cases(), (CALIBRATION.read_text(), False)]
    assert encode_all(load(model), chosen) == live(model, chosen)


def test_a_folder_and_its_gguf_agree_and_so_does_hugging_face(folder: Path) -> None:
    text = CALIBRATION.read_text()
    of_folder, of_gguf = load(TINY), load(tiny(folder))
    ids = of_gguf.encode(text)
    assert of_folder.encode(text) == ids
    assert (of_folder.size, of_folder.bos, of_folder.add_bos) == (of_gguf.size, of_gguf.bos, of_gguf.add_bos)
    data = json.loads((TINY / "tokenizer.json").read_text())
    assert replace(of_gguf, pieces=TokenizerJSON(data)).encode(text) == ids


def test_a_pattern_that_has_no_end_is_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path in TINY.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = json.loads((TINY / "tokenizer.json").read_text())
    data["pre_tokenizer"]["pretokenizers"][0] |= {"type": "Split", "behavior": "Isolated", "invert": False}
    data["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"(([a-zA-Z]+)*)+[!]|\p{L}+|."}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    tokenizer = load(tmp_path)
    assert tokenizer.encode("a b!")
    with pytest.raises(TokenizerError) as error:
        tokenizer.encode("a" * 2000 + " b")
    assert str(error.value) == (
        "tokenizer.json's patterns cannot cut this text: Onig: Regex search error: retry-limit-in-match over; "
        "take the model's own anew"
    )
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"  # the library writes of its panic there
    data["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": "("}
    with pytest.raises(TokenizerError, match=r"^tokenizer.json cannot be used: Oniguruma error: end pattern"):
        TokenizerJSON(data)


def test_a_pattern_without_a_name_is_tokenizer_jsons_own(tmp_path: Path) -> None:
    for path in TINY.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = json.loads((TINY / "tokenizer.json").read_text())
    data["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "[aeiou]"}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        ],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    from tokenizers import Tokenizer as Backend

    assert load(tmp_path).encode("hello <|im_end|>", parse_special=True) == (
        Backend.from_file(str(tmp_path / "tokenizer.json")).encode("hello <|im_end|>").ids
    )


def test_words_are_the_text() -> None:
    for cutting in CUTTINGS.values():
        for text in HOSTILE:
            assert "".join(words(text, cutting)) == text


def test_merging_takes_the_lowest_rank_and_then_the_leftmost() -> None:
    ranks = {("a", "b"): 1.0, ("b", "c"): 0.0, ("a", "a"): 2.0, ("aa", "aa"): 3.0}
    assert merge(list("abc"), lambda left, right: ranks.get((left, right))) == ["a", "bc"]
    assert merge(list("aaaaa"), lambda left, right: ranks.get((left, right))) == ["aaaa", "a"]
    assert merge([], lambda left, right: 0.0) == []


def test_the_longest_special_token_is_found_first() -> None:
    found = [Special("<<a>>", 2, hidden=False), Special("<a>", 1, hidden=True)]
    assert partition("x<<a>><a>y", found, parse=True) == ["x", 2, 1, "y"]
    assert partition("x<<a>><a>y", found, parse=False) == ["x", 2, "<a>y"]
    assert partition("", found, parse=True) == []


def entries(change: dict[str, KV | None]) -> dict[str, KV]:
    base = {
        P + "model": kv(P + "model", "llama"),
        P + "tokens": kv(P + "tokens", ["<unk>", "<s>", "</s>", "a"]),
        P + "scores": kv(P + "scores", [0.0] * 4, subtype=ValueType.FLOAT32),
    }
    return {key: value for key, value in {**base, **change}.items() if value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({P + "model": kv(P + "model", "bert")}, "its tokenizer is of the kind 'bert'; quantmill tokenizes gpt2"),
        ({P + "model": None}, "it has no vocabulary, by which texts become tokens; give a whole model"),
        ({P + "tokens": kv(P + "tokens", ["a", "b", "a", "c"])}, "has the token 'a' twice"),
        ({P + "tokens": None}, r"tokenizer\.ggml\.tokens is missing"),
        ({P + "scores": kv(P + "scores", [0.0], subtype=ValueType.FLOAT32)}, "scores has 1 entries for 4 tokens"),
        (
            {P + "model": kv(P + "model", "gpt2"), P + "pre": kv(P + "pre", "klingon")},
            "pre-tokenizer 'klingon' is not known",
        ),
        ({P + "model": GPT2}, r"tokenizer\.ggml\.merges is missing"),
        (
            {P + "model": kv(P + "model", ["gpt2"])},
            r"^model\.gguf: tokenizer\.ggml\.model is no text; convert the model",
        ),
        (
            {P + "pre": kv(P + "pre", ["qwen2"])},
            r"^model\.gguf: tokenizer\.ggml\.pre is no text; convert the model anew$",
        ),
        ({P + "pre": kv(P + "pre", 7)}, r"^model\.gguf: tokenizer\.ggml\.pre is no text; convert the model anew$"),
    ],
)
def test_a_vocabulary_that_cannot_be_used_is_named(change: dict[str, KV | None], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        from_metadata(entries(change), "model.gguf")


def test_the_metadata_stay_as_they_are() -> None:
    """A token that is a control token for its text is one here, not in the file."""
    change = {P + "tokens": kv(P + "tokens", ["<unk>", "<s>", "</s>", "<|im_end|>"])}
    found = entries({**change, P + "token_type": kv(P + "token_type", [1, 1, 1, 1])})
    assert [special.text for special in from_metadata(found).specials] == ["<|im_end|>"]
    assert found[P + "token_type"].value == [1, 1, 1, 1]


def test_a_byte_without_a_token_is_named() -> None:
    with pytest.raises(TokenizerError, match="neither a token for the byte 0x62"):
        from_metadata(entries({P + "add_space_prefix": kv(P + "add_space_prefix", False)})).encode("b")


def test_a_missing_end_token_is_named() -> None:
    broken = entries(
        {P + "tokens": kv(P + "tokens", ["a"]), P + "scores": None, P + "add_bos_token": kv(P + "add_bos_token", True)}
    )
    with pytest.raises(TokenizerError, match="asks for a BOS token around a text, but has none"):
        from_metadata(broken).encode("a")


def test_pairs_is_sensitive(folder: Path) -> None:
    """The digests of the cutting tests see a single moved boundary."""
    tokenizers = [load(write(folder / f"{name}.gguf", pairs(name))) for name in ("qwen2", "llama-bpe")]
    first, second = (tokenizer.encode("x 12345", add_special=False) for tokenizer in tokenizers)
    assert first != second
