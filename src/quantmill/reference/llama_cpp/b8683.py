"""llama.cpp b8683 to b8683, April 2026: the ftype Q1_0 (21273)."""

from dataclasses import replace

from quantmill.reference.ftypes import FTYPES
from quantmill.reference.llama_cpp.b8560 import B8560

B8683 = replace(
    B8560,
    first=8683,
    last=8683,
    generation=8683,
    ftypes=B8560.ftypes | {"Q1_0": FTYPES["Q1_0"]},
    tokenizers=(*B8560.tokenizers, "gemma4"),
    pre_tokenizers=(*B8560.pre_tokenizers, "gemma4"),
)
