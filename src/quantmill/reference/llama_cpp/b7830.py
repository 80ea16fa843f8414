"""llama.cpp b7830 to b7836, January 2026: patterns are read before the rules, against the ftype's own type."""

from dataclasses import replace

from quantmill.reference.llama_cpp.b7324 import B7324

B7830 = replace(
    B7324,
    first=7830,
    last=7836,
    generation=7830,
    patterns="before if other",
)
