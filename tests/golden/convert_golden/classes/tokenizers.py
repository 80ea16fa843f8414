"""The tokenizers of families, made small: their patterns and special tokens, with the 269 tokens of byte_level."""

from collections.abc import Callable
from typing import Any

from convert_golden.models import gemma3_files
from convert_golden.vocabularies import DIGITS, LLAMA3, QWEN2, added, byte_level, split, spm_json, spm_model

FIRST = 269  # the id of the first special token
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
_CASED = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
_CASED += r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
GPT4O = _CASED + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

Files = Callable[[], dict[str, Any]]


def _bytes(
    pre: Any, tokens: str, bos: str | None, eos: str, pad: str | None = None, unk: str | None = None, **settings: Any
) -> Files:
    """`tokens` in one text; those that end with `*` are not special."""
    entries = [(token.removesuffix("*"), not token.endswith("*"), False) for token in tokens.split()]
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos, "eos_token": eos, "pad_token": pad}
    facts |= {"unk_token": unk, "chat_template": TEMPLATE, **settings}
    decoder = {
        str(FIRST + index): {"content": text, "special": special} for index, (text, special, _) in enumerate(entries)
    }
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    facts["added_tokens_decoder"] = {id_: {**flags, **fact} for id_, fact in decoder.items()}
    return lambda: {"tokenizer.json": byte_level(pre, entries), "tokenizer_config.json": facts}


