"""llama.cpp b10068 to b10133, July 2026: --pure heeds patterns and fallbacks.

DeepSeek-V4's routing table stays as it is.
"""

from dataclasses import replace

from quantmill.reference.llama_cpp.b9982 import B9982

B10068 = replace(
    B9982,
    first=10068,
    last=10133,
    generation=10068,
    kept=(*B9982.kept, "ffn_gate_tid2eid.weight"),
    pure_fits=True,
)
