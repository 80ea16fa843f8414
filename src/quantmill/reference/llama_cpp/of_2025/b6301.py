"""llama.cpp b6301 to b6431, August and September 2025: the guards against groups of zero importance (15379).

LFM2 may have an output matrix of its own.
"""

from dataclasses import replace

from quantmill.reference.arithmetic import QuantArithmetic
from quantmill.reference.llama_cpp.of_2025.b6122 import B6122

B6301 = replace(
    B6122,
    first=6301,
    last=6431,
    generation=6301,
    arithmetic=QuantArithmetic.B6301,
    tied_architectures=B6122.tied_architectures - {"lfm2"},
)
