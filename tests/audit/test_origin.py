"""How a file would be made again: the overrides that are found give each tensor its type, whatever the span's rules."""

import pytest

from quantmill.admission.conformance import ALL, OPTIONS
from quantmill.audit.origin import Making, count, making
from quantmill.gguf import KV
from quantmill.gguf.layout import TensorEntry
from quantmill.quant.mix import Overrides, plan_types
from quantmill.quant.overrides import overrides_of
from quantmill.reference.ftypes import FTYPES
from quantmill.reference.hparams import Hparams
from quantmill.reference.spans import of_tag

TAGS = ("b5490", "b6133", "b7836", "b9102", "b11739")  # each reads patterns in another way, or mixes
ASKED = {
    "": Overrides(),
    "pure": Overrides(pure=True),
    **{name: overrides_of(OPTIONS[name]) for name in ("output and embedding", "patterns", "overlapping patterns")},
    "one layer": overrides_of({"tensor_types": [(r"blk\.0\.ffn_down", "Q8_0"), (r"blk\.1\.attn_v", "Q4_K")]}),
}


def made(model: str, tag: str, ftype: str, asked: Overrides, stated: bool = True) -> tuple[Making | None, int]:
    """What is found of the file that the tag's llama-quantize makes, and the tensors that it would make otherwise."""
    given, entries = ALL[model]
    facts = {key: value.value if isinstance(value, KV) else value for key, value in given.items()}
    tensors = [TensorEntry(*entry) for entry in entries]
    span = of_tag(tag)

    def types(name: str, imatrix: bool, overrides: Overrides) -> dict[str, object]:
        found = plan_types(span, span.ftype(name), Hparams.from_metadata(facts), tensors, imatrix, overrides)
        return dict(found.types)

    wanted = types(ftype, True, asked)
    file = [entry._replace(type=wanted[entry.name]) for entry in tensors]
    said = {"quantize.imatrix.file": "i"} | ({"general.file_type": FTYPES[ftype].id} if stated else {})
    found = making(facts | said, file, {entry.name: entry.type for entry in tensors})
    if found is None or span not in found.by_span:
        return found, len(tensors)
    again = types(found.ftype, found.imatrix, found.by_span[span])
    return found, sum(again[name] != type_ for name, type_ in wanted.items())


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("asked", ASKED)
def test_what_is_found_gives_the_same_types(asked: str, tag: str) -> None:
    if (asked, tag) == ("overlapping patterns", "b5490"):
        return  # which its tags read differently
    found, wrong = made("tiny", tag, "Q4_K_M", ASKED[asked])
    assert found is not None
    assert not wrong
    assert FTYPES[found.ftype].base == "Q4_K_M"
    if asked != "overlapping patterns":  # of which each tensor takes one
        assert count(found.by_span[of_tag(tag)]) <= count(ASKED[asked])


def test_a_file_that_says_nothing_is_made_too() -> None:
    for ftype in ("Q4_K_M", "IQ2_XS", "Q6_K_L"):
        found, wrong = made("tiny", "b11739", ftype, ASKED["one layer"], stated=False)
        assert found is not None
        assert not wrong
