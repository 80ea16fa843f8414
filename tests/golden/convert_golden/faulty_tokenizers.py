"""Small models whose tokenizer has one thing wrong, and what becomes of each: a sentence, or a file that generates.

Each fault changes the files of a sound model: byte-level BPE in tokenizer.json, or SentencePiece in tokenizer.model or
in a tokenizer.json of its kind. `benchmarks/loads.py` gives the files that are made to another program.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from convert_golden import models, vocabularies
from convert_golden.vocabularies import QWEN2, added, split

Files = dict[str, Any]
Edit = Callable[[Files, dict[str, Any]], Any]
BUILDS = ""  # in the place of what an error says
TOKENS = [("<|endoftext|>", True, False), ("<|im_start|>", True, False), ("<|im_end|>", True, False)]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
BPE_SETTINGS = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": "<|im_end|>",
    "bos_token": "<|endoftext|>",
    "add_bos_token": False,
    "chat_template": TEMPLATE,
}
SPM_SETTINGS = {
    "tokenizer_class": "LlamaTokenizer",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "add_bos_token": True,
    "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
}


def base(kind: str) -> tuple[Files, dict[str, Any]]:
    """The files of a sound model but its weights, and its configuration; `kind` is bpe, spm or json."""
    if kind == "bpe":
        tokenizer = vocabularies.byte_level(split(QWEN2), TOKENS, {"type": "NFC"})
        files: Files = {"tokenizer.json": tokenizer, "tokenizer_config.json": dict(BPE_SETTINGS)}
        return files, models.config("Qwen2ForCausalLM", "qwen2", tie_word_embeddings=True)
    config = models.config("LlamaForCausalLM", "llama", bos_token_id=1, eos_token_id=2, tie_word_embeddings=True)
    vocabulary = (
        {"tokenizer.model": vocabularies.spm_model()} if kind == "spm" else {"tokenizer.json": vocabularies.spm_json()}
    )
    return {**vocabulary, "tokenizer_config.json": dict(SPM_SETTINGS)}, config


def write(folder: Path, kind: str, edit: Edit) -> dict[str, Path]:
    """The model with its fault; returns its files by the names that a conversion knows."""
    files, config = base(kind)
    edit(files, config)
    folder.mkdir(parents=True)
    for name, data in {"config.json": config, **files}.items():
        text = data if isinstance(data, str | bytes) else json.dumps(data, ensure_ascii=False)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    sound = base(kind)[1] | {"vocab_size": config["vocab_size"]}
    random = np.random.default_rng(1)
    shapes = models.shapes_of(sound, ("q", "k", "v") if kind == "bpe" else ())
    tensors = {name: ("F32", (random.random(shape, "<f4") - 0.5).astype("<f4")) for name, shape in shapes.items()}
    models.save_safetensors(folder / "model.safetensors", tensors)
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def settings(**changes: Any) -> Edit:
    return lambda files, config: files["tokenizer_config.json"].update(changes)


def without(key: str) -> Edit:
    return lambda files, config: files["tokenizer_config.json"].pop(key)


def facts(**changes: Any) -> Edit:
    return lambda files, config: config.update(changes)


def file(name: str, data: Any) -> Edit:
    return lambda files, config: files.update({name: data})


def drop(name: str) -> Edit:
    return lambda files, config: files.pop(name)


def token(id_: int, text: str, **flags: bool) -> Edit:
    return lambda files, config: files["tokenizer.json"]["added_tokens"].append(added(id_, text, **flags))


def model(**changes: Any) -> Edit:
    return lambda files, config: files["tokenizer.json"]["model"].update(changes)


def data(**changes: Any) -> Edit:
    return lambda files, config: files["tokenizer.json"].update(changes)


def word(text: str, id_: int) -> Edit:
    return lambda files, config: files["tokenizer.json"]["model"]["vocab"].update({text: id_})


def merge(*pair: Any) -> Edit:
    return lambda files, config: files["tokenizer.json"]["model"]["merges"].append(list(pair))


def decoder(id_: str, entry: Any) -> Edit:
    return settings(added_tokens_decoder={id_: entry})


def both(*edits: Edit) -> Edit:
    return lambda files, config: [edit(files, config) for edit in edits]


def pieces(*first: tuple[str, float, int]) -> Edit:
    sound = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    return file("tokenizer.model", vocabularies.spm_model([*sound, *first]))


def templates(*names: str) -> Edit:
    return settings(chat_template=[{"name": name, "template": TEMPLATE} for name in names])


# Faults of the files around a vocabulary, alike in all kinds.
COMMON: dict[str, tuple[Edit, str]] = {
    "template that never ends": (settings(chat_template="{% for m in messages %}"), "is no Jinja in line 1"),
    "template with a wrong bracket": (settings(chat_template="{{ messages[0 }}"), "is no Jinja in line 1"),
    "template of half a million brackets": (settings(chat_template="{{" + "(" * 100_000), "is no Jinja"),
    "template with a number of many digits": (settings(chat_template="{{ " + "1" * 5000 + " }}"), "is no Jinja"),
    "template that includes another": (
        file("chat_template.jinja", "{% include 'x' %}"),
        "chat_template.jinja: the chat template has the statement `include` in line 1",
    ),
    "template with a block": (settings(chat_template="\n{% block a %}{% endblock %}"), "`block` in line 2"),
    "template with raw text": (settings(chat_template="{% raw %}{{ a }}{% endraw %}"), "`raw` in line 1"),
    "template with a filter that is none": (settings(chat_template="{{ messages|frob }}"), "the filter 'frob'"),
    "template with a test that is none": (settings(chat_template="{{ messages is frob }}"), "the test 'frob'"),
    "template with statements of transformers": (
        settings(chat_template="{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"),
        BUILDS,
    ),
    "template that is empty": (settings(chat_template=""), BUILDS),
    "template that is null": (settings(chat_template=None), BUILDS),
    "template that is a table": (settings(chat_template={"a": 1}), BUILDS),
    "template that is an empty list": (settings(chat_template=[]), BUILDS),
    "templates without a default": (templates("rag", "tool use"), BUILDS),
    "template file of a mark and Windows' lines": (
        file("chat_template.jinja", b"\xef\xbb\xbf{{ messages[0].content }}\r\n"),
        BUILDS,
    ),
    "template file in Latin-1": (file("chat_template.jinja", b"caf\xe9"), "chat_template.jinja is not UTF-8 text"),
    "template file that is empty": (file("chat_template.jinja", ""), BUILDS),
    "template that is half a surrogate pair": (
        file("tokenizer_config.json", b'{"chat_template": "\\ud800"}'),
        "is not valid JSON in UTF-8",
    ),
    "tokenizer_config.json that is a list": (file("tokenizer_config.json", []), "holds no JSON object"),
    "tokenizer_config.json cut short": (file("tokenizer_config.json", "{"), "is not valid JSON"),
    "eos beyond the vocabulary": (
        both(without("eos_token"), facts(eos_token_id=5000)),
        "config.json gives the eos token the id 5000, and the vocabulary has 288 tokens; correct it there",
    ),
    "eos below zero": (both(without("eos_token"), facts(eos_token_id=-1)), "gives the eos token the id -1"),
    "bos just beyond the vocabulary": (
        both(without("bos_token"), facts(bos_token_id=288)),
        "gives the bos token the id 288",
    ),
    "pad beyond the vocabulary": (facts(pad_token_id=32000), BUILDS),
    "pad below zero": (facts(pad_token_id=-1), BUILDS),
    "eos that is a list": (both(without("eos_token"), facts(eos_token_id=[1, 2])), BUILDS),
    "eos that is a text": (both(without("eos_token"), facts(eos_token_id="</s>")), BUILDS),
    "eos that is true": (both(without("eos_token"), facts(eos_token_id=True)), BUILDS),
    "add_bos_token that is a text": (settings(add_bos_token="yes"), BUILDS),
}
BPE: dict[str, tuple[Edit, str]] = {
    "two added tokens of one text": (token(290, "<|im_end|>"), "the token '<|im_end|>' has the ids 271 and 290"),
    "an added token of a word's text": (token(272, "a"), "the tokens 97 and 272 have the same text 'a'"),
    "an added token of a word's id": (token(98, "<new>"), "have the same id 98"),
    "two words of one id": (word("zzz", 5), "have the same id 5"),
    "two tokens that end alike at a NUL": (
        both(token(272, "<x>\0a", normalized=True), token(273, "<x>\0b", normalized=True)),
        "the tokens 272 and 273 have the same text '<x>'",
    ),
    "a token that is named like padding": (token(272, "[PAD280]"), "the tokens 272 and 280 have the same text"),
    "a token beyond vocab_size": (token(288, "<new>"), "has the id 288, but config.json's `vocab_size` is 288"),
    "a gap between ids": (token(280, "<new>"), BUILDS),
    "a token without text": (word("", 272), BUILDS),
    "a token of a NUL": (token(272, "\0", normalized=True), BUILDS),
    "an id that is no number": (word("zzz", "x"), "has a token whose id is not a whole number"),  # type: ignore[arg-type]
    "an added token without an id": (data(added_tokens=[{"content": "x"}]), "without a whole number as its id"),
    "no merges": (model(merges=[]), "tokenizer.json has no merges"),
    "merges of null": (model(merges=None), "tokenizer.json has no merges"),
    "a merge of an unknown token": (merge("zz", "q"), "needs the token 'zz', which it lacks"),
    "a merge into an unknown token": (merge("a", "q"), "needs the token 'aq', which it lacks"),
    "a merge of three": (merge("a", "b", "c"), "has a merge that is not two texts"),
    "Unigram": (model(type="Unigram"), "holds no BPE vocabulary"),
    "WordPiece": (model(type="WordPiece"), "holds no BPE vocabulary"),
    "a pattern that is unknown": (data(pre_tokenizer=split("x")), "has no known llama.cpp name"),
    "a normalizer that is unknown": (data(normalizer={"type": "Lowercase"}), "has no known llama.cpp name"),
    "an eos that is no token": (settings(eos_token="<|nope|>"), BUILDS),
    "no eos at all": (without("eos_token"), BUILDS),
    "no tokenizer.json": (drop("tokenizer.json"), "neither tokenizer.model nor tokenizer.json"),
    "an older vocabulary": (
        both(drop("tokenizer.json"), file("vocab.json", {}), file("merges.txt", "")),
        "only the older vocab.json; make one by transformers: AutoTokenizer",
    ),
    "mistral-common's vocabulary": (both(drop("tokenizer.json"), file("tekken.json", {})), "tekken.json"),
    "another SentencePiece's vocabulary": (
        both(drop("tokenizer.json"), file("spiece.model", b"")),
        "'spiece.model' is none of tokenizer.model's kind",
    ),
    "tokenizer.json cut short": (file("tokenizer.json", "{"), "is not valid JSON"),
    "a token in an older file alone": (file("added_tokens.json", {"<old>": 272}), BUILDS),
    "a special token in tokenizer_config.json alone": (
        decoder("272", {"content": "<tool>", "special": True}),
        BUILDS,
    ),
}
SPM: dict[str, tuple[Edit, str]] = {
    "an added token beyond vocab_size": (file("added_tokens.json", {"<far>": 5000}), BUILDS),
    "a decoder's token beyond vocab_size": (decoder("288", {"content": "<far>"}), BUILDS),
    "an added token of a piece's text": (
        file("added_tokens.json", {"▁the": 280}),
        "have the same text '▁the'",
    ),
    "an added token in a piece's place": (file("added_tokens.json", {"<mine>": 300 - 28}), BUILDS),
    "an added token in a byte's place": (file("added_tokens.json", {"<mine>": 20}), BUILDS),
    "an added token of a negative id": (file("added_tokens.json", {"<mine>": -1}), "where the id of '<mine>' belongs"),
    "two added tokens of one text": (
        both(file("added_tokens.json", {"<a>": 280}), decoder("281", {"content": "<a>"})),
        "have the same text '<a>'",
    ),
    "two pieces of one text": (pieces(("<a>", 0.0, 4), ("<a>", 0.0, 4)), "the tokens 3 and 4 have the same text '<a>'"),
    "a byte that is none": (pieces(("A", 0.0, 6)), "the token 'A' is of the type BYTE and no <0x..>"),
    "a score that is no number": (pieces(("<a>", float("nan"), 1)), "the token '<a>' has a score that is no number"),
    "a piece named like padding": (pieces(("[PAD280]", 0.0, 1)), "have the same text '[PAD280]'"),
    "a piece without text": (pieces(("", 0.0, 1)), BUILDS),
    "a piece of an unknown type": (pieces(("x", 0.0, 9)), "of the unknown type 9"),
    "more pieces than vocab_size": (facts(vocab_size=256), "has more tokens than config.json's `vocab_size`, 256"),
    "fewer pieces than vocab_size": (facts(vocab_size=320), BUILDS),
    "tokenizer.model cut short": (file("tokenizer.model", vocabularies.spm_model()[:100]), "the file was cut short"),
    "tokenizer.model that is a web page": (file("tokenizer.model", "<html>"), "is not a SentencePiece model"),
    "tokenizer.model that is empty": (file("tokenizer.model", b""), "it has no unknown token"),
    "no tokenizer.model": (drop("tokenizer.model"), "neither tokenizer.model nor tokenizer.json"),
    "a decoder with a bad id": (decoder("x", {"content": "a"}), "has a bad entry 'x'"),
    "a decoder's token without text": (decoder("280", {}), "has a bad entry '280'"),
    "no eos at all": (both(without("eos_token"), facts(eos_token_id=None)), BUILDS),
    "an eos that is no token": (settings(eos_token="<|nope|>"), BUILDS),
    "a name that llama.cpp takes for Phi-3's": (
        facts(_name_or_path="someone/Phi3-tuned"),
        "its name is 'Phi3 Tuned', and a model so called needs the token '<|endoftext|>', which it lacks",
    ),
    "add_prefix_space that is a text": (settings(add_prefix_space="no"), BUILDS),
}
JSON: dict[str, tuple[Edit, str]] = {
    "fewer tokens than vocab_size": (facts(), BUILDS),
    "more tokens than vocab_size": (facts(vocab_size=256), "but config.json's `vocab_size` is 256"),
    "a gap between added tokens": (token(285, "<late>", special=False), BUILDS),
    "an added token of a word's text": (token(280, "▁a"), "have the same text '▁a'"),
    "two words of one id": (word("zzz", 5), "have the same id 5"),
    "a hole among words": (word("ab", 275), "has 270 tokens but none with id 269"),
}


def faults() -> Iterator[tuple[str, str, Edit, str]]:
    """(kind, name, edit, what the error says) of every fault."""
    for kind, own in (("bpe", BPE), ("spm", SPM), ("json", JSON)):
        for name, (edit, expected) in ({**COMMON, **own} if kind != "json" else own).items():
            yield kind, name, edit, expected
