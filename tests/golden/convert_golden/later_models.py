"""More small models, for what converters after b5490 read: generation_config.json, the post-processor, the normalizer.

`later_digests.json` holds, by converter and type, the digests of what these and those of models.py are made into;
`benchmarks/convert_peer.py CONVERTER --tag TAG --record` wrote it (transformers 4.57.6, torch 2.13.0, sentencepiece
0.2.3). b11312 is llama-cpp-python 0.3.36's, b9665 0.3.30's, b8643 0.3.20's, and b6133 0.3.16's, which is some builds
newer and equal to 0.3.15's, some builds older.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from convert_golden import models
from convert_golden.models import config, gemma3_files, gemma3_shapes, shapes_of, write
from convert_golden.vocabularies import LLAMA3, QWEN2, byte_level, split, spm_json, spm_model

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
_NAME = "tokenizer_config.json"


def template(single: str, pair: str) -> dict[str, Any]:
    """A post-processor from `<s> A` and `<s> A <s> B`."""

    def parts(text: str) -> list[dict[str, Any]]:
        kinds = dict.fromkeys("AB", "Sequence")
        return [{kinds.get(part, "SpecialToken"): {"id": part, "type_id": 0}} for part in text.split()]

    names = sorted({*single.split(), *pair.split()} - {"A", "B"})
    tokens = {name: {"id": name, "ids": [0], "tokens": [name]} for name in names}
    return {"type": "TemplateProcessing", "single": parts(single), "pair": parts(pair), "special_tokens": tokens}


def in_turn(*processors: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "processors": list(processors)}


def _qwen2(
    folder: Path, tokenizer: Mapping[str, Any], settings: Mapping[str, Any], files: Mapping[str, Any], **more: Any
) -> None:
    dtype = more.pop("dtype", "BF16")
    facts = config("Qwen2ForCausalLM", "qwen2", **more) | {"num_hidden_layers": 1}
    base = byte_level(split(QWEN2), models._QWEN_TOKENS, {"type": "NFC"}) | tokenizer
    kept = {key: value for key, value in ({**models._QWEN_CONFIG, **settings}).items() if value is not ...}
    write(folder, facts, dtype, {"tokenizer.json": base, _NAME: kept, **files}, shapes_of(facts, ("q", "k", "v")))


def sampled(folder: Path) -> None:
    """As Qwen 2.5 is released; without add_bos_token, so that the post-processor alone tells."""
    sampling = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, "do_sample": True}
    files = {"generation_config.json": sampling | {"min_p": 0, "max_new_tokens": None, "eos_token_id": [270, 271]}}
    _qwen2(folder, {"post_processor": BYTES}, {"add_bos_token": ...}, files)


def sampled_whole(folder: Path) -> None:
    """Every key that is read, the two spellings of one among them; F32 weights."""
    sampling = {"mirostat": 2, "mirostat_tau": 5, "mirostat_eta": 0.1, "sequence": "top_k;temperature"}
    sampling |= {"penalty_last_n": 64, "penalty_repeat": 1.1, "repetition_penalty": 1.2, "temperature": 1}
    sampling |= {"xtc_threshold": 0.1, "xtc_probability": 0.5, "min_p": 0.05, "top_p": 0.95, "top_k": 40}
    _qwen2(
        folder, {"post_processor": BYTES}, {"add_eos_token": True}, {"generation_config.json": sampling}, dtype="F32"
    )


def sampled_badly(folder: Path) -> None:
    """A generation_config.json that is no JSON; front matter with tabs."""
    card = "---\nlicense: mit\ntags:\n\t- one\n---\n"
    _qwen2(folder, {}, {}, {"generation_config.json": "{'temperature': 1}", "README.md": card})


def normalized(folder: Path) -> None:
    normalizers = [{"type": "NFC"}, {"type": "StripAccents"}, {"type": "Lowercase"}]
    _qwen2(folder, {"normalizer": {"type": "Sequence", "normalizers": normalizers}}, {}, {})


def normalized_as_bert(folder: Path) -> None:
    normalizer = {"type": "BertNormalizer", "lowercase": False, "strip_accents": None, "clean_text": True}
    _qwen2(folder, {"normalizer": normalizer | {"handle_chinese_chars": True}}, {}, {})


def bert_like(folder: Path) -> None:
    """A leading and a trailing token by a template, and a separator between two texts; named as BERT names them."""
    settings = {"bos_token": ..., "eos_token": ..., "cls_token": "<|endoftext|>", "sep_token": "<|im_end|>"}
    post = template("<|endoftext|> A <|im_end|>", "<|endoftext|> A <|im_end|> B <|im_end|>")
    _qwen2(folder, {"post_processor": post}, settings, {})


def roberta_like(folder: Path) -> None:
    post = {"type": "RobertaProcessing", "sep": ["<|im_end|>", 271], "cls": ["<|endoftext|>", 269]}
    post |= {"trim_offsets": True, "add_prefix_space": False}
    _qwen2(folder, {"post_processor": in_turn(BYTES, post)}, {"bos_token": "<|endoftext|>"}, {})


def ends_otherwise(folder: Path) -> None:
    """The template ends a text by another token than eos_token; a separator of two tokens between two texts."""
    post = template("<|im_start|> A <|endoftext|>", "<|im_start|> A <|endoftext|> <|im_end|> B <|endoftext|>")
    _qwen2(folder, {"post_processor": post}, {"add_eos_token": False}, {"chat_template.jinja": "unread"})


def separated(folder: Path) -> None:
    post = template("<|im_start|> A", "<|im_start|> A <|im_end|> B")
    settings = {"bos_token": "<|im_start|>", "chat_template": ...}
    more = {"chat_template.jinja": "{{ messages }}\r\nfrom a file"}
    _qwen2(folder, {"post_processor": post}, settings, more, tie_word_embeddings=True)


def begins_unknown(folder: Path) -> None:
    """A leading token that is neither BOS nor CLS, and a pair that does not begin so."""
    post = template("<|im_start|> A", "A B")
    settings = {"bos_token": "<|endoftext|>", "cls_token": "<|im_end|>", "add_bos_token": True}
    _qwen2(folder, {"post_processor": post}, settings, {})


def llama3(folder: Path) -> None:
    """As Llama 3 is released: bytes, then a template; both spellings of the rope in one file."""
    tokens = [("<|begin_of_text|>", True, False), ("<|end_of_text|>", True, False), ("<|eot_id|>", True, False)]
    post = template("<|begin_of_text|> A", "<|begin_of_text|> A <|begin_of_text|> B")
    tokenizer = byte_level(split(LLAMA3), tokens, ignore_merges=True) | {"post_processor": in_turn(BYTES, post)}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>"}
    settings |= {"eos_token": "<|eot_id|>", "add_prefix_space": False}
    scaling = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"original_max_position_embeddings": 8192}
    facts = config("LlamaForCausalLM", "llama", rope_theta=500000.0, rope_scaling=scaling, tie_word_embeddings=True)
    facts |= {"head_dim": 64, "max_position_embeddings": 131072, "num_hidden_layers": 1}
    sampling = {"temperature": 0.6, "top_p": 0.9, "do_sample": True, "bos_token_id": 268}
    files = {"tokenizer.json": tokenizer, _NAME: settings, "generation_config.json": sampling}
    write(folder, facts, "BF16", files, shapes_of(facts))


def llama_spm(folder: Path) -> None:
    """Both tokenizers: the template says what goes before a text and after it, against tokenizer_config.json."""
    facts = config("LlamaForCausalLM", "llama", bos_token_id=1) | {"num_hidden_layers": 1, "vocab_size": 276}
    tokenizer = spm_json() | {"post_processor": template("<s> A </s>", "<s> A </s> <s> B </s>")}
    settings = {**models._SPM_CONFIG, "add_prefix_space": None, "add_eos_token": False}
    files = {"tokenizer.model": spm_model(), "tokenizer.json": tokenizer, _NAME: settings}
    write(folder, facts, "F16", files, shapes_of(facts))


def llama_json(folder: Path) -> None:
    """tokenizer.json alone, of SentencePiece's kind; no name of an EOS, which config.json has as a number."""
    facts = config("LlamaForCausalLM", "llama", eos_token_id=2) | {"num_hidden_layers": 1, "vocab_size": 271}
    tokenizer = spm_json() | {"post_processor": template("<s> A", "<s> A <s> B")}
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "unk_token": "<unk>"}
    settings |= {"add_bos_token": False}
    write(folder, facts, "BF16", {"tokenizer.json": tokenizer, _NAME: settings}, shapes_of(facts))


