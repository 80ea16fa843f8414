"""Checkpoints with one thing wrong, drawn by chance: one sentence and no file, or the file that llama.cpp loads."""

import hashlib
import json
from pathlib import Path

import pytest

from convert_golden import mutants
from convert_golden.classes.registry import CHECKPOINTS
from quantmill.errors import QuantmillError

RECORDED = json.loads(mutants.RECORD.read_text())


@pytest.mark.parametrize("name", RECORDED)
def test_a_mutant_is_refused_or_a_file_that_loads(tmp_path: Path, name: str) -> None:
    made, said = {}, {}
    for number, mutant in enumerate(mutants.mutants(CHECKPOINTS[name])):
        place = tmp_path / str(number)
        try:
            path = mutants.built(CHECKPOINTS[name], mutant, place)
            made[mutant.name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        except QuantmillError as error:
            said[mutant.name] = [str(error), *(path.name for path in place.iterdir())]
    assert {mutant: lines for mutant, (text, *lines) in said.items() if "\n" in text or lines != ["base"]} == {}
    assert made == RECORDED[name]
    assert "as it is" in made


def test_there_are_fifty_of_each_checkpoint() -> None:
    """One of the registry's is refused in whatever state: its tokens are in Python code of its own."""
    assert CHECKPOINTS.keys() - RECORDED.keys() == {"HunYuanMoEV1ForCausalLM"}
    for name in RECORDED:
        found = [mutant.name for mutant in mutants.mutants(CHECKPOINTS[name])]
        assert len(set(found)) == len(found) > 50
