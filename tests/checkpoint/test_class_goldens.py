"""Classes of models in Hugging Face layout: whole files against llama.cpp's converter, or the sentence of refusal."""

import hashlib
import json
from pathlib import Path

import pytest

from convert_golden import models
from convert_golden.classes.registry import CHECKPOINTS, TAG, TYPES
from quantmill.architectures.json_file import model_files
from quantmill.artifact import Context
from quantmill.checkpoint.conversion import convert
from quantmill.errors import QuantmillError
from quantmill.reference.spans import of_tag

RECORDED = json.loads((Path(models.__file__).parent / "class_digests.json").read_text())
DIGESTS = RECORDED[TAG]
OLDER = [(tag, name) for tag, digests in RECORDED.items() if tag != TAG for name in digests]
REFUSED = (
    "config.json: the architecture '{class_}' cannot be converted; ",
    "config.json: the weights are quantized already ({method}, `quantization_config`), which cannot be converted; ",
)


def converted(name: str, folder: Path, out: Path, type_: str = "BF16", tag: str = TAG) -> str:
    """The file's digest, else the sentence of what refused it."""
    pre = CHECKPOINTS[name].pre
    try:
        files, named = model_files(folder), None if pre == "-" else pre
        convert(files, out, type_, name, named, Context(), reference=of_tag(tag))
    except QuantmillError as error:
        return str(error)
    return hashlib.sha256(out.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_file_is_the_converters_or_the_class_is_refused(tmp_path: Path, name: str) -> None:
    """A refusal is before the weights, so that it stands where they are none."""
    checkpoint, folder, out = CHECKPOINTS[name], tmp_path / name, tmp_path / "model.gguf"
    checkpoint.write(folder)
    if len(found := converted(name, folder, out)) == 64:
        assert {"BF16": found} | {type_: converted(name, folder, out, type_) for type_ in TYPES[1:]} == DIGESTS[name]
        return
    method = checkpoint.config.get("quantization_config", {}).get("quant_method")
    assert found.startswith(tuple(text.format(class_=checkpoint.class_, method=method) for text in REFUSED))
    (folder / "model.safetensors").write_bytes(b"no weights")
    assert converted(name, folder, out) == found
    assert not out.exists()


@pytest.mark.parametrize(("tag", "name"), OLDER)
def test_the_file_is_an_older_converters(tmp_path: Path, tag: str, name: str) -> None:
    CHECKPOINTS[name].write(tmp_path / name)
    found = {type_: converted(name, tmp_path / name, tmp_path / "model.gguf", type_, tag) for type_ in TYPES}
    assert found == RECORDED[tag][name]


def test_every_class_has_its_digests() -> None:
    assert set(DIGESTS) == set(CHECKPOINTS)
    assert all(set(types) == set(TYPES) for types in DIGESTS.values())
