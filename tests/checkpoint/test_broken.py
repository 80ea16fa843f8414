"""A checkpoint with one thing wrong is refused before it is converted, or makes a file that loads and generates."""

from pathlib import Path

import numpy as np
import pytest

from convert_golden import broken
from quantmill.architectures.loading import check_loadable
from quantmill.engine.model import open_model
from quantmill.gguf import read, verify
from quantmill.runtime.generator import generate
from quantmill.runtime.layer_plan import CannotRun
from quantmill.runtime.loader import load
from quantmill.runtime.sampler import Sampling
from quantmill.vocabulary.tokenizer import load as tokenizer_of


def test_there_are_fifty_of_each_architecture() -> None:
    assert len(broken.CHANGES) > 50
    assert {class_ for class_, _ in broken.cases()} == broken.CLASSES.keys()


@pytest.mark.parametrize(("class_", "name"), list(broken.cases()), ids=str)
def test_it_is_refused_or_it_works(tmp_path: Path, class_: str, name: str) -> None:
    broken.write(tmp_path / "base", class_, broken.CHANGES[name])
    said = broken.refused(tmp_path)
    if said is not None:
        assert name != "as it is", said
        assert "Traceback" not in said
        return
    file = broken.built(tmp_path)
    with read(file) as opened:
        check_loadable("m", opened.metadata, opened.tensor_entries())
    verify(file)
    tokenizer = tokenizer_of(file)
    try:
        model = load(file, context=64)
    except CannotRun:  # the exact engine does
        open_model(file).close()
        return
    prompt = tokenizer.encode("hello world")
    assert np.isfinite(model.evaluate(np.array(prompt, np.int32), 0)).all()
    assert len(list(generate(load(file, context=64), prompt, 3, Sampling(0.0, 40, 0.95, 0)))) <= 4