def code_llama(folder: Path) -> None:
    """Known by its size, as Granite's next is: one has a token more, the other no BOS."""
    facts = config("LlamaForCausalLM", "llama") | {"num_hidden_layers": 1, "hidden_size": 16, "vocab_size": 32016}
    write(folder, facts, "BF16", {"tokenizer.model": spm_model(), _NAME: models._SPM_CONFIG}, shapes_of(facts))


def granite(folder: Path) -> None:
    facts = config("LlamaForCausalLM", "llama") | {"num_hidden_layers": 1, "hidden_size": 16, "vocab_size": 49152}
    tokens = [("<|endoftext|>", True, False)]
    tokenizer = byte_level(split(QWEN2), tokens) | {"post_processor": BYTES}
    settings = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>", "add_prefix_space": True}
    settings |= {"eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    write(folder, facts, "BF16", {"tokenizer.json": tokenizer, _NAME: settings}, shapes_of(facts))


def mistral_small(folder: Path) -> None:
    """tokenizer.model has more tokens than rows: those are left out."""
    facts = config("MistralForCausalLM", "mistral", head_dim=32, sliding_window=None, rope_theta=1e6)
    facts |= {"vocab_size": 266, "num_hidden_layers": 1}
    settings = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    write(folder, facts, "BF16", {"tokenizer.model": spm_model(), _NAME: settings}, shapes_of(facts))


def qwen3_yarn(folder: Path) -> None:
    """YaRN with all that may be said of it, in transformers 5's spelling."""
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "rope_theta": 1e6}
    rope |= {"attention_factor": 1.138629436111989, "beta_fast": 32.0, "beta_slow": 1.0}
    facts = config("Qwen3ForCausalLM", "qwen3", head_dim=32, rope_parameters=rope, max_position_embeddings=131072)
    tokenizer = byte_level(split(QWEN2), models._QWEN_TOKENS, {"type": "NFC"}) | {"post_processor": BYTES}
    files = {"tokenizer.json": tokenizer, _NAME: models._QWEN_CONFIG}
    write(folder, facts, "F16", files, shapes_of(facts, norms=True))


