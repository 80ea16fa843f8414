"""llama.cpp b8356 to b8508, March 2026: IQ4_NL and IQ4_XS write zeros where importance is zero (20460)."""

from dataclasses import replace

from quantmill.reference.arithmetic import QuantArithmetic
from quantmill.reference.llama_cpp.b8305 import B8305

B8356 = replace(
    B8305,
    first=8356,
    last=8508,
    generation=8356,
    arithmetic=QuantArithmetic.B8356,
)
