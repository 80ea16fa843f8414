"""Whether stored weights are finite: the values themselves, or the scales of quantized blocks.

llama-quantize refuses a base and a result with NaN or infinity in them (ggml_validate_row_data); so do we.
"""

from typing import TYPE_CHECKING

import numpy as np

from quantmill.quant.types import Type

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EXPONENT = np.uint16(0x7C00)  # all ones in an fp16's exponent: infinity or NaN

# Byte offsets of the fp16 scales in a block; ggml-common.h.
_SCALES: dict[str, tuple[int, ...]] = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ2_XXS": (0,),
    "IQ2_XS": (0,),
    "IQ2_S": (0,),
    "IQ3_XXS": (0,),
    "IQ3_S": (0,),
    "IQ1_S": (0,),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
}


def first_not_finite(type_: Type, data: "NDArray[np.uint8]") -> int | None:
    """The number of the first block (or value) of `data` that is not finite, None when all are.

    Types without a floating-point scale are always finite. `data` is contiguous and holds whole blocks.
    """
    match type_.name:
        case "F32":
            bad = ~np.isfinite(data.view(np.float32))
        case "F64":
            bad = ~np.isfinite(data.view(np.float64))
        case "F16":
            bad = (data.view(np.uint16) & _EXPONENT) == _EXPONENT
        case "BF16":
            bad = (data.view(np.uint16) & np.uint16(0x7F80)) == np.uint16(0x7F80)
        case "MXFP4":  # a power of two in a byte, of which the last stands for NaN
            bad = data.reshape(-1, type_.size)[:, 0] == 0xFF
        case "IQ1_M":  # its scale is spread over the top four bits of four words
            words = data.reshape(-1, type_.size)[:, 48:56].copy().view(np.uint16)
            scale = (
                (words[:, 0] >> 12) | (words[:, 1] >> 8 & 0xF0) | (words[:, 2] >> 4 & 0xF00) | (words[:, 3] & 0xF000)
            )
            bad = (scale & _EXPONENT) == _EXPONENT
        case name if name in _SCALES:
            blocks = data.reshape(-1, type_.size)
            # The high byte of a little-endian fp16 holds its exponent.
            bad = np.zeros(len(blocks), bool)
            for offset in _SCALES[name]:
                bad |= (blocks[:, offset + 1] & 0x7C) == 0x7C
        case _:
            return None
    return int(bad.argmax()) if bad.any() else None