def qwen3_linear(folder: Path) -> None:
    """Linear scaling in the old spelling, two dtypes, of which the first matrix's is F32."""
    facts = config("Qwen3ForCausalLM", "qwen3", head_dim=32, rope_scaling={"type": "linear", "factor": 2.5})
    facts |= {"num_hidden_layers": 1}
    shapes = shapes_of(facts, norms=True)
    tokenizer = byte_level(split(QWEN2), models._QWEN_TOKENS, {"type": "NFC"}) | {"post_processor": BYTES}
    files = {"tokenizer.json": tokenizer, _NAME: models._QWEN_CONFIG}
    write(folder, facts, "F16", files, shapes)
    tensors = {name: models.weight(name, shape, "BF16" if ".mlp." in name else "F32") for name, shape in shapes.items()}
    models.save_safetensors(folder / "model.safetensors", tensors)


def reranker(folder: Path) -> None:
    """Whose answers are among the added tokens, with the embeddings as its output."""
    facts = config("Qwen3ForCausalLM", "qwen3", head_dim=32, rope_theta=1000000, tie_word_embeddings=True)
    _rerank(folder, facts)


def reranker_untied(folder: Path) -> None:
    """That is known by its page alone."""
    facts = config("Qwen3ForCausalLM", "qwen3", head_dim=32, rope_theta=1000000) | {"num_hidden_layers": 1}
    _rerank(folder, facts, {"README.md": "---\nlicense: apache-2.0\n---\n# Qwen3-Reranker-8B\n"})


def _rerank(folder: Path, facts: dict[str, Any], more: Mapping[str, Any] | None = None) -> None:
    tokens = [*models._QWEN_TOKENS, ("no", False, False), ("yes", False, False)]
    tokenizer = byte_level(split(QWEN2), tokens, {"type": "NFC"}) | {"post_processor": BYTES}
    files = {"tokenizer.json": tokenizer, _NAME: models._QWEN_CONFIG, **(more or {})}
    write(folder, facts, "BF16", files, shapes_of(facts, norms=True))


