"""A span that differs from its neighbour in one rule and one header key is a few lines, and acts on these two alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from peer_quant.synthetic import IMATRIX, MODELS, write_base, write_imatrix
from quantmill import gguf
from quantmill.errors import UsageError
from quantmill.gguf.types import ValueType
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.reference.mix_rules import CONDITIONS, choices
from quantmill.reference.spans import of_generation, offered

TOY = replace(
    B4867,
    first=5491,
    last=5500,
    generation=1000,
    mix=B4867.mix | {("attn_k", "Q4_K_M"): "Q6_K"},
    header=replace(B4867.header, keys=B4867.header.keys | {"toy.version": (ValueType.UINT32, 7)}),
)


def test_a_toy_span_differs_in_its_rule_and_its_key(tmp_path: Path) -> None:
    base, guide = tmp_path / "base.gguf", tmp_path / IMATRIX
    write_base(base, MODELS["dense"], "F16")
    write_imatrix(guide, MODELS["dense"])
    for name, reference in (("neighbour", B4867), ("toy", TOY)):
        quantize_file(base, tmp_path / name, "Q4_K_M", imatrix=guide, imatrix_name="i", reference=reference)
    with gguf.read(tmp_path / "neighbour") as neighbour, gguf.read(tmp_path / "toy") as toy:
        keys = {key: entry.encode() for key, entry in neighbour.metadata.items()}
        found = {key: entry.encode() for key, entry in toy.metadata.items()}
        added = found.pop("toy.version")
        assert added == gguf.kv("toy.version", 7).encode()
        assert list(found.items()) == list(keys.items())
        assert list(neighbour.tensors) == list(toy.tensors)
        for name, info in toy.tensors.items():
            other = neighbour.tensors[name]
            if "attn_k.weight" in name:
                assert (other.type.name, info.type.name) == ("Q4_K", "Q6_K")
            else:
                assert other.type == info.type
                assert neighbour.data(other).tobytes() == toy.data(info).tobytes()
        assert any("attn_k.weight" in name for name in toy.tensors)


@pytest.mark.parametrize("reference", [*offered(), TOY], ids=lambda reference: str(reference.generation))
def test_every_rule_of_a_mix_reads(reference: object) -> None:
    assert isinstance(reference, type(TOY))
    roles = {"token_embd", "output", *reference.roles.values()}
    for (role, ftype), rule in reference.mix.items():
        assert role in roles | {"*"}
        assert ftype == "*" or ftype in reference.ftypes
        assert {name for conditions, _ in choices(rule) for name, _ in conditions} <= CONDITIONS.keys()


def test_generations_are_never_used_twice() -> None:
    numbers = [reference.generation for reference in offered()]
    assert len(set(numbers)) == len(numbers)
    assert all(of_generation(reference.generation) is reference for reference in offered())
    with pytest.raises(UsageError, match=r"^there is no generation 3; known are 1, 5590, .*, 11227$"):
        of_generation(3)
