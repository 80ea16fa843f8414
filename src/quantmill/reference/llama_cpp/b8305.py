"""llama.cpp b8305 to b8352, March 2026: types by category (19770), and searches that find nothing (19861).

The attention's fused matrices follow the rules of its values, whatever has an output matrix has one, and what needs an
importance is asked before the work, never for embeddings and output.
"""

from dataclasses import replace

from quantmill.reference.arithmetic import QuantArithmetic
from quantmill.reference.llama_cpp.b8121 import B8121

_FUSED = {"attn_qkv.weight": "attn_v", "attn_kv_b.weight": "attn_v"}
_SPARED = frozenset({"token_embd.weight", "per_layer_token_embd.weight", "output.weight"})

B8305 = replace(
    B8121,
    first=8305,
    last=8352,
    generation=8305,
    arithmetic=QuantArithmetic.B8229,
    call_weights={},
    ftypes={name: replace(ftype, needs_imatrix=False) for name, ftype in B8121.ftypes.items()},
    roles=_FUSED | {part: role for part, role in B8121.roles.items() if part not in _FUSED},
    mix={(role, ftype): rule for (role, ftype), rule in B8121.mix.items() if role != "attn_qkv"},
    is_attention_checked=False,
    tied_embeddings=B8121.embeddings,
    embeddings_by_option=B8121.embeddings,
    fallbacks=B8121.fallbacks | {"Q2_K": "Q4_0", "Q3_K": "Q4_0"},
    tied_architectures=frozenset(),
    needs_importance=dict.fromkeys(B8121.needs_importance, _SPARED),
    pre_tokenizers=(*B8121.pre_tokenizers, "jina-v5-nano", "kanana2"),
)