QWEN = _bytes(
    split(QWEN2),
    "<|endoftext|> <|im_start|> <|im_end|> <tool_call>*",
    None,
    "<|im_end|>",
    "<|endoftext|>",
    tokenizer_class="Qwen2Tokenizer",
    add_bos_token=False,
)
OLMO = _bytes(
    split(LLAMA3),
    "<|pad|> <|endoftext|>",
    "<|endoftext|>",
    "<|endoftext|>",
    "<|pad|>",
    "<|endoftext|>",
    tokenizer_class="GPT2Tokenizer",
    add_prefix_space=False,
)
SMOLLM3 = _bytes(split(LLAMA3), "<|begin_of_text|> <|end_of_text|> <|im_start|> <|im_end|>", None, "<|im_end|>")
SEED = _bytes(split(QWEN2), "<seed:bos> <seed:pad> <seed:eos>", "<seed:bos>", "<seed:eos>", "<seed:pad>")
EXAONE = _bytes(
    split(QWEN2),
    "[PAD] [BOS] [EOS] [UNK] [|endofturn|]",
    "[BOS]",
    "[|endofturn|]",
    "[PAD]",
    "[UNK]",
    tokenizer_class="GPT2Tokenizer",
)
HUNYUAN = _bytes(
    split(LLAMA3), "<|startoftext|> <|endoftext|> <|pad|> <|eos|>", "<|startoftext|>", "<|eos|>", "<|pad|>"
)
GRANITE = _bytes(
    DIGITS,
    "<|end_of_text|> <fim_prefix> <|pad|> <|start_of_role|>",
    "<|end_of_text|>",
    "<|end_of_text|>",
    "<|pad|>",
    "<|end_of_text|>",
    tokenizer_class="GPT2Tokenizer",
    add_prefix_space=False,
    add_bos_token=False,
)
COHERE = _bytes(
    DIGITS,
    "<PAD> <UNK> <CLS> <BOS_TOKEN> <EOS_TOKEN> <|END_OF_TURN_TOKEN|>",
    "<BOS_TOKEN>",
    "<|END_OF_TURN_TOKEN|>",
    "<PAD>",
    tokenizer_class="CohereTokenizerFast",
    add_bos_token=True,
    add_eos_token=False,
    add_prefix_space=False,
)
GLM = _bytes(
    split(LLAMA3),
    "<|endoftext|> [MASK] [gMASK] [sMASK] <sop> <eop> <|system|> <|user|> <|assistant|> <|observation|>",
    None,
    "<|endoftext|>",
    "<|endoftext|>",
)
# DeepSeek's file holds the line ends themselves, not their escapes.
_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^<LINE>\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[<LINE>]*|\s*[<LINE>]+|\s+(?!\S)|\s+"""
).replace("<LINE>", "\r\n")
_CUTS = (r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", _WORDS)
_BAR = "\uff5c"
_ROLES = f"<{_BAR}User{_BAR}>* <{_BAR}Assistant{_BAR}>*"
DEEPSEEK = _bytes(
    {
        "type": "Sequence",
        "pretokenizers": [*(split(cut)["pretokenizers"][0] for cut in _CUTS), split("")["pretokenizers"][1]],
    },
    f"<{_BAR}begin▁of▁sentence{_BAR}> <{_BAR}end▁of▁sentence{_BAR}> <{_BAR}▁pad▁{_BAR}> {_ROLES}",
    f"<{_BAR}begin▁of▁sentence{_BAR}>",
    f"<{_BAR}end▁of▁sentence{_BAR}>",
    f"<{_BAR}end▁of▁sentence{_BAR}>",
    tokenizer_class="LlamaTokenizerFast",
    add_bos_token=True,
    add_eos_token=False,
)
GPT_OSS = _bytes(
    split(GPT4O),
    "<|startoftext|> <|endoftext|> <|return|> <|channel|> <|start|> <|end|> <|message|> <|call|>",
    "<|startoftext|>",
    "<|return|>",
    "<|endoftext|>",
)
MINIMAX = _bytes(split(GPT4O), "]!p~[ ]~!b[ ]!d~[ [e~[ <think>*", "]~!b[", "[e~[", unk="]!d~[")
LFM2 = _bytes(
    split(LLAMA3),
    "<|pad|> <|startoftext|> <|endoftext|> <|im_start|> <|im_end|>",
    "<|startoftext|>",
    "<|im_end|>",
    "<|pad|>",
)
FALCON_H1 = _bytes(
    split(LLAMA3), "<|pad|> <|begin_of_text|> <|end_of_text|>", "<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"
)
NEMOTRON = _bytes(split(LLAMA3), "<unk> <s> </s> <SPECIAL_10>", "<s>", "</s>", unk="<unk>")
LLAMA4 = _bytes(
    split(GPT4O),
    "<|begin_of_text|> <|end_of_text|> <|eot|> <|finetune_right_pad|>",
    "<|begin_of_text|>",
    "<|eot|>",
    "<|finetune_right_pad|>",
)
MISTRAL = _bytes(split(GPT4O), "<unk> <s> </s> [INST] [/INST] <pad>", "<s>", "</s>", "<pad>", "<unk>")

PHI4 = _bytes(
    split(LLAMA3),
    "<|endoftext|> <|im_start|> <|im_end|>",
    "<|endoftext|>",
    "<|endoftext|>",
    "<|endoftext|>",
    "<|endoftext|>",
    tokenizer_class="GPT2Tokenizer",
    add_prefix_space=False,
)

_FLAGS = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}


def _sentencepiece(class_: str = "LlamaTokenizer", extra: str = "", **settings: Any) -> Files:
    """tokenizer.model, whose 272 pieces `extra` tokens follow."""
    names = extra.split()
    decoder = {"0": "<unk>", "1": "<s>", "2": "</s>", **{str(272 + index): name for index, name in enumerate(names)}}
    facts: dict[str, Any] = {"tokenizer_class": class_, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    facts |= {"add_bos_token": True, "add_eos_token": False, "chat_template": TEMPLATE, **settings}
    facts["added_tokens_decoder"] = {id_: {"content": text, **_FLAGS, "special": True} for id_, text in decoder.items()}
    files: dict[str, Any] = {"tokenizer.model": spm_model(), "tokenizer_config.json": facts}
    if names:
        files["added_tokens.json"] = {name: 272 + index for index, name in enumerate(names)}
    return lambda: files


MIXTRAL = _sentencepiece()
PHI3 = _sentencepiece(
    extra="<|endoftext|> <|assistant|> <|system|> <|end|> <|user|>", eos_token="<|endoftext|>", add_bos_token=False
)
ERNIE = _sentencepiece("Ernie4_5_Tokenizer", add_prefix_space=False, cls_token="<s>", sep_token="</s>")


def GEMMA() -> dict[str, Any]:
    return gemma3_files()


_GEMMA4 = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|tool>", "<|channel>", "<channel|>", "<|tool_call>"]
_GEMMA4 += ["<|turn>", "<turn|>", "<|think|>"]


def GEMMA4() -> dict[str, Any]:
    """Its BPE of characters, which the family's other tokenizers are as a SentencePiece model."""
    tokenizer = spm_json()
    texts = [*_GEMMA4, *(text for text in tokenizer["model"]["vocab"] if text not in ("<unk>", "<s>", "</s>"))]
    tokenizer["model"] |= {"vocab": {text: id_ for id_, text in enumerate(texts)}}
    tokenizer["added_tokens"] = [added(id_, text) for id_, text in enumerate(_GEMMA4)]
    tokenizer["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    }
    decoders = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, *tokenizer["decoder"]["decoders"]]
    tokenizer["decoder"] = {"type": "Sequence", "decoders": decoders}
    settings = {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "mask_token": "<mask>"}
    settings |= {"pad_token": "<pad>", "unk_token": "<unk>", "padding_side": "left"}
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": settings, "chat_template.jinja": TEMPLATE}
