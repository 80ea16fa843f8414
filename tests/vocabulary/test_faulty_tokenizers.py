"""Models whose tokenizer has one thing wrong: each is refused in one sentence, or becomes a file that generates."""

from pathlib import Path

import numpy as np
import pytest

from convert_golden import faulty_tokenizers
from quantmill.artifact import Context
from quantmill.checkpoint.conversion import convert
from quantmill.checkpoint.metadata import metadata
from quantmill.errors import QuantmillError
from quantmill.gguf import verify
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.runtime.loader import load
from quantmill.vocabulary import tokenizer

FAULTS = list(faulty_tokenizers.faults())


def generates(path: Path) -> bool:
    """Whether our own runtime reads a text by the file and says a next token."""
    ids = tokenizer.load(path).encode("ab the 12\n", parse_special=True)
    model = load(path, context=64, threads=1)
    return bool(np.isfinite(model.evaluate(np.array(ids, np.int32), 0)).all())


@pytest.mark.parametrize(("kind", "edit", "expected"), [(kind, edit, said) for kind, _, edit, said in FAULTS],
                         ids=[f"{kind}: {name}" for kind, name, _, _ in FAULTS])  # fmt: skip
def test_a_fault_is_said_or_builds(tmp_path: Path, kind: str, edit: faulty_tokenizers.Edit, expected: str) -> None:
    files = faulty_tokenizers.write(tmp_path / "model", kind, edit)
    if expected:
        small = {name: path for name, path in files.items() if not name.endswith(".safetensors")}
        with pytest.raises(QuantmillError) as error:  # before any weight is there
            metadata(small, name="model", reference=B4867)
        assert expected in str(error.value)
        assert "\n" not in str(error.value)
        return
    out = tmp_path / "out.gguf"
    convert(files, out, "F32", "model", None, Context(), reference=B4867)
    verify(out)
    assert generates(out)


@pytest.mark.parametrize("kind", ["bpe", "spm", "json"])
def test_the_sound_models_build_without_a_note(tmp_path: Path, kind: str) -> None:
    notes: list[str] = []
    files = faulty_tokenizers.write(tmp_path / "model", kind, lambda files, config: None)
    convert(files, tmp_path / "out.gguf", "F32", "model", None, Context(), notes=notes)
    assert notes == []
    assert generates(tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("spm: an added token beyond vocab_size", "the added token '<far>' has the id 5000, beyond config.json's "
         "`vocab_size` of 288: left out"),
        ("spm: an added token in a byte's place", "the token 20 is '<0x0F>' in tokenizer.model and '<mine>' beside it"),
        ("bpe: pad beyond the vocabulary", "config.json gives the pad token the id 32000, and the vocabulary has 288 "
         "tokens: it is left out"),
        ("bpe: no eos at all", "no file gives the eos token one id, in whose place llama.cpp takes a token of its own "
         "choice"),
        ("bpe: templates without a default", "none of its named chat templates is the default, without which llama.cpp "
         "takes ChatML's"),
        (
            "bpe: a token in an older file alone",
            "added_tokens.json has '<old>', which tokenizer.json lacks: it is left out",
        ),
        ("bpe: a token without text", "the token 272 has no text"),
    ],
)  # fmt: skip
def test_what_is_left_out_is_said(tmp_path: Path, name: str, note: str) -> None:
    edit = next(edit for kind, fault, edit, _ in FAULTS if f"{kind}: {fault}" == name)
    notes: list[str] = []
    files = faulty_tokenizers.write(tmp_path / "model", name.partition(":")[0], edit)
    metadata(files, name="model", notes=notes, reference=B4867)
    assert note in notes
