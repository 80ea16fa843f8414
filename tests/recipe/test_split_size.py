"""The size that shards were cut by, found from their tensors."""

import pytest

from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.shards import plan_shards
from quantmill.gguf.types import TYPES
from quantmill.recipe.split_size import split_size
from quantmill.units import parse_size

TENSORS = [TensorEntry(f"blk.{n}.w", (1000, 100 + 37 * (n % 5)), TYPES["F32"]) for n in range(40)]
LARGE = [TensorEntry("a", (1000, 10), TYPES["F32"]), *(TensorEntry(f"b{n}", (1000, 9000), TYPES["F32"]) for n in "12")]


def counts(tensors: list[TensorEntry], limit: int) -> list[int]:
    return [len(shard.tensors) for shard in plan_shards((), tensors, max_size=limit)]


@pytest.mark.parametrize("limit", [1_000_000, 3_000_000, 3_456_789, 7_000_000, 20_000_000])
@pytest.mark.parametrize("tensors", [TENSORS, LARGE])
def test_the_size_found_cuts_alike(tensors: list[TensorEntry], limit: int) -> None:
    cut = counts(tensors, limit)
    found = split_size([(tensors, cut)])
    assert found is not None
    assert counts(tensors, parse_size(found)) == cut


def test_round_sizes_are_found_and_whole_files_count() -> None:
    assert split_size([(TENSORS, [40])]) == "50GB"
    assert split_size([(TENSORS, counts(TENSORS, 3_000_000)), (TENSORS[:3], [3])]) == "3MB"
    assert split_size([(TENSORS, counts(TENSORS, 3_000_000)), (TENSORS, [40])]) is None
    assert split_size([(TENSORS, [1, 38, 1])]) is None  # by numbers of tensors
    whole = [TensorEntry("w", (1_000_000, 20_000), TYPES["F32"])]
    assert split_size([(whole, [1])]) == "80GB"
