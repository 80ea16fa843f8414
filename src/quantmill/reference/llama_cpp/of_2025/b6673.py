"""llama.cpp b6673 to b6673, October 2025: IQ3_XXS begins each group on its grid (15928)."""

from dataclasses import replace

from quantmill.reference.arithmetic import QuantArithmetic
from quantmill.reference.llama_cpp.of_2025.b6301 import B6301

B6673 = replace(
    B6301,
    first=6673,
    last=6673,
    generation=6673,
    arithmetic=QuantArithmetic.B6673,
    pre_tokenizers=(*B6301.pre_tokenizers, "grok-2", "llada-moe"),
)
