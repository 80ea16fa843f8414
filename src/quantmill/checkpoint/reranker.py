"""A Qwen 3 that ranks documents by what it would answer, `yes` or `no`: later converters make a classifier of it.

Its two classes are those tokens' rows of the output matrix, which is left out where it is not the embeddings' too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from quantmill.architectures.checkpoint_tensors import TensorSpec
from quantmill.architectures.configuration import hparams
from quantmill.architectures.errors import TokenizerError
from quantmill.architectures.json_file import load_json
from quantmill.architectures.known import architecture
from quantmill.gguf import KV, kv
from quantmill.reference.reference import Reference
from quantmill.vocabulary.hf_tokenizer import HFTokenizer

TENSOR = "cls.output.weight"
_LABELS = ("yes", "no")
_RANK = 4  # llama.cpp's kind of pooling
_NAMES = ("qwen3-reranker", "qwen3-vl-reranker")
_TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a web '
    "search query, retrieve relevant passages that answer the query\n<Query>: {query}\n<Document>: {document}"
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)


def reranks(files: Mapping[str, Path], config: Mapping[str, Any], name: str | None, reference: Reference) -> bool:
    """Whether the reference's converter takes the model for a reranker: by its name, or the heading of its page."""
    if architecture(config).name != "qwen3" or not reference.converter.reranks:
        return False
    page = files["README.md"].read_text("utf-8", "replace").lower() if "README.md" in files else ""
    named = f"{name} {config.get('_name_or_path')}".lower()
    return any(f"# {kind}" in page or kind in named for kind in _NAMES)


def classified(specs: list[TensorSpec], files: Mapping[str, Path], config: Mapping[str, Any]) -> Iterator[TensorSpec]:
    """The tensors of the classifier that is made of a model with those tensors."""
    is_tied = bool(hparams(config)["tie_word_embeddings"])
    for spec in specs:
        if spec.name == ("token_embd.weight" if is_tied else "output.weight"):
            shape, rows = (spec.shape[0], len(_LABELS)), tuple(_rows(files))
            yield replace(spec, name=TENSOR, shape=shape, cut=(0, spec.shape[1]), picked=rows)
        if is_tied or spec.name != "output.weight":
            yield spec


def _rows(files: Mapping[str, Path]) -> Iterator[int]:
    data = load_json(files, "tokenizer.json", TokenizerError) or {}
    settings = load_json(files, "tokenizer_config.json", TokenizerError) or {}
    tokenizer = HFTokenizer(data, settings, "qwen3")
    ids = tokenizer.vocab | {token.content: id_ for id_, token in tokenizer.added.items()}
    for label in _LABELS:
        if label not in ids:
            raise TokenizerError(f"tokenizer.json has no token {label!r}, by which a reranker answers")
        yield ids[label]


def entries(name: str) -> Iterator[KV]:
    """What a classifier's file says more than a model's, of the architecture `name`."""
    yield kv(f"{name}.pooling_type", _RANK)
    yield kv(f"{name}.classifier.output_labels", list(_LABELS))
    yield kv("tokenizer.chat_template.rerank", _TEMPLATE)
    yield kv("tokenizer.chat_templates", ["rerank"])
