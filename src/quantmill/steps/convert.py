"""convert: a model in Hugging Face layout → one GGUF file, as llama.cpp's convert_hf_to_gguf.py writes it.

Inputs are the model's files by name. Params: `type` (BF16, F16 or F32), `name` (the model's), and `pre_tokenizer`, only
for a tokenizer whose own pattern has no known name. Output: model.gguf.

The file is the converter's (b5490, transformers 4.51 to 4.52) byte for byte, but for what is meant to differ:
- The model's name is a parameter; there, the folder's name has its place.
- The pre-tokenizer's name comes from the tokenizer's pattern; there, from a table of hashes of known vocabularies.
- A chat template in chat_template.jinja, and `rope_parameters` in config.json, both of newer transformers, are read.
- Several named chat templates are listed in their own order; there, in an order that changes from run to run.
- llama3's rope factors are correctly rounded; PyTorch's power may differ in the last bit (not for base 500000).
- Tensors that are missing, unexpected or of another shape than config.json says are errors.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, Context
from quantmill.errors import UsageError, nearest
from quantmill.reference.reference import Reference
from quantmill.reference.spans import NEWEST, of_generation

TYPES = ("BF16", "F16", "F32")
_PARAMS = ("type", "name", "pre_tokenizer")


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Writes `out`/model.gguf. Raises a ModelError, BadSafetensors or GGUFError with one sentence."""
    for key in params:
        if key not in _PARAMS:
            raise UsageError(f"convert has no parameter {key!r}{nearest(key, _PARAMS)}; it has {', '.join(_PARAMS)}")
    type_ = params.get("type", "BF16")
    if type_ not in TYPES:
        raise UsageError(f"convert cannot write the type {type_!r}; {', '.join(TYPES)} are possible")
    files = {name: artifact.path for name, artifact in inputs.items()}
    reference = of_generation(params.get("generation"))
    name, pre_tokenizer = params.get("name"), params.get("pre_tokenizer")
    convert(files, out / "model.gguf", type_, name, pre_tokenizer, context, reference=reference)


def convert(
    files: Mapping[str, Path],
    path: Path,
    type_: str,
    name: str | None,
    pre_tokenizer: str | None,
    context: Context,
    place: str = "model.gguf",
    reference: Reference = NEWEST,
) -> None:
    """The step without its artifacts: `files` are the model's by name, `path` is the GGUF file to write, which errors
    call `place`."""
    from quantmill.architectures.checkpoint_tensors import tensors
    from quantmill.architectures.json_file import load_config
    from quantmill.checkpoint.metadata import metadata
    from quantmill.checkpoint.safetensors import open_weights
    from quantmill.checkpoint.weights import check, chunks
    from quantmill.gguf import Writer

    config = load_config(files)
    tensors(config)  # a config that cannot be converted is said before any weight is opened
    with open_weights(files) as weights:
        order = sorted(weights, key=lambda source: (weights[source].file, source))
        specs = tensors(config, order)
        for spec in specs:
            check(spec, weights)
        entries = metadata(files, type=type_, name=name, pre_tokenizer=pre_tokenizer, specs=specs, reference=reference)
        described = [(spec.name, spec.shape, spec.type(type_)) for spec in specs]
        with Writer(path, entries, described, place=place) as writer:
            for spec in specs:
                for chunk in chunks(spec, config, weights, spec.type(type_).name):
                    writer.append(chunk.data)
                    context.progress(writer.written, writer.size)
