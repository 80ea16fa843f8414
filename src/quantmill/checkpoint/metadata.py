"""All metadata of a converted model, in the converter's order, from its small files alone."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from quantmill.architectures.architecture import MetadataKey
from quantmill.architectures.checkpoint_tensors import TensorSpec, tensors
from quantmill.architectures.configuration import hparams
from quantmill.architectures.errors import ModelError, TokenizerError
from quantmill.architectures.json_file import load_config
from quantmill.architectures.known import architecture
from quantmill.architectures.metadata_keys import facts
from quantmill.checkpoint import readme, reranker
from quantmill.checkpoint.general_keys import general
from quantmill.gguf import KV
from quantmill.gguf.token_facts import TokenFacts
from quantmill.reference.reference import Reference
from quantmill.reference.spans import newest
from quantmill.vocabulary.entries import vocabulary


def metadata(
    files: Mapping[str, Path],
    *,
    type: str = "BF16",
    name: str | None = None,
    pre_tokenizer: str | None = None,
    specs: list[TensorSpec] | None = None,
    reference: Reference | None = None,
    notes: list[str] | None = None,
) -> list[KV]:
    """Exactly the entries that the convert step writes; reads config.json, the tokenizer's files and README.md only.

    `files` are the model's by name; `type` is F32, F16 or BF16. `name` is what llama.cpp's converter takes from the
    model's folder, so that a folder's name decides nothing here. `specs` are the tensors when they are known to differ
    from `tensors(config)`; `notes` is given a sentence for whatever is left out or odd. Raises a ModelError with
    one sentence, also for what llama.cpp would not load, or UsageError when nothing names the model.
    """
    reference, notes = reference or newest(), [] if notes is None else notes
    if pre_tokenizer is not None:
        reference.check_pre_tokenizer(pre_tokenizer)
    config = load_config(files)
    row = architecture(config)
    specs = specs or tensors(config)
    card = readme.load(files["README.md"]) if "README.md" in files else {}
    more = list(reranker.entries(row.name)) if any(spec.name == reranker.TENSOR for spec in specs) else []
    if not more and reranker.reranks(files, config, name, reference):
        raise ModelError(
            f"the model is a reranker by its name or its README.md, of which llama.cpp {reference} makes a classifier; "
            "take the file that quantmill convert makes of it as the base (`gguf`)"
        )
    parts: dict[str, Callable[[], Iterable[KV]]] = {
        "general": lambda: general(reference, card, config, name, specs, row.name, files),
        "model": lambda: _shape(list(facts(config, type, reference)), more),
        "vocabulary": lambda: vocabulary(files, config, pre_tokenizer, notes, reference),
    }
    entries = [entry for part in reference.converter.parts for entry in parts[part]()]
    first = {f"{row.name}.{key.key}" for key in row.keys if isinstance(key, MetadataKey) and key.first}
    entries[1:] = sorted(entries[1:], key=lambda entry: entry.key not in first)
    tokens = TokenFacts({entry.key: entry for entry in entries}, hparams(config)["vocab_size"])
    if (problem := next(tokens.refused(), None)) is not None:
        raise TokenizerError(
            f"the converted file would not load in llama.cpp: {problem}; correct it in the model's folder"
        )
    notes += tokens.doubted()
    return entries


def _shape(entries: list[KV], more: list[KV]) -> list[KV]:
    """The shape's entries with more of them, behind which only the version stands."""
    at = len(entries) - (entries[-1].key == "general.quantization_version")
    return [*entries[:at], *more, *entries[at:]]
