"""What convert_hf_to_gguf.py of a span of tags writes, as one frozen record of plain data."""

import re
from dataclasses import dataclass
from typing import Literal

from quantmill.gguf.types import ValueType

AUTO = "AUTO"  # a file's type that its checkpoint decides


@dataclass(frozen=True, repr=False, eq=False)
class TokenRules:
    """What the converter says of a vocabulary's special tokens, spaces and chat template.

    `is_processed`: the post-processor of tokenizer.json says whether BOS, EOS and SEP are added.
    `is_stated_first`: tokenizer_config.json's `add_bos_token` and so on win over the post-processor.
    `bytes_add_none`: a post-processor of bytes says that neither BOS nor EOS is added.
    `leading_is_bos`: the token that the post-processor begins with is BOS, and CLS, where no file names one.
    `normalizer`: the facts of tokenizer.json's normalizer that have a key.
    `is_prefix_first`: whether a space goes before a text stands before a llama's vocabulary, not after it.
    `is_bos_replaced`: that no BOS is added to Granite's vocabulary, which is known by its size, stands above all files.
    `has_text_ids`: ids that config.json lacks are taken from the text model's table in it.
    `takes_surplus`: tokens of tokenizer.model beyond `vocab_size` are left out, and no fault.
    `is_jinja_first`: chat_template.jinja wins over tokenizer_config.json's template.
    """

    is_processed: bool
    is_stated_first: bool
    bytes_add_none: bool
    leading_is_bos: bool
    normalizer: tuple[str, ...]
    is_prefix_first: bool
    is_bos_replaced: bool
    has_text_ids: bool
    takes_surplus: bool
    is_jinja_first: bool


@dataclass(frozen=True, repr=False, eq=False)
class Converter:
    """What convert_hf_to_gguf.py writes.

    `tag`: whose converter this is.
    `shown`: the first and the last build of whose sources it is known that they write the same.
    `out_type`: the type of a file's matrices where none is asked for; AUTO is as `auto` says.
    `auto`: what AUTO is: F16 if the first tensor is, else BF16; or the first matrix's of 16 bits, else F16.
    `parts`: of the metadata, in their order: `general`, `model` and `vocabulary`.
    `general`: the keys that say who made the model out of what, in their order, without the `general.` in front.
    `sampling`: key behind `general.sampling.` → its type, and generation_config.json's keys, the first that is there
    winning; in the order of the file.
    `shape`: the keys of a model's shape that the base class writes, in their order, without the architecture in front;
    those of the model's own class come behind them.
    `last`: those that come behind the class's own.
    `model`: architecture → all of them in their order, where that is another.
    `reranks`: a Qwen 3 that calls itself a reranker becomes one.
    `vocabularies`: those that it knows: SHA-256 of a sample's ids → the pre-tokenizer's name; of others, and of all
    where it is empty, the name is that of their pattern.
    `tokens`: of the vocabulary.
    """

    tag: str
    shown: tuple[int, int]
    out_type: str
    auto: Literal["first tensor", "first matrix of 16 bits"]
    parts: tuple[str, ...]
    general: tuple[str, ...]
    sampling: dict[str, tuple[ValueType, tuple[str, ...]]]
    shape: tuple[str, ...]
    last: tuple[str, ...]
    model: dict[str, tuple[str, ...]]
    reranks: bool
    vocabularies: dict[str, str]
    tokens: TokenRules

    def stands_in(self, tag: str) -> bool:
        """Whether no source shows that the converter of this tag writes the same."""
        first, last = self.shown
        return re.fullmatch(r"b\d+", tag) is None or not first <= int(tag[1:]) <= last
