"""A tag is admitted where every file is the same; where a rule, a key or a block differs, the sentence says which."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from quantmill import gguf
from quantmill.admission.admit import NotAdmitted, admit
from quantmill.admission.conformance import (
    ALL,
    CORE,
    IMATRIX_NAME,
    OPTIONS,
    SHAPES,
    SUITE,
    Call,
    calls,
    digest,
    write,
)
from quantmill.admission.library import Library, find
from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf.types import ValueType
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.reference import Reference
from quantmill.reference.spans import candidates, of_tag

NEWEST = of_tag("v0.5.0")
ASKED = [
    Call("width-336", "Q4_K_M", guided=True),
    Call("gemma3n", "Q5_0", guided=False, options="embeddings by pattern"),
    Call("width-336", "IQ3_XXS", guided=False),
    Call("falcon", "Q4_K_M", guided=True),
]


class Written:
    """What a llama.cpp of these rules would write, with one thing changed in the end."""

    aborted = False

    def __init__(self, reference: Reference, change: Callable[[bytearray], None] = lambda data: None) -> None:
        self.path, self._reference, self._change = Path(__file__), reference, change

    def answer(self, call: Call, base: Path, out: Path) -> bool:
        guide = base.with_suffix(".imatrix") if call.guided else None
        options = {"imatrix": guide, "imatrix_name": IMATRIX_NAME, **OPTIONS[call.options]}
        try:
            quantize_file(base, out, call.ftype, reference=self._reference, **options)
        except QuantmillError:
            out.unlink(missing_ok=True)
            return False
        data = bytearray(out.read_bytes())
        self._change(data)
        out.write_bytes(data)
        return True


def few(ftypes: list[str]) -> Iterable[Call]:
    assert {call.ftype for call in ASKED} <= set(ftypes)
    return ASKED


def test_the_rules_that_hold_are_found() -> None:
    found, unknown, _ = admit("b10300", Written(of_tag("b10300")), candidates("b11739"), asked=few)
    assert unknown == ()
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert (found.tag, found.span, found.oracle, found.files, found.refused) == ("b10300", 10236, own, 2, 2)
    assert found.questions == digest(ASKED)
    assert admit("b12000", Written(NEWEST), candidates("b12000"), asked=few).admission.span == NEWEST.first


def test_a_rule_that_changed_is_named() -> None:
    changed = replace(NEWEST, mix=NEWEST.mix | {("ffn_down", "Q4_K_M"): "Q5_K"})
    with pytest.raises(NotAdmitted) as error:
        admit("b12000", Written(changed), [NEWEST], asked=few)
    first, _, what = str(error.value).partition("; ")
    assert first == (
        "b12000 is not admitted: under the rules of b11227 to b11739, v0.5.0, the nearest, 1 of 4 files differ"
    )
    assert what == (
        "the first is falcon, Q4_K_M, with an imatrix: tensor blk.0.ffn_down.weight: Q5_K and Q6_K; "
        "tensor blk.1.ffn_down.weight: Q5_K and Q6_K; tensor blk.4.ffn_down.weight: Q5_K and Q4_K; and 15 more"
    )


def test_a_key_that_changed_is_named() -> None:
    header = replace(NEWEST.header, keys=NEWEST.header.keys | {"general.quantization_version": (ValueType.UINT32, 3)})
    with pytest.raises(NotAdmitted, match=r"4 of 4 files differ.*metadata general\.quantization_version: 3 and 2$"):
        admit("b12000", Written(replace(NEWEST, header=header)), [NEWEST], asked=few)


def test_a_block_that_changed_is_named() -> None:
    def flip(data: bytearray) -> None:
        data[-8] ^= 1

    with pytest.raises(NotAdmitted, match=r"IQ3_XXS: tensor blk\.3\.ffn_up\.weight: F16: weight 668 of 672 is"):
        admit("b12000", Written(NEWEST, flip), [NEWEST], asked=few)


def test_what_only_one_side_writes_is_named() -> None:
    narrow, earlier = [Call("width-336", "Q4_0", guided=False)], of_tag("b10300")
    with pytest.raises(NotAdmitted, match=r"it writes a file, we do not: output\.weight has rows of 336 weights"):
        admit("b12000", Written(NEWEST), [earlier], asked=lambda ftypes: narrow)
    with pytest.raises(NotAdmitted, match="it writes none, we do"):
        admit("b12000", Written(earlier), [NEWEST], asked=lambda ftypes: narrow)


def test_the_set_is_the_same_for_ever(tmp_path: Path) -> None:
    for name in ("nasty", "gemma3n", "qwen4exp-moe"):
        write(tmp_path, name)
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in tmp_path.iterdir()}
    assert found == {
        "gemma3n.gguf": "97b0b544d74e9dbd",
        "gemma3n.imatrix": "8d03268403c5c683",
        "nasty.gguf": "6aefacaecc7d89b0",
        "nasty.imatrix": "d47ae333d9c34294",
        "qwen4exp-moe.gguf": "a591b7075f5a3348",
        "qwen4exp-moe.imatrix": "68feccb4e23b0c84",
    }
    with gguf.read(tmp_path / "nasty.gguf") as file:
        assert len(file.tensors) == len(ALL["nasty"][1])
    asked = list(calls(list(NEWEST.ftypes)))
    sets = len(OPTIONS) - 1  # but none
    expected = len(SHAPES) * 2 * (len(NEWEST.ftypes) + sets * 3)
    page = Path(__file__).parents[2] / "docs" / "reference.md"
    assert f"These are {len(asked):,} files under the newest rules" in " ".join(page.read_text().split())
    assert len(asked) == len(set(asked)) == expected + 128 * (len(NEWEST.ftypes) + sets)


def test_what_the_library_does_not_load_is_left_out_and_told() -> None:
    class Old(Written):
        def answer(self, call: Call, base: Path, out: Path) -> bool:
            return call.model != "qwen3-moe" and call.model != "gemma3n" and super().answer(call, base, out)

    asked = [*ASKED, Call("qwen3moe-moe", "Q2_K", guided=True)]
    found, unknown, _ = admit("b12000", Old(NEWEST), candidates("b12000"), asked=lambda ftypes: asked)
    assert (unknown, found.files + found.refused) == (("gemma3n",), 4)

    class Nothing(Written):
        def answer(self, call: Call, base: Path, out: Path) -> bool:
            return False

    assert len(CORE) == 21  # the shapes that every tag loads, which are never left out
    with pytest.raises(NotAdmitted, match="1 of 1 files differ; the first is falcon, Q4_K_M, with an imatrix: it w"):
        admit("b12000", Nothing(NEWEST), [NEWEST], asked=few)


def test_data_at_which_an_old_library_stops_is_left_out_and_counted() -> None:
    class Old(Written):
        def answer(self, call: Call, base: Path, out: Path) -> bool:
            self.aborted = call.ftype == "IQ1_S"
            return not self.aborted and super().answer(call, base, out)

    asked = [Call("nasty", "IQ1_S", guided=True), Call("nasty", "Q4_K_M", guided=True)]
    found, _, stopped = admit("b8100", Old(of_tag("b8095")), [of_tag("b8095")], asked=lambda ftypes: asked)
    assert (found.files, found.refused, stopped) == (1, 0, 1)
    asked = [Call("tiny", "IQ1_S", guided=True)]
    with pytest.raises(NotAdmitted, match="the first is tiny, IQ1_S, with an imatrix: it writes none, we do"):
        admit("b8100", Old(of_tag("b8095")), [of_tag("b8095")], asked=lambda ftypes: asked)


@pytest.mark.parametrize("ftype", ["IQ1_S", "IQ2_XXS", "IQ2_XS"])
def test_an_embedding_without_importance_is_refused_where_the_search_needs_it(tmp_path: Path, ftype: str) -> None:
    """llama-quantize asks for none of an embedding, and then stops."""
    write(tmp_path, "kimi-linear-moe")
    base, guide = tmp_path / "kimi-linear-moe.gguf", tmp_path / "kimi-linear-moe.imatrix"
    with pytest.raises(UsageError, match=r": (output|token_embd)\.weight is to become IQ.*, which needs an importance"):
        quantize_file(base, tmp_path / "out", ftype, imatrix=guide, reference=NEWEST, pure=True)


def test_a_projector_takes_the_types_that_llama_quantize_gives_it(tmp_path: Path) -> None:
    """Recorded from libraries of b8508, b8660 and b11739."""
    write(tmp_path, "clip")
    base, out = tmp_path / "clip.gguf", tmp_path / "out.gguf"
    quantize_file(base, out, "Q3_K_L", reference=of_tag("b11739"), tag="b11739")
    with gguf.read(out) as file:
        types = {name.removeprefix("v.blk.4.").removesuffix(".weight"): i.type.name for name, i in file.tensors.items()}
    parts = "mm.0 attn_k attn_out attn_q attn_qkv attn_v ffn_down ffn_up v.patch_embd v.position_embd"
    assert " ".join(types[part] for part in parts.split()) == "Q3_K Q3_K Q3_K Q3_K Q5_K Q5_K Q5_1 Q3_K F32 F32"
    with pytest.raises(QuantmillError, match="asks for a model's heads, of which a projector has none: llama-quantize"):
        quantize_file(base, out, "Q2_K", reference=NEWEST)
    with pytest.raises(QuantmillError, match=r"v\.patch_embd\.weight has four dimensions"):
        quantize_file(base, out, "Q3_K_L", reference=of_tag("b8508"), tag="b8508")
    with pytest.raises(UsageError, match="not a model but a vision or audio projector"):
        quantize_file(base, out, "Q3_K_L", reference=of_tag("b9842"), tag="b9842")


def test_the_suite_has_every_architecture_in_small() -> None:
    assert len(SUITE) == 128
    assert {"deepseek4-moe", "hrm_text-dense", "qwen4exp-moe", "rnd1-moe"} <= SUITE.keys()
    for facts, tensors in SUITE.values():
        assert facts["general.architecture"] in {key.partition(".")[0] for key in facts}
        assert all(len(shape) > 1 and shape[1] <= 2 for _, shape, _ in tensors)
        assert any(shape[0] % 256 == 0 for _, shape, _ in tensors)
    with_option = {call.options for call in calls(list(NEWEST.ftypes)) if call.model == "dbrx-moe"}
    assert with_option == OPTIONS.keys()


def test_a_library_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no libllama\.so in it"):
        find(tmp_path)
    (tmp_path / "libllama.so").write_bytes(b"no library")
    library = Library(tmp_path)
    write(tmp_path, "width-336")
    with pytest.raises(QuantmillError, match=r"libllama\.so: it cannot be used: .*invalid ELF header|file too short"):
        library.answer(ASKED[0], tmp_path / "width-336.gguf", tmp_path / "out")
    library.close()
