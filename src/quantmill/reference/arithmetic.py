"""How ggml's quantizers compute, by the first build of llama.cpp that does so.

Source: ggml-quants.c of these builds; kernels/common/changes.h says what each brought.
"""

from enum import IntEnum


class QuantArithmetic(IntEnum):
    """What the kernels are called with. The numbers decide which tensors files share, so they never move."""

    B4234 = 1
    B6301 = 2
    B6673 = 3
    B8229 = 4
    B8356 = 5
    B11108 = 6
