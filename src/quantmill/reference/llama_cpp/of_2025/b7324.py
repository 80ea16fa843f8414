"""llama.cpp b7324 to b7769, December 2025 and January 2026: the attention's value matrices are no longer counted.

Until then llama-quantize stopped where they were not as many as the metadata says.
"""

from dataclasses import replace

from quantmill.reference.llama_cpp.of_2025.b6845 import B6845

B7324 = replace(
    B6845,
    first=7324,
    last=7769,
    generation=7324,
    is_attention_checked=False,
)
