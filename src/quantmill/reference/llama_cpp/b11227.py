"""llama.cpp b11227 to b11739, v0.5.0, September and October 2026: IQ1_M's cuts are made from running sums (28706).

GLM5-Next and Bailing-MoE3 have rules of their own. The converter is b11312's, where the post-processor wins over
tokenizer_config.json, and so are the names of pre-tokenizers: b11227 does not know glm5.
"""

from dataclasses import replace

from quantmill.gguf.types import ValueType
from quantmill.reference.arithmetic import QuantArithmetic
from quantmill.reference.known_vocabularies import known_vocabularies
from quantmill.reference.llama_cpp.b10715 import B10715

_GLM5_NEXT = """
hc_ indexer.attn_q_b indexer.attn_k indexer.proj indexer_compressor_gate indexer_compressor_ape ssm_f_a.weight
ssm_f_b.weight ssm_g_a.weight ssm_g_b.weight ssm_beta.weight attn_kv_a_mqa.weight attn_k_b.weight attn_v_b.weight
"""

B11227 = replace(
    B10715,
    first=11227,
    last=11739,
    generation=11227,
    names=("v0.5.0",),
    pre_tokenizers=(*B10715.pre_tokenizers, "glm5", "hy_v4", "spark2_5", "ufakzeka"),
    arithmetic=QuantArithmetic.B11108,
    mix=B10715.mix | {("*", "MXFP4_MOE"): "bailingmoe3&!ffn=Q8_0 stacked=MXFP4 Q8_0"},
    kept_parts={"glm5-next": tuple(_GLM5_NEXT.split())},
    converter=replace(
        B10715.converter,
        tag="b11312",
        shown=(11312, 11312),
        vocabularies=known_vocabularies("b11312"),
        sampling=B10715.converter.sampling
        | {"penalty_repeat": (ValueType.FLOAT32, ("penalty_repeat", "repetition_penalty"))},
        tokens=replace(B10715.converter.tokens, is_stated_first=False, bytes_add_none=True),
    ),
    least={"glm5-next": (("attn_q_a", "attn_q_b", "nextn.eh_proj"), "Q8_0")},
)
