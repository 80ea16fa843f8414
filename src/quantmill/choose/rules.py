"""The rules of thumb: which of the files that fit is best, where nothing was measured.

Sources: the advice that release pages of GGUF files have given since 2024, and llama.cpp's own notes on which backends
run I-quants well. Each is a table or one line; measured numbers take their place (advise.py).
"""

import re

from quantmill.choose.machine import Machine

# From best to worst, by what releases with measured divergence have shown again and again.
_QUALITY = """
F32 BF16 F16 Q8_0 Q6_K_L Q6_K Q5_K_L Q5_K_M Q5_K_S Q5_1 Q5_0 Q4_K_L Q4_K_M Q4_K_S IQ4_XS IQ4_NL Q4_1 Q4_0
Q3_K_XL Q3_K_L IQ3_M IQ3_S Q3_K_M IQ3_XS Q3_K_S IQ3_XXS Q2_K_L Q2_K IQ2_M Q2_K_S IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S
TQ2_0 TQ1_0
"""
QUALITY = _QUALITY.split()
# The mean KLD of what a hurry still excuses: more than llama.cpp's own table has for Q4_0 (0.07) or Q3_K_M (0.10).
MOST_KLD = 0.11
WIDE = ("F32", "BF16", "F16")
# Four bits on a processor, fastest first: Q4_0 is repacked for every vector unit, IQ4_NL for ARM's, and of the others
# those that read fewer bytes come first.
PROCESSOR = ["Q4_0", "Q4_K_S", "Q4_K_M", "Q4_1", "Q4_K_L", "IQ4_XS", "IQ4_NL"]
ARM = ["Q4_0", "IQ4_NL", "Q4_K_S", "Q4_K_M", "Q4_1", "Q4_K_L", "IQ4_XS"]
# Four bits between cards and a processor: few bytes, and no kind that a processor is slow with.
MIXED = ["Q4_K_S", "Q4_K_M", "Q4_0", "Q4_1", "Q4_K_L", "IQ4_XS", "IQ4_NL"]


def is_i(ftype: str) -> bool:
    """Whether this is an I-quant."""
    return ftype.startswith("IQ")


def bits(ftype: str) -> int:
    """The digit in an ftype's name; 16 for files that are not quantized."""
    if ftype in WIDE:
        return 16
    match = re.search(r"Q(\d)", ftype)
    return int(match[1]) if match else 0


def rank(ftype: str) -> int:
    """The place in QUALITY; what is not there comes last."""
    return QUALITY.index(ftype) if ftype in QUALITY else len(QUALITY)


def usable(ftype: str, machine: Machine, quality: bool, on_cards: bool) -> bool:
    """Whether a file is worth a thought: no I-quant with Vulkan, and no 16-bit file but for quality and wholly on the
    cards. Elsewhere that halves the speed of Q8_0 for a difference that nobody can measure."""
    if ftype in WIDE:
        return quality and on_cards
    return not (is_i(ftype) and machine.backend == "vulkan")


def runs_well(type_: str, backend: str) -> bool:
    """Whether tensors of that type run well: no I-quants with Vulkan, and below 4 bits only with CUDA and ROCm."""
    return not is_i(type_) or backend in ("cuda", "rocm") or (backend != "vulkan" and bits(type_) >= 4)


def by_quality(ftype: str, machine: Machine, quality: bool) -> tuple[int, ...]:
    """Sorts the best first. From 4 bits on the rank decides. Below, the bits do. Then with CUDA and ROCm an I-quant
    comes before a K-quant. Apple's chips and processors are slower with I-quants: there a K-quant does when speed is
    the goal. Then comes the rank."""
    if bits(ftype) >= 4:
        return (0, rank(ftype))
    i_first = machine.backend in ("cuda", "rocm")
    later = is_i(ftype) != i_first if i_first or not quality else False
    return (1, -bits(ftype), int(later), rank(ftype))


def by_speed(ftype: str, order: list[str]) -> tuple[int, ...]:
    """Sorts what a processor has a part in: every token reads all weights, so four bits, the fewest before quality
    falls fast, come first, in the given order; then fewer bits, K-quants first, then more."""
    if ftype in order:
        return (0, order.index(ftype))
    if bits(ftype) < 4:
        return (1, -bits(ftype), int(is_i(ftype)), rank(ftype))
    return (2, bits(ftype), rank(ftype))


def processor_order(machine: Machine) -> list[str]:
    """The four-bit files in the order of their speed on this processor."""
    return ARM if machine.backend == "arm" else PROCESSOR
