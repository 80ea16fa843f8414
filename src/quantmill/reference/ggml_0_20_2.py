"""The arithmetic of ggml 0.20.2, tested against the wheel libggml-python; offered by no tag.

Which tags share its mix and header is not established, so that all else is its neighbour's.
"""

from dataclasses import replace

from quantmill.reference.arithmetic import QuantArithmetic
from quantmill.reference.llama_cpp.b4867 import B4867

GGML_0_20_2 = replace(B4867, first=0, last=0, generation=2, arithmetic=QuantArithmetic.B8356, call_weights={})