def qwen3moe(folder: Path) -> None:
    models.qwen3moe(folder, shards=2)
    sampling = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "transformers_version": "4.51.0"}
    (folder / "generation_config.json").write_text(json.dumps(sampling))
    facts = json.loads((folder / "config.json").read_text())
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    (folder / "config.json").write_text(json.dumps(facts | {"rope_scaling": yarn}))


def gemma3(folder: Path) -> None:
    """As Gemma 3 of 1B is released: the template's BOS, sampling, the base of the layers with a window."""
    more = {"head_dim": 32, "sliding_window": 512, "rope_theta": 1000000, "max_position_embeddings": 32768}
    more |= {"rope_local_base_freq": 10000, "sliding_window_pattern": 6, "attn_logit_softcapping": None}
    facts = config("Gemma3ForCausalLM", "gemma3_text", **more, eos_token_id=[1, 106], query_pre_attn_scalar=32)
    facts |= {"num_hidden_layers": 1}
    files = gemma3_files()
    files["tokenizer.json"] = files["tokenizer.json"] | {"post_processor": template("<bos> A", "<bos> A <bos> B")}
    files["generation_config.json"] = {"top_k": 64, "top_p": 0.95, "do_sample": True, "cache_implementation": "hybrid"}
    write(folder, facts, "BF16", files, gemma3_shapes(facts))


def gemma3_vision(folder: Path) -> None:
    """The newer layout of a model of text and images, whose ids stand in the text model's table."""
    text = config("", "gemma3_text", head_dim=16, sliding_window=1024, bos_token_id=2, eos_token_id=1, mask_token_id=4)
    text |= {"num_hidden_layers": 1, "vocab_size": 304, "hidden_size": 128}
    text.pop("architectures")
    facts = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text}
    shapes = gemma3_shapes(text, "language_model.")
    shapes |= {"vision_tower.vision_model.embeddings.patch_embedding.weight": (32, 3, 4, 4)}
    files = gemma3_files() | {"added_tokens.json": {"<image_soft_token>": 300}}
    files[_NAME] = {"tokenizer_class": "GemmaTokenizer", "unk_token": "<unk>"}
    write(folder, facts, "BF16", files, shapes)


PRE = {
    **dict.fromkeys(("Sampled-1.5B-Instruct", "sampled-whole", "sampled-badly", "normalized"), "qwen2"),
    **dict.fromkeys(("normalized-as-bert", "bert-like", "roberta-like", "ends-otherwise", "separated"), "qwen2"),
    **dict.fromkeys(("begins-unknown", "Qwen3-yarn", "Qwen3-linear", "Qwen3-sampled", "granite-tiny"), "qwen2"),
    **dict.fromkeys(("Qwen3-Reranker-0.6B", "ranks-untied"), "qwen2"),
    "Llama-3.2-1B-Instruct": "llama-bpe",
}
# Those whose tokenizer's pattern has no name of its own, so that it is given to both converters.
NAMED = dict.fromkeys(("normalized", "normalized-as-bert"), "qwen2")
TAGS = {
    "b6133": ("F16", "AUTO"),
    "b8643": ("F16", "AUTO"),
    "b9665": ("F16", "AUTO"),
    "b11312": (*models.TYPES, "AUTO"),
}
# Rope scaling that older converters leave out and quantmill writes, as it does for b5490.
MEANT = {"b6133": ("Qwen3-yarn", "Qwen3-linear")}
MODELS: dict[str, Callable[[Path], None]] = {
    "Sampled-1.5B-Instruct": sampled,
    "sampled-whole": sampled_whole,
    "sampled-badly": sampled_badly,
    "normalized": normalized,
    "normalized-as-bert": normalized_as_bert,
    "bert-like": bert_like,
    "roberta-like": roberta_like,
    "ends-otherwise": ends_otherwise,
    "separated": separated,
    "begins-unknown": begins_unknown,
    "Llama-3.2-1B-Instruct": llama3,
    "llama-both": llama_spm,
    "llama-json-template": llama_json,
    "CodeLlama-tiny": code_llama,
    "granite-tiny": granite,
    "mistral-small-vocabulary": mistral_small,
    "Qwen3-yarn": qwen3_yarn,
    "Qwen3-linear": qwen3_linear,
    "Qwen3-sampled": qwen3moe,
    "Qwen3-Reranker-0.6B": reranker,
    "ranks-untied": reranker_untied,
    "gemma-3-sampled": gemma3,
    "gemma-3-vision-newer": gemma3_vision,
}
