"""The vocabularies that llama.cpp tests itself with: the ids of their texts, by digests of what it expects (b11312).

The files are large: QUANTMILL_GGML_VOCABS names llama.cpp's folder `models`, and without it these tests are skipped.
"""

import hashlib
import json
import os
from pathlib import Path

import pytest

from quantmill.vocabulary.tokenizer import load

NAMED = "QUANTMILL_GGML_VOCABS"
EXPECTED = json.loads((Path(__file__).parents[1] / "golden" / "ggml_vocabularies.json").read_text())

pytestmark = pytest.mark.skipif(NAMED not in os.environ, reason=f"needs {NAMED}")


@pytest.mark.parametrize("name", EXPECTED)
def test_ids_are_those_that_llama_cpp_expects(name: str) -> None:
    path = Path(os.environ[NAMED]) / name
    texts = Path(f"{path}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    tokenizer = load(path)
    found = [[int(id_) for id_ in tokenizer.encode(text)] for text in texts]
    nothing = [int(id_) for id_ in tokenizer.encode("")]  # what begins every text, which llama.cpp's files leave out
    ids = [each[len(nothing) :] for each in found]
    assert hashlib.sha256(json.dumps(ids, separators=(",", ":")).encode()).hexdigest() == EXPECTED[name]
