"""A model in Hugging Face layout → one GGUF file, as llama.cpp's convert_hf_to_gguf.py writes it.

The file is byte for byte that of the reference's converter (b5490's with transformers 4.51 to 4.52, later ones' with
4.57), but for what is meant to differ:
- The model's name is a parameter; there, the folder's name has its place.
- The pre-tokenizer's name comes from the tokenizer's pattern; there, from a table of hashes of known vocabularies.
- A chat template in chat_template.jinja, and the newer spellings of config.json, both of newer transformers, are read.
- Linear and YaRN rope scaling are written for every architecture and spelling, llama3's original context is read.
- What config.json says and no GGUF file of the architecture holds is an error.
- Of Hunyuan's ends of a text, config.json's `eod_token_id` is not read: transformers 4.57 drops it.
- An id of a special token that no token has is left out, and tokens that a tokenizer.json lacks are filled up.
- A Gemma 3 without tokenizer.model, of which later converters make other files, is refused.
- Several named chat templates are listed in their own order; there, in an order that changes from run to run.
- llama3's rope factors are correctly rounded; PyTorch's power may differ in the last bit (not for base 500000).
- A recurrence's decays, -exp of what a checkpoint has, are correctly rounded; PyTorch's may differ in the last bit.
- Tensors that are missing, unexpected or of another shape than config.json says are errors.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from quantmill.architectures.checkpoint_tensors import tensors
from quantmill.architectures.json_file import load_config
from quantmill.architectures.loading import check_convertible
from quantmill.artifact import Context
from quantmill.checkpoint.auto_type import in_order, of_weights
from quantmill.checkpoint.contents import check_sources
from quantmill.checkpoint.metadata import metadata
from quantmill.checkpoint.reranker import TENSOR, classified, reranks
from quantmill.checkpoint.safetensors import open_weights
from quantmill.checkpoint.weights import check, chunks
from quantmill.errors import UsageError
from quantmill.gguf import Writer
from quantmill.gguf.scales import first_broken
from quantmill.reference.converter import AUTO
from quantmill.reference.reference import Reference
from quantmill.reference.spans import newest

TYPES = ("BF16", "F16", "F32")


class Converted(NamedTuple):
    """A file that was written: its bytes, and the tensors with weights that are infinite, or that F16 does not hold."""

    size: int
    infinite: tuple[str, ...]


def convert(
    files: Mapping[str, Path],
    path: Path,
    type_: str,
    name: str | None,
    pre_tokenizer: str | None,
    context: Context,
    place: str = "model.gguf",
    reference: Reference | None = None,
    notes: list[str] | None = None,
    source: str = "the checkpoint",
) -> Converted:
    """Write the GGUF file `path`, which errors call `place`, of a model's `files` by name, as the reference's
    converter does; `notes` is given a sentence for whatever is left out, `source` names the model.

    Raises a ModelError, WeightsError or GGUFError with one sentence, UsageError for a type that is neither one of TYPES
    nor AUTO, which the reference's converter chooses.
    """
    if type_ not in (*TYPES, AUTO):
        raise UsageError(f"convert cannot write the type {type_!r}; {', '.join(TYPES)} are possible")
    config = load_config(files)
    tensors(config)  # a config that cannot be converted is said before any weight is opened
    with open_weights(files) as weights:
        order = in_order(weights)
        check_sources(source, order, config)
        if type_ == AUTO:
            type_ = of_weights(reference or newest(), config, weights)
        specs = tensors(config, order)
        if reranks(files, config, name, reference or newest()):
            specs = list(classified(specs, files, config))
        for spec in specs:
            check(spec, config, weights)
        entries = metadata(
            files,
            type=type_,
            name=name,
            pre_tokenizer=pre_tokenizer,
            specs=specs,
            reference=reference,
            notes=notes,
        )
        described = [spec.entry(type_) for spec in specs]
        check_convertible(entries, [entry for entry in described if entry.name != TENSOR])
        with Writer(path, entries, described, place=place) as writer:
            infinite: dict[str, None] = {}
            for spec in specs:
                stored = spec.type(type_)
                for chunk in chunks(spec, config, weights, stored.name):
                    if stored.name == "F16" and first_broken(stored, chunk):
                        infinite[spec.name] = None
                    writer.append(chunk.data)
                    context.progress(writer.written, writer.size)
        return Converted(writer.size, tuple(infinite))
