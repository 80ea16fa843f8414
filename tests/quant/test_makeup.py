"""What the weights of a file really are, where a model's rows are not whole blocks of the ftype's types."""

import pytest

from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.types import TYPES
from quantmill.quant.findings import findings
from quantmill.quant.makeup import Makeup, makeup
from quantmill.quant.mix import Mix, plan_types
from quantmill.reference.hparams import Hparams
from quantmill.reference.llama_cpp.b4867 import B4867

BF16 = TYPES["BF16"]


def small_gemma(width: int) -> tuple[Hparams, list[TensorEntry]]:
    """Gemma 3 270M, whose width is 640: two thirds of its weights are the embedding, which is the output too."""
    layer = {"attn_q": (width, 1024), "attn_k": (width, 256), "attn_v": (width, 256), "attn_output": (1024, width)}
    layer |= {"ffn_gate": (width, 2048), "ffn_up": (width, 2048), "ffn_down": (2048, width)}
    tensors = [TensorEntry("token_embd.weight", (width, 262_144), BF16)]
    for i in range(18):
        tensors += [TensorEntry(f"blk.{i}.{name}.weight", shape, BF16) for name, shape in layer.items()]
    facts = {"general.architecture": "gemma3", "gemma3.block_count": 18, "gemma3.attention.head_count": 4}
    return Hparams.from_metadata(facts | {"gemma3.attention.head_count_kv": 1}), tensors


def mixed(name: str, width: int = 640) -> tuple[Mix, Makeup]:
    hparams, tensors = small_gemma(width)
    mix = plan_types(B4867, B4867.ftype(name), hparams, tensors, True)
    return mix, makeup(tensors, B4867.ftype(name), mix.types, mix.fallbacks)


@pytest.mark.parametrize(("name", "others", "bits"), [("IQ4_XS", 0.87, 7.0), ("IQ2_M", 0.87, 6.8), ("Q8_0", 0, 8.5)])
def test_a_narrow_model_says_what_its_weights_are(name: str, others: float, bits: float) -> None:
    _, found = mixed(name)
    assert found.others == pytest.approx(others, abs=0.01)
    assert found.bits_per_weight == pytest.approx(bits, abs=0.15)


def test_the_rule_for_the_output_is_a_fallback_where_blocks_do_not_fit() -> None:
    mix, _ = mixed("IQ2_M")
    (output,) = (fallback for fallback in mix.fallbacks if fallback.tensor == "token_embd.weight")
    assert (output.wanted.name, output.type.name) == ("Q5_K", "Q8_0")
    _, tensors = small_gemma(640)
    params = {"IQ2_M": {"ftype": "IQ2_M", "imatrix_name": "imatrix.dat"}}
    (said,) = findings(B4867, tensors, {"IQ2_M": mix}, None, True, params)
    assert "(86.8 % of the weights)" in str(said)


def test_an_embedding_of_another_type_is_told_where_blocks_fit() -> None:
    mix, found = mixed("IQ2_M", 768)
    assert mix.fallbacks == []
    assert mix.types["token_embd.weight"].name == "Q5_K"
    assert found.others == pytest.approx(0.6, abs=0.05)


def test_files_of_the_same_types_have_the_same_weights() -> None:
    assert mixed("Q4_K_L")[1].types == mixed("Q4_K_M")[1].types
    assert mixed("Q4_K_L", 768)[1].types != mixed("Q4_K_M", 768)[1].types
