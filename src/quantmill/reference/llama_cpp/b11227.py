"""llama.cpp b11227 to b11739, v0.5.0, September and October 2026: IQ1_M's cuts are made from running sums (28706).

GLM5-Next and Bailing-MoE3 have rules of their own.
"""

from dataclasses import replace

from quantmill.reference.arithmetic import QuantArithmetic
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
    arithmetic=QuantArithmetic.B11108,
    mix=B10715.mix | {("*", "MXFP4_MOE"): "bailingmoe3&!ffn=Q8_0 stacked=MXFP4 Q8_0"},
    kept_parts={"glm5-next": tuple(_GLM5_NEXT.split())},
    least={"glm5-next": (("attn_q_a", "attn_q_b", "nextn.eh_proj"), "Q8_0")},
)
