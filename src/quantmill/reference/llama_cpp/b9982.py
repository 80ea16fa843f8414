"""llama.cpp b9982 to b9982, July 2026: the ftype Q2_0 (24448)."""

from dataclasses import replace

from quantmill.reference.ftypes import FTYPES
from quantmill.reference.llama_cpp.b9842 import B9842

B9982 = replace(
    B9842,
    first=9982,
    last=9982,
    generation=9982,
    ftypes=B9842.ftypes | {"Q2_0": FTYPES["Q2_0"]},
    mix=B9842.mix | {("token_embd", "Q2_0"): "Q4_K"},
    fallbacks=B9842.fallbacks | {"Q2_0": "Q4_0"},
)
